"""Sharpening on exact policies: laws of best-of-n, (ε, δ) of what is returned, fixed against adaptive N."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from reroot import AccessDenied, InvalidInput, run
from reroot.families import Planted
from reroot.generators import LinearSoftmax
from reroot.training import sharpening


def prompts_of(m: int, K: int, seed: int = 0, concentration: float = 0.5) -> LinearSoftmax:
    """m prompts with one token of K to answer, Dirichlet laws."""
    laws = np.random.default_rng(seed).dirichlet(np.full(K, concentration), size=m)
    logs = np.log(np.maximum(laws, 1e-9))
    return LinearSoftmax(np.arange(m * K).reshape(m, 1, K), None, None, logs.reshape(-1, 1))


def laws(policy: LinearSoftmax) -> np.ndarray:
    return np.concatenate([policy.answer_laws(x, (0,)) for x in range(policy.contexts)])


def play(learner, policy: LinearSoftmax, seed: int = 0):
    problem = Planted.problem(Planted(
        np.zeros((policy.contexts, policy.answer_length), int),
        np.zeros((policy.contexts, policy.answer_length, policy.vocab_size), int),
    ))  # fmt: skip
    (one,) = run(learner, [problem], policy, grants=str(learner.requires), seed=seed).attempts
    return one


def test_the_law_of_best_of_n_by_enumeration():
    p, n = np.array([0.2, 0.5, 0.2, 0.1]), 3
    known = np.zeros(4)
    for draws in itertools.product(range(4), repeat=n):
        best = max(p[y] for y in draws)
        known[next(y for y in draws if p[y] == best)] += math.prod(p[y] for y in draws)
    assert np.allclose(sharpening.best_of_n_law(p, n), known, atol=1e-12)
    assert sharpening.best_of_n_law(p, 1) == pytest.approx(p)


def test_fixed_and_adaptive_draws_on_the_staircase_of_modes():
    # p* = 2^-j with probability 2^-j, the last of 7 doubled; δ = 0.1
    p = 2.0 ** -np.arange(1, 8)
    mass = np.append(p[:-1], p[-2])
    fixed, capped = [], []
    for e in (1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64):
        fixed.append(sharpening.fixed_draws(e, 0.1))
        most = math.ceil(math.log(20) / e)
        capped.append(mass @ [sharpening.adaptive_draws(q, 0.1, most) for q in p])
    assert fixed == [9, 18, 36, 73, 147]
    assert np.allclose(capped, [9.0, 12.1, 15.1, 18.2, 21.2], atol=0.08)
    assert mass @ [sharpening.adaptive_draws(q, 0.1) for q in p] == pytest.approx(24.3, abs=0.08)


def test_the_adaptive_learner_takes_its_expected_draws_and_finds_the_modes():
    # a mode of 1/4 among 60 outputs of equal rest; mean of 300 prompts at 5 standard errors
    K = 64
    logs = np.full((1, 1, K), math.log(0.75 / (K - 1)))
    logs[0, 0, 7] = math.log(0.25)
    policy = LinearSoftmax(np.arange(K).reshape(1, 1, K), None, None, logs.reshape(-1, 1))
    one = play(sharpening.sft(policy=policy, prompts=300, delta=0.1), policy)
    known = sharpening.adaptive_draws(0.25, 0.1)
    assert one.cost.rollouts == one.metadata["draws"]
    assert abs(one.metadata["draws"] / 300 - known) < 5 * math.sqrt(0.75**12 * 2 * 16 / 300)
    found = math.exp(policy.answer_laws(0, (0,))[0, 7])
    assert found >= 1 - 0.05 - 3 * math.sqrt(0.05 / 300)  # miss at most δ/2


@pytest.mark.slow(2)
def test_sft_sharpens_as_the_theorem_states_and_fewer_draws_do_not():
    base = prompts_of(16, 8)
    start = laws(base)
    cover = float(np.mean(np.exp(-start.max(axis=1))))
    epsilon = delta = 0.1
    n_draws = math.ceil(cover * math.log(2 / delta) / epsilon)
    one = play(sharpening.sft(policy=base, prompts=1200, draws=n_draws), base)
    assert one.cost.rollouts + one.cost.queries == 1200 * n_draws
    assert sharpening.missed(start, laws(base), delta) <= epsilon
    few = prompts_of(16, 8)
    play(sharpening.sft(policy=few, prompts=1200, draws=2), few)
    assert sharpening.missed(start, laws(few), delta) > epsilon
    exact = np.array([sharpening.best_of_n_law(np.exp(p), 2) for p in start])
    assert np.abs(np.exp(laws(few)) - exact).max() < 5 * math.sqrt(0.25 / 40)


def test_dpo_is_exactly_the_power_law_once_differences_span():
    # 12 independent bits: |Y| = 4096, p* = 0.002
    rng = np.random.default_rng(3)
    gap = rng.uniform(0.3, 1.0, size=12)
    weights = np.stack([gap, 0 * gap], axis=1).reshape(-1, 1)
    policy = LinearSoftmax(np.arange(24).reshape(1, 12, 2), None, None, weights)
    best = float(policy.answer_laws(0, (0,) * 12)[:, 0].sum())
    assert math.exp(best) < 0.01
    beta, delta = gap.min() / math.log(4096 / 0.2), 0.2
    one = play(sharpening.dpo(policy=policy, pairs=24, beta=beta), policy)
    assert one.metadata["rank"] == 12
    assert one.metadata["error"] < 1e-9
    logs = policy.answer_laws(0, (0,) * 12)
    assert np.allclose(logs[:, 0] - logs[:, 1], gap * (1 + 1 / beta), atol=1e-8)
    assert math.exp(logs[:, 0].sum()) >= 1 - delta
    assert one.cost.rollouts == 48


@pytest.mark.parametrize(("optimism", "pairs"), [(0.0, 60), (0.01, 30)])
def test_xpo_sharpens_and_returns_where_it_was(optimism: float, pairs: int):
    policy = prompts_of(3, 4, seed=2)
    start = laws(policy)
    sorted_ = np.sort(start, axis=1)
    beta = float((sorted_[:, -1] - sorted_[:, -2]).min()) / math.log(4 / 0.1)
    one = play(sharpening.xpo(policy=policy, pairs=pairs, beta=beta, optimism=optimism), policy)
    assert sharpening.missed(start, laws(policy), 0.1) == 0.0
    assert one.contract.startswith("visited/logprob")
    if not optimism:
        assert one.metadata["error"] < 1e-6


def test_contracts_and_errors():
    many, single = prompts_of(3, 4), prompts_of(1, 4)
    for learner, needs in (
        (sharpening.sft(policy=many, prompts=2, draws=3), "visited/logprob"),
        (sharpening.sft(policy=single, prompts=2, draws=3), "root/logprob"),
        (sharpening.dpo(policy=single, pairs=2, beta=1.0), "root/logprob"),
        (sharpening.xpo(policy=many, pairs=2, beta=1.0), "visited/logprob"),
    ):
        assert str(learner.requires) == needs
        assert play(learner, learner.params["policy"]).error is None
    with pytest.raises(AccessDenied):
        run(
            sharpening.sft(policy=many, prompts=2, draws=3),
            [Planted.table([[0]] * 3, 4).problem()], many, grants="root/logprob",
        )  # fmt: skip
    with pytest.raises(InvalidInput, match="give draws or delta"):
        sharpening.sft(policy=many, prompts=2)
    with pytest.raises(InvalidInput, match="beta must lie in"):
        sharpening.dpo(policy=many, pairs=2, beta=0.0)
    with pytest.raises(InvalidInput, match="policy must be"):
        sharpening.xpo(policy=3, pairs=2, beta=1.0)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="needs a table"):
        Planted.shared([[0, 1]], 2).fit([(0, 1)])
    remembers = LinearSoftmax(np.zeros((1, 2, 2, 2), int))
    with pytest.raises(InvalidInput, match="token before"):
        remembers.difference((0, 1), (1, 1))
    with pytest.raises(InvalidInput, match="delta must lie"):
        sharpening.missed([[0.0]], [[0.0]], 1.0)
