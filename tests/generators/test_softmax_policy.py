"""The lazily stored softmax policy against the same policy written out in full."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from reroot import InvalidInput, objective, run
from reroot.families import HiddenPath
from reroot.generators.base import Generator, Request
from reroot.generators.ensemble import Ensemble
from reroot.generators.law import log_normalize
from reroot.generators.softmax_policy import SoftmaxPolicy
from reroot.generators.tabular import IntegerGenerator, Tabular
from reroot.objective import Tree
from reroot.randomness import keyed_rng, stream_key
from reroot.testing import GeneratorConformance
from reroot.types import PAD, FloatArray, IntArray
from toys import as_learner

END = 2


def tabular() -> Tabular:
    return Tabular.random(3, 4, seed=5, end=(END,))


def some_strings(base: IntegerGenerator, count: int, seed: int) -> IntArray:
    """Rollouts of the base law, filled up with −1."""
    stop, horizon = base.stops(()), base.horizon
    request = Request((), n=count, length=horizon, stop=stop, key=stream_key(seed, "t", "draws"))
    reply = base.answer([request])[0]
    tokens = np.full((count, horizon), PAD, dtype=np.int64)
    tokens[:, : reply.tokens.shape[1]] = reply.tokens
    return tokens


def trained(base: IntegerGenerator, steps: int = 3, seed: int = 1) -> SoftmaxPolicy:
    """A policy after a few random updates."""
    policy, rng = SoftmaxPolicy(base), keyed_rng(stream_key(seed, "t", "coefficients"))
    for i in range(steps):
        tokens = some_strings(base, 5, seed + i)
        weights = rng.normal(size=tokens.shape) * (tokens != PAD)
        weights[rng.random(tokens.shape) < 0.3] = 0.0  # not every token is updated
        policy.update(tokens, weights, 0.8, 10.0)
    return policy


class TestUntrained(GeneratorConformance):
    prompts = ((), (1,))

    def make(self) -> Generator:
        return SoftmaxPolicy(tabular())


class TestTrained(GeneratorConformance):
    prompts = ((), (1,))

    def make(self) -> Generator:
        return trained(tabular())


class TestTrainedPath(GeneratorConformance):
    def make(self) -> Generator:
        return trained(HiddenPath(4, 6, 0.55, seed=3))


@pytest.mark.slow(1)
class TestInAnEnsemble(GeneratorConformance):
    prompts = ("0", (1,), (1, 0))

    def make(self) -> Generator:
        return Ensemble([trained(HiddenPath(4, 5, 0.5, seed=i), seed=i) for i in range(2)])


# ---- dense twin ----------------------------------------------------------------------------------


class Dense:
    """θ for every prefix of the tree, gradients by the definition, no laziness."""

    def __init__(self, base: IntegerGenerator) -> None:
        stop = base.stops(())
        self.tree = Tree.of(base, horizon=base.horizon, stop=stop)
        self.theta = np.zeros(self.tree.laws.shape)
        self.row = {u: i for i, u in enumerate(self.tree.prefixes)}

    def laws(self, theta: FloatArray | None = None) -> FloatArray:
        return log_normalize(self.tree.laws + (self.theta if theta is None else theta))

    def policy(self) -> Tree:
        return self.tree.with_laws(self.laws())

    def score(self, theta: FloatArray, tokens: IntArray, weights: FloatArray) -> float:
        """Σ c(i, t)·log π(y_it | y_i<t)."""
        laws, total = self.laws(theta), 0.0
        for y, c in zip(tokens, weights, strict=True):
            for t in np.flatnonzero(y != PAD):
                total += c[t] * laws[self.row[tuple(y[:t].tolist())], y[t]]
        return total

    def slope(self, tokens: IntArray, weights: FloatArray) -> FloatArray:
        """Its derivative by central differences."""
        h, found = 1e-5, np.zeros(self.theta.shape)
        for at in np.ndindex(self.theta.shape):
            up, down = self.theta.copy(), self.theta.copy()
            up[at] += h
            down[at] -= h
            higher, lower = (self.score(theta, tokens, weights) for theta in (up, down))
            found[at] = (higher - lower) / (2 * h)
        return found


@pytest.mark.parametrize("base", [tabular(), HiddenPath(3, 4, 0.5, seed=2)])
def test_updates_follow_the_gradient_by_finite_differences(base: IntegerGenerator) -> None:
    policy, dense = SoftmaxPolicy(base), Dense(base)
    rng = keyed_rng(stream_key(0, "t", "finite differences"))
    for seed in range(3):
        tokens = some_strings(base, 4, seed)
        weights = rng.normal(size=tokens.shape) * (tokens != PAD)
        dense.theta += 0.7 * dense.slope(tokens, weights)
        policy.update(tokens, weights, 0.7, 100.0)
        stored = np.array([policy.theta(u) for u in dense.tree.prefixes])
        assert np.abs(stored - dense.theta).max() < 1e-8


@pytest.mark.parametrize("base", [tabular(), HiddenPath(3, 5, 0.5, seed=2)])
def test_lazy_laws_equal_the_dense_ones(base: IntegerGenerator) -> None:
    policy, dense = trained(base), Dense(base)
    dense.theta = np.array([policy.theta(u) for u in dense.tree.prefixes])
    assert np.abs(dense.theta).max() > 0.3
    assert 0 < policy.stored < len(dense.tree.prefixes)
    lazy = policy.log_laws((), dense.tree.prefixes)
    assert np.abs(lazy - dense.laws()).max() < 1e-13
    untouched = [u for u in dense.tree.prefixes if not policy.theta(u).any()]
    assert np.array_equal(policy.log_laws((), untouched), base.log_laws((), untouched))


@pytest.mark.parametrize("base", [tabular(), HiddenPath(3, 5, 0.5, seed=2)])
def test_value_ratios_and_probabilities_equal_enumeration(base: IntegerGenerator) -> None:
    policy, dense = trained(base, steps=5), Dense(base)
    dense.theta = np.array([policy.theta(u) for u in dense.tree.prefixes])
    written, outputs = dense.policy(), dense.tree.outputs
    masses, beta = written.log_probabilities(), 0.3
    assert objective.kl(written, dense.tree) > 0.05
    for i in range(0, len(outputs), 7):
        rewards = np.zeros(len(outputs))
        rewards[i] = 1.5
        exact = objective.value(written, dense.tree, rewards, beta)
        assert policy.value(outputs[i], beta, 1.5) == pytest.approx(exact, abs=1e-12)
        assert policy.log_probability(outputs[i]) == pytest.approx(masses[i], abs=1e-12)
    tokens = np.full((len(outputs), base.horizon), -1)
    for row, y in zip(tokens, outputs, strict=True):
        row[: len(y)] = y
    ratios = policy.log_ratios(tokens)
    assert not ratios[tokens < 0].any()
    expected = masses - dense.tree.log_probabilities()
    assert np.abs(ratios.sum(axis=1) - expected).max() < 1e-12


def test_nothing_is_stored_where_nothing_is_updated() -> None:
    policy = SoftmaxPolicy(HiddenPath(4, 200, 0.5))
    tokens = np.zeros((3, 200), dtype=np.int64)
    policy.update(tokens, np.zeros((3, 200)), 1.0, 1.0)
    assert policy.stored == 0
    weights = np.zeros((3, 200))
    weights[0, 5] = 1.0
    policy.update(tokens, weights, 1.0, 1.0)
    assert policy.stored == 6  # the prefix and those above it
    assert policy.value(policy.base.path, 0.1) < 0  # type: ignore[attr-defined]


def test_large_steps_are_scaled_down_row_by_row() -> None:
    base = HiddenPath(4, 3, 0.5, path=(0, 0, 0))
    policy, free = SoftmaxPolicy(base), SoftmaxPolicy(base)
    tokens, weights = np.array([[0, 1, 2]]), np.array([[10.0, 0.1, 0.0]])
    free.update(tokens, weights, 1.0, 1e9)
    policy.update(tokens, weights, 1.0, 0.5)
    assert policy.theta(()) == pytest.approx(free.theta(()) * 0.5 / np.abs(free.theta(())).max())
    assert np.array_equal(policy.theta((0,)), free.theta((0,)))


def test_draws_follow_the_present_policy_alone_and_in_an_ensemble() -> None:
    """Through a session that had asked before the update; error rate 1e-6 each."""
    from scipy.stats import chisquare

    base = HiddenPath(4, 3, 0.5, path=(3, 3, 3))
    policy = SoftmaxPolicy(base)
    others = Ensemble([SoftmaxPolicy(HiddenPath(4, 3, 0.5)), policy])

    async def body(session):
        before = (await session.draws(session.root, 2000)).first_tokens()
        policy.update(np.array([[1, 0, 0]]), np.array([[1.0, 0.0, 0.0]]), 1.0, 5.0)
        after = (await session.draws(session.root, 2000)).first_tokens()
        law = np.exp(await session.law(session.root))
        return before, after, law, (await session.rollouts(2000)).tokens[:, 0]

    seen = []

    async def noted(session):
        seen.append(await body(session))

    for generator, problem in ((policy, base.problem()), (others, others_problem(base))):
        old = np.exp(policy.log_laws((), [()])[0])
        run(as_learner(noted), [problem], generator, grants="reset/full")
        new = np.exp(policy.log_laws((), [()])[0])
        assert np.abs(new - old).max() > 0.05
        before, after, law, rollouts = seen.pop()
        assert law == pytest.approx(new, abs=1e-15)
        for tokens, known in ((before, old), (after, new), (rollouts, new)):
            counts = np.bincount(tokens, minlength=4)
            assert chisquare(counts, known * 2000).pvalue > 1e-6
        assert chisquare(np.bincount(after, minlength=4), old * 2000).pvalue < 1e-6


def others_problem(base: HiddenPath):
    from dataclasses import replace

    return replace(base.problem("second"), prompt=(1,))


def test_descriptions_tell_policies_apart() -> None:
    a, b = trained(tabular()), trained(tabular())
    assert a.describe() == b.describe()
    b.update(np.array([[0, 0, 0, 0]]), np.array([[1.0, 0, 0, 0]]), 1e-9, 1.0)
    assert a.describe() != b.describe()


WRONG: list[tuple[Sequence[Sequence[float]], Sequence[Sequence[float]], float, float]] = [
    ([[0, 0, 9]], [[0, 0, 1]], 1.0, 1.0),  # outside the vocabulary
    ([[0.5, 0, 0]], [[0, 0, 1]], 1.0, 1.0),
    ([[0, 0, 0]], [[0, 1]], 1.0, 1.0),  # a shape
    ([[0, 0, 0]], [[0, 0, math.nan]], 1.0, 1.0),
    ([[0, 0, 0]], [[0, 0, 1]], math.inf, 1.0),
    ([[0, 0, 0]], [[0, 0, 1]], 1.0, 0.0),
    ([[0, 0, -1]], [[0, 0, 1]], 1.0, 1.0),  # behind the end
    ([[0] * 7], [[1] * 7], 1.0, 1.0),  # longer than H
]


@pytest.mark.parametrize(("tokens", "weights", "rate", "most"), WRONG)
def test_wrong_updates_are_refused_and_change_nothing(tokens, weights, rate, most) -> None:
    policy = SoftmaxPolicy(HiddenPath(4, 6, 0.5))
    with pytest.raises(InvalidInput):
        policy.update(np.array(tokens), np.array(weights, dtype=float), rate, most)
    assert policy.stored == 0


@pytest.mark.parametrize("output", [(0, 4), (-1,), (0,) * 7])
def test_wrong_strings_are_refused(output: tuple[int, ...]) -> None:
    policy = SoftmaxPolicy(HiddenPath(4, 6, 0.5))
    with pytest.raises(InvalidInput):
        policy.log_probability(output)
    if min(output) >= 0:
        with pytest.raises(InvalidInput):
            policy.log_ratios(np.array([output]))


def test_beta_must_be_positive() -> None:
    with pytest.raises(InvalidInput):
        SoftmaxPolicy(HiddenPath(4, 6, 0.5)).value((0,) * 6, 0.0)
