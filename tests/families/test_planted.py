"""Linear softmax policies, planted answers and the staircase against their definitions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from reroot import InvalidInput
from reroot.diagnosis import (
    explored,
    likelihood_quantile,
    log_likelihood_quantile,
    token_likelihood_quantile,
)
from reroot.families import Planted, Staircase, catalogue, parse
from reroot.generators import LinearSoftmax
from reroot.testing import check_generator
from reroot.types import Output


def random_policy(seed: int = 0) -> Planted:
    rng = np.random.default_rng(seed)
    slots = rng.integers(12, size=(5, 2, 3, 3))
    return Planted(
        rng.integers(3, size=(5, 2)), slots, rng.normal(size=(5, 2)), rng.dirichlet(np.ones(5)),
        rng.normal(size=(int(slots.max()) + 1, 2)),
    )  # fmt: skip


def test_laws_are_the_softmax_of_features_by_definition():
    g = random_policy()
    w, slots, v = g.weights, g._slots, g._vectors
    for x, y in itertools.product(range(5), itertools.product(range(3), repeat=2)):
        logits = [w[slots[x, 0, 0]] @ v[x], w[slots[x, 1, y[0]]] @ v[x]]
        known = [row - np.log(np.exp(row).sum()) for row in logits]
        string = g.string(x, y)
        assert g.read(string) == (x, y)
        found = g.log_laws((), [string[:2], string[:3]])
        assert np.allclose(found, known, atol=1e-12)
        assert np.allclose(g.log_laws(g.string(x), [(), y[:1]]), known, atol=1e-12)
        assert np.allclose(g.answer_laws(x, y), known, atol=1e-12)


def test_contexts_have_their_law_and_unknown_ones_are_uniform():
    g = random_policy()
    first, *rest = np.exp(g.log_laws((), [(), (0,), (1,), (2,)]))
    law = (first[:, None] * np.stack(rest)).ravel()
    assert np.allclose(law[:5], g.law)
    assert not law[5:].any()
    assert np.allclose(g.log_laws((), [(2, 2), (2, 2, 0)]), -math.log(3))


def test_gradients_by_finite_differences():
    g = random_policy(1)
    string, credit, h = g.string(3, (2, 1)), np.array([0.5, 2.0]), 1e-6

    def value() -> float:
        return float(credit @ g.answer_laws(3, (2, 1))[[0, 1], [2, 1]])

    found, at = g.gradient(string, credit.tolist()), g.weights
    for i in np.ndindex(at.shape):
        up, down = at.copy(), at.copy()
        up[i], down[i] = at[i] + h, at[i] - h
        with g.at(up):
            more = value()
        with g.at(down):
            less = value()
        assert found[i] == pytest.approx((more - less) / (2 * h), abs=1e-8)
    rate = g.ascend(string, credit.tolist())
    assert rate == pytest.approx(1 / (4 + 2 * (found**2).sum()))
    assert np.allclose(g.weights, at + rate * found, atol=1e-12)


def test_margins_have_their_closed_form():
    K, m, N = 4, 3, 5
    answers = np.random.default_rng(0).integers(K, size=(m, N))
    table, shared = Planted.table(answers, K), Planted.shared(answers, K)
    best = np.zeros((m, N, K))
    np.put_along_axis(best, answers[..., None], 1.0, axis=2)
    best = (best - 1 / K).reshape(-1, 1)
    assert table.margin(best) == pytest.approx(math.sqrt(K / ((K - 1) * m * N)))
    one = np.eye(K)[:, :1] - 1 / K
    assert shared.margin(one) == pytest.approx(math.sqrt(K / (K - 1)))
    rng = np.random.default_rng(1)
    assert all(
        table.margin(best + rng.normal(size=best.shape)) < table.margin(best) for _ in range(50)
    )


@pytest.mark.slow(2)
@pytest.mark.parametrize("make", [random_policy, lambda: Staircase(3, 5, 3)], ids=["any", "stairs"])
def test_conformance(make):
    check_generator(make)


def test_the_staircase_has_its_likelihoods_and_quantiles():
    s = Staircase(4, 9, 7)
    assert np.allclose(s.log_likelihoods(), np.log(4.0) * -np.arange(1, 8), atol=1e-12)
    assert np.allclose(s.likelihoods, 4.0 ** -np.arange(1.0, 8))
    assert s.law.tolist() == [0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.015625]
    assert s.success() == pytest.approx(s.law @ s.likelihoods)
    q = explored(s.log_likelihoods(), 7 * math.log(4))
    inverse = [1 / likelihood_quantile(q, e, s.law) for e in (0.6, 0.3, 0.15, 0.08, 0.04)]
    assert np.allclose(inverse, [8, 32, 127.5, 504, 1928], atol=0.5)
    tokens = token_likelihood_quantile(s.token_log_likelihoods(), 0.3, s.law)
    assert tokens == pytest.approx(4 ** (-2 / 7))


def test_quantiles_are_the_generalized_inverse():
    logs, mass = np.log([0.5, 0.1, 0.1, 0.2]), [0.4, 0.1, 0.2, 0.3]
    for epsilon, known in (
        (0.0, 0.1),
        (0.29, 0.1),
        (0.3, 0.2),
        (0.59, 0.2),
        (0.6, 0.5),
        (0.99, 0.5),
    ):
        assert likelihood_quantile(logs, epsilon, mass) == pytest.approx(known)
    assert log_likelihood_quantile([-np.inf, 0.0], 0.4) == -np.inf
    padded = [[-1.0, -3.0], [-2.0, np.nan]]
    assert token_likelihood_quantile(padded, 0.5) == pytest.approx(math.exp(-2))
    for wrong in (([], 0.1), ([1.0], 0.1), ([-1.0], 1.0), ([-1.0], -0.1)):
        with pytest.raises(InvalidInput):
            likelihood_quantile(*wrong)
    with pytest.raises(InvalidInput, match="weights"):
        likelihood_quantile([-1.0, -2.0], 0.1, [0.5, 0.6])


def test_the_problem_rewards_right_answers_and_accepts_their_prefixes():
    s = Staircase(3, 5, 3, seed=2)
    problem = s.problem()
    assert problem.verifier is not None
    for x in range(3):
        right = s.string(x, s.answers[x])
        wrong = (*right[:-1], (right[-1] + 1) % 3)
        assert problem.reward(Output(right, "", True)) == 1.0
        assert problem.reward(Output(wrong, "", True)) == 0.0
        assert all(problem.verifier(Output(right[:t], "", False)) for t in range(5))
        assert not problem.verifier(Output(wrong, "", True))


def test_the_spec_builds_it_and_it_is_listed():
    made = parse("staircase:K=4,H=9,steps=7")(seed=3)
    assert isinstance(made, Staircase)
    assert made.label == "staircase:K=4,H=9,steps=7,alpha=0.25,seed=3"
    assert (made.answers == Staircase(4, 9, 7, seed=3).answers).all()
    assert (made.answers != Staircase(4, 9, 7, seed=4).answers).any()
    assert "steps=7" in catalogue()["staircase"]


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Staircase(4, 4, 7), "alpha\\^steps >= K\\^-N"),
        (lambda: Staircase(4, 1, 4), "horizon must be an integer"),
        (lambda: Staircase(4, 9, 4, 1.5), "alpha must lie in"),
        (lambda: LinearSoftmax(np.zeros((1, 2, 3))), "slots must be integers"),
        (lambda: LinearSoftmax(np.zeros((1, 2, 3, 2), int)), "slots must be >= 0"),
        (lambda: LinearSoftmax(np.zeros((2, 2, 3), int), law=[0.5, 0.4]), "sum to 1"),
        (
            lambda: LinearSoftmax(np.zeros((2, 2, 3), int), vectors=[[1.0]]),
            "vectors must be finite",
        ),
        (
            lambda: LinearSoftmax(np.zeros((2, 2, 3), int), weights=[[1.0], [2.0]]),
            "weights must be",
        ),
        (lambda: Planted.table([[3]], 2), "answers must be tokens"),
        (lambda: Planted.table([[0]], 2).margin(np.zeros((2, 1))), "not all 0"),
        (lambda: Planted.table([[0]], 2).read((0, 1)), "at most 1 of an answer"),
        (lambda: Planted.table([[0]], 2).gradient((0,), [1.0, 2.0]), "credit must be"),
    ],
)
def test_what_is_wrong_is_named(make, why: str):
    with pytest.raises(InvalidInput, match=why):
        make()
