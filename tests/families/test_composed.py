"""Mixtures, products and laws of arrays against their definitions."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from reroot import InvalidInput, Report, run
from reroot.families import (
    Dyck,
    FromLogits,
    HiddenPath,
    LowRank,
    Mixture,
    NoisyParity,
    Product,
    parse,
)
from reroot.families.low_rank import random_chain, two_states
from reroot.generators import Request, Tabular
from reroot.generators.tabular import IntegerGenerator
from reroot.learners import get_learner
from reroot.testing import check_generator
from reroot.types import Output

Tokens = tuple[int, ...]
SAME = 1e-12


def law_of(g: IntegerGenerator) -> dict[Tokens, float]:
    """Output → probability, by its next-token laws alone."""

    def law(u: Tokens) -> np.ndarray:
        return np.exp(g.log_laws((), [u])[0])

    outputs = Tabular.from_function(law, g.vocab_size, g.horizon).enumerate_outputs()
    return {y: math.exp(logp) for y, logp in outputs}


def paths() -> list[HiddenPath]:
    return [HiddenPath(3, 4, p, path) for p, path in ((0.6, (0, 1, 2, 0)), (0.8, (0, 1, 1, 2)))]


def entropy(law: dict[Tokens, float]) -> float:
    return -math.fsum(p * math.log(p) for p in law.values())


# ---- mixtures ----------------------------------------------------------------------------------


def test_a_mixture_is_the_weighted_sum_and_its_posterior_is_by_bayes() -> None:
    first, second = paths()
    g, laws = Mixture([first, second], [0.3, 0.7]), [law_of(first), law_of(second)]
    found = law_of(g)
    assert len(found) == 81
    for y, p in found.items():
        assert p == pytest.approx(0.3 * laws[0][y] + 0.7 * laws[1][y], rel=1e-12)
    for t in range(5):
        for u in itertools.product(range(3), repeat=t):
            mass = [math.fsum(p for y, p in law.items() if y[:t] == u) for law in laws]
            joint = np.array([0.3, 0.7]) * mass
            np.testing.assert_allclose(g.posterior(u), joint / joint.sum(), rtol=1e-11)


def test_a_mixture_of_chains_is_the_chain_of_both() -> None:
    first, second = two_states(4), random_chain(4, 2, 3, seed=1)
    S, R = first.states, second.states
    kernels = np.zeros((4, 2, S + R, S + R))
    kernels[:, :, :S, :S], kernels[:, :, S:, S:] = first.kernels, second.kernels
    whole = LowRank(np.concatenate([0.25 * first.start, 0.75 * second.start]), kernels)
    found, known = law_of(Mixture([first, second], [0.25, 0.75])), law_of(whole)
    assert max(abs(found[y] - known[y]) for y in known) <= SAME


def test_a_mixture_is_right_where_a_member_is() -> None:
    g = Mixture(paths())
    problem = g.problem()
    assert problem.verifier is not None
    assert problem.demonstration == (0, 1, 2, 0)
    for y in itertools.product(range(3), repeat=4):
        output = Output(y, g.decode(y), True)
        right = y in ((0, 1, 2, 0), (0, 1, 1, 2))
        assert (problem.reward(output), problem.verifier(output)) == (float(right), right)
    assert problem.verifier(Output((0, 1, 1), "", False))
    assert not problem.verifier(Output((0, 2), "", False))


def test_behind_what_no_member_emits_the_weights_stay() -> None:
    bits = [FromLogits([[0.0, -np.inf], np.log([q, 1 - q])]) for q in (0.2, 0.9)]
    g = Mixture(bits, [0.5, 0.5])
    np.testing.assert_allclose(np.exp(g.log_laws((), [(1,)])[0]), [0.55, 0.45], rtol=1e-12)
    assert g.posterior((1,)).tolist() == pytest.approx([0.5, 0.5])


# ---- products ----------------------------------------------------------------------------------


def test_a_product_is_the_product_and_entropies_add_up() -> None:
    first, second = HiddenPath(3, 3, 0.6, seed=1), NoisyParity(3, 0.1, seed=2)
    g, a, b = Product([first, second]), law_of(first), law_of(second)
    found = law_of(g)
    assert len(found) == 27 * 8
    for y, p in found.items():
        mine, other = g.split(y)
        assert g.join([mine, other]) == y
        assert p == pytest.approx(a[mine] * b[other], rel=1e-12)
    assert entropy(found) == pytest.approx(entropy(a) + entropy(b), rel=1e-12)


def test_a_product_of_chains_is_the_chain_of_pairs_and_ranks_multiply() -> None:
    first, second = two_states(3), random_chain(3, 2, 2, seed=3)
    kernels = np.stack([
        np.stack([np.kron(k[a], j[b]) for a in range(2) for b in range(2)])
        for k, j in zip(first.kernels, second.kernels, strict=True)
    ])  # fmt: skip
    whole = LowRank(np.kron(first.start, second.start), kernels)
    found, known = law_of(Product([first, second])), law_of(whole)
    assert max(abs(found[y] - known[y]) for y in known) <= SAME
    assert whole.rank(1) == first.rank(1) * second.rank(1) == 4


def test_reaches_of_a_product_multiply_and_right_is_right_for_all() -> None:
    members = [HiddenPath(2, 3, 0.6, seed=1), HiddenPath(3, 3, 0.5, seed=2)]
    g = Product([*members, HiddenPath(2, 3, 0.9, seed=3)])
    problem = g.problem()
    shown = problem.demonstration
    assert isinstance(shown, tuple)
    assert problem.unique
    (reply,) = g.answer([Request((), length=3, report=Report.LOGPROB, forced=shown)])
    assert reply.total_logprobs()[0] == pytest.approx(3 * math.log(0.6 * 0.5 * 0.9), rel=1e-12)
    assert problem.reward(Output(shown, "", True)) == 1.0
    assert problem.verifier is not None
    for token in range(g.vocab_size):
        last = (*shown[:-1], token)
        assert problem.reward(Output(last, "", True)) == float(last == shown)
        assert problem.verifier(Output(last[2:], "", False)) is (last[2:] == shown[:1])


# ---- arrays ------------------------------------------------------------------------------------


def test_arrays_are_the_logits_of_the_last_tokens() -> None:
    rng = np.random.default_rng(0)
    logits = [rng.normal(size=(3,) * n) for n in (1, 2, 1, 4, 2)]
    g = FromLogits(logits)
    for y in itertools.product(range(3), repeat=5):
        total = 0.0
        for t, array in enumerate(logits):
            j = array.ndim - 1
            row = array[y[t - j : t]] if j else array
            known = row - np.log(np.exp(row).sum())
            total += known[y[t]]
            if y[t] == 0:
                np.testing.assert_allclose(g.log_laws((), [y[:t]])[0], known, atol=1e-13)
        assert g.log_probability(y) == pytest.approx(total, rel=1e-12)


def test_a_whole_tree_of_logits_is_the_tree() -> None:
    tree = Tabular.random(3, 3, seed=2)
    levels = [
        np.stack([tree.log_laws((), [u])[0] for u in itertools.product(range(3), repeat=t)])
        for t in range(3)
    ]
    g = FromLogits([level.reshape((3,) * (t + 1)) + 7.0 for t, level in enumerate(levels)])
    found, known = law_of(g), law_of(tree)
    assert max(abs(found[y] - known[y]) for y in known) <= SAME


def test_files_of_arrays_with_rewards(tmp_path: Any) -> None:
    rewards = np.arange(9.0).reshape(3, 3) / 8
    file = tmp_path / "laws.npz"
    np.savez(file, np.zeros(3), np.eye(3), rewards=rewards)
    spec = parse(f"from_logits:file={file}")
    g = spec(seed=5)
    assert (spec.horizon, g.vocab_size, str(parse(str(spec)))) == (2, 3, str(spec))
    assert g.problem().reward(Output((2, 1), "", True)) == 7 / 8
    assert isinstance(g, FromLogits)
    learner = get_learner("best_of_n:n=200")
    result = run(learner, [g.problem()], g, grants="root/sample+reward")
    assert result.attempts[0].reward == 1.0
    with pytest.raises(InvalidInput, match="has H = 2 arrays, got H = 3"):
        spec(horizon=3)
    for text, why in ((str(tmp_path / "no.npz"), "no .npz file"), (__file__, "no .npz file")):
        with pytest.raises(InvalidInput, match=why):
            parse(f"from_logits:file={text}")


# ---- specs and refusals ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec",
    [
        "mixture:first='hidden_path:K=4,p=0.4',second='decoy_path:K=4,k=1,p0=0.4,p1=0.3',H=3",
        "product:first='low_rank:K=2',second='noisy_parity:alpha=0.1',H=3",
        "mixture:first='product:first=''hidden_path:K=2,p=0.6'',second=dyck',"
        "second='hidden_path:K=8,p=0.4',weight=0.25,H=4",
    ],
)
def test_specs_read_back_and_seeds_tell_apart(spec: str) -> None:
    read = parse(spec)
    assert parse(str(read)) == read
    first, again, other = read(1), read(1), read(2)
    assert first.describe() == again.describe() != other.describe()
    assert first.problem().id != other.problem().id


def test_members_of_one_spec_have_secrets_of_their_own() -> None:
    spec = "mixture:first='hidden_path:K=8,p=0.4',second='hidden_path:K=8,p=0.4',H=8"
    g = parse(spec)(3)
    assert isinstance(g, Mixture)
    assert g.members[0].describe() != g.members[1].describe()


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Mixture(paths()[:1]), "at least 2 members, got 1"),
        (lambda: Mixture([*paths(), Tabular([[0.5, 0.5]])]), "are exact families, got Tabular"),
        (lambda: Mixture([HiddenPath(3, 4, 0.5), HiddenPath(3, 5, 0.5)]), "one K, one H"),
        (lambda: Mixture(paths(), [0.5, 0.4]), "2 numbers above 0 that sum to 1"),
        (lambda: Mixture(paths(), [1.0, 0.0]), "above 0"),
        (lambda: Mixture(paths(), [1.0]), "2 numbers"),
        (lambda: Mixture(paths()).posterior((0,) * 5), "at most H = 4"),
        (lambda: Product([HiddenPath(3, 4, 0.5), Dyck(6)]), r"one H and no end tokens, got H in \[4"),
        (lambda: Product([HiddenPath(2000, 2, 0.5)] * 2), "K = 4,000,000; at most"),
        (lambda: parse("mixture:first=dyck,second=dyck,weight=1,H=4")(), "weight must lie in"),
        (lambda: parse("mixture:first=dyck,second=dyk,H=4")(), "Did you mean 'dyck'"),
        (lambda: parse("product:first=dyck,H=4"), "needs second"),
        (lambda: FromLogits([]), "an array for each position"),
        (lambda: FromLogits([[[0.0, 0.0]]]), r"must have shape \(2,\)·\(j \+ 1\) with j <= 0"),
        (lambda: FromLogits([[0.0, 0.0], [0.0, 0.0, 0.0]]), "position 1 must have shape"),
        (lambda: FromLogits([[0.0, np.nan]]), "has nan"),
        (lambda: FromLogits([[0.0, np.inf]]), r"below \+inf"),
        (lambda: FromLogits([[-np.inf, -np.inf]]), "for some token of each law"),
        (lambda: FromLogits([["a", "b"]]), "array of numbers"),
        (lambda: FromLogits([[0.0, 0.0]], [1.0]), "rewards must be finite and of shape"),
        (lambda: FromLogits([[0.0]]), "vocab_size must be an integer in 2"),
    ],
)  # fmt: skip
def test_refusals(make: Any, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        make()


@pytest.mark.slow(2)
def test_it_conforms_nested() -> None:
    def make() -> Mixture:
        pair = Product([HiddenPath(2, 4, 0.6, seed=1), HiddenPath(2, 4, 0.7, seed=2)])
        return Mixture([pair, HiddenPath(4, 4, 0.5)], [0.2, 0.8])

    check_generator(make, draws=1000)
