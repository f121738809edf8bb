"""Target laws on explicit trees against brute force over whole outputs; "equal" means within 1e-12."""

from __future__ import annotations

import math

import numpy as np
import pytest

from reroot import InvalidInput
from reroot.generators.tabular import Tabular
from reroot.limits import pessimistic_level
from reroot.objective import Tree, gibbs_policy, soft_values
from reroot.objective.targets import (
    conditioned_law,
    log_twists,
    pessimistic_law,
    power_law,
    reweighted,
    temperature_law,
)

EXACT = 1e-12
SHAPES = [(2, 4, ()), (3, 3, (2,)), (4, 3, (0, 3))]


def tree(K: int, H: int, end: tuple[int, ...] = (), seed: int = 0) -> Tree:
    return Tree.of(Tabular.random(K, H, seed=seed, end=end), horizon=H)


def toy() -> Tree:
    """aa, ab, ba, bb with probabilities 0, .40, .25, .25, as printed in arXiv 2510.14901, normalized."""
    p = np.array([0.0, 0.40, 0.25, 0.25]) / 0.90
    first = np.array([p[:2].sum(), p[2:].sum()])
    second = np.array([p[:2] / first[0], p[2:] / first[1]])
    return Tree.of(Tabular([first, second]), horizon=2)


def direct(base: Tree, weights: np.ndarray) -> np.ndarray:
    found = np.exp(base.log_probabilities()) * weights
    return found / found.sum()


@pytest.mark.parametrize(("K", "H", "end"), SHAPES)
def test_a_reweighted_law_is_p_times_w_over_whole_outputs_of_any_length(
    K: int, H: int, end: tuple[int, ...]
) -> None:
    base = tree(K, H, end)
    weights = np.random.default_rng(1).gamma(1.0, size=len(base.outputs))
    weights[::3] = 0.0
    with np.errstate(divide="ignore"):
        found = reweighted(base, np.log(weights))
    np.testing.assert_allclose(
        np.exp(found.log_probabilities()), direct(base, weights), rtol=0, atol=EXACT
    )
    assert np.allclose(np.exp(found.laws).sum(axis=1), 1.0, rtol=0, atol=EXACT)


@pytest.mark.parametrize(("K", "H", "end"), SHAPES)
def test_twists_are_the_expected_weight_behind_each_prefix(
    K: int, H: int, end: tuple[int, ...]
) -> None:
    base = tree(K, H, end, seed=3)
    weights = np.random.default_rng(2).gamma(1.0, size=len(base.outputs))
    values, log_z = log_twists(base, np.log(weights))
    p = np.exp(base.log_probabilities())
    for u, value in zip(base.prefixes, values, strict=True):
        behind = [i for i, y in enumerate(base.outputs) if y[: len(u)] == u]
        expected = (p[behind] @ weights[behind]) / p[behind].sum()
        assert math.exp(value) == pytest.approx(expected, abs=EXACT, rel=EXACT)
    assert math.exp(log_z) == pytest.approx(p @ weights, rel=EXACT)


@pytest.mark.parametrize(("K", "H", "end"), SHAPES)
@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 4.0])
def test_the_power_law_raises_whole_outputs_to_a_power(
    K: int, H: int, end: tuple[int, ...], alpha: float
) -> None:
    base = tree(K, H, end)
    p = np.exp(base.log_probabilities())
    expected = p**alpha / (p**alpha).sum()
    found = np.exp(power_law(base, alpha).log_probabilities())
    np.testing.assert_allclose(found, expected, rtol=0, atol=EXACT)


def test_the_power_law_of_the_papers_toy_is_not_low_temperature() -> None:
    """First token a: 0.5614 under the power law, 0.3902 at low temperature (α = 2)."""
    base = toy()
    assert math.exp(power_law(base, 2.0).laws[0, 0]) == pytest.approx(0.5614, abs=5e-5)
    assert math.exp(temperature_law(base, 0.5).laws[0, 0]) == pytest.approx(0.3902, abs=5e-5)


def test_the_tilt_is_the_gibbs_policy_and_its_twists_are_soft_values() -> None:
    base = tree(3, 3, (2,), seed=5)
    rewards = np.random.default_rng(4).normal(size=len(base.outputs))
    tilted, gibbs = reweighted(base, rewards / 0.3), gibbs_policy(base, rewards, 0.3)
    np.testing.assert_allclose(np.exp(tilted.laws), np.exp(gibbs.laws), rtol=0, atol=EXACT)
    values, best = soft_values(base, rewards, 0.3)
    twists, log_z = log_twists(base, rewards / 0.3)
    np.testing.assert_allclose(0.3 * twists, values, rtol=0, atol=EXACT)
    assert 0.3 * log_z == pytest.approx(best, abs=EXACT)


@pytest.mark.parametrize(("share", "beta"), [(0.01, 0.2), (0.3, 0.5), (1e-6, 0.05)])
def test_coverage_of_the_tilt_on_a_rare_right_answer_has_its_closed_form(
    share: float, beta: float
) -> None:
    """max π*_β/P = e^(1/β)/(1 − ε + ε·e^(1/β)), the hard instance of arXiv 2503.07453."""
    base = Tree.of(Tabular([[share, 1.0 - share]]), horizon=1)
    tilted = gibbs_policy(base, [1.0, 0.0], beta)
    ratio = math.exp(float((tilted.log_probabilities() - base.log_probabilities()).max()))
    top = math.exp(1.0 / beta)
    assert ratio == pytest.approx(top / (1.0 - share + share * top), rel=1e-12)
    assert ratio <= top


def test_conditioning_on_a_verifier_keeps_the_ratios_of_right_outputs() -> None:
    base = tree(3, 3, seed=6)
    right = np.array([float(sum(y) % 2 == 0) for y in base.outputs])
    found = np.exp(conditioned_law(base, right).log_probabilities())
    np.testing.assert_allclose(found, direct(base, right), rtol=0, atol=EXACT)


@pytest.mark.parametrize(("beta", "expected"), [(0.2, 0.55), (1.0, 0.19), (0.05, 1.0)])
def test_pessimism_on_two_valued_rewards_has_its_closed_form(beta: float, expected: float) -> None:
    """q = 0.1: π(r̂ = 1) = 1 for β <= q, else q·(1 − q + β)/β."""
    base = Tree.of(Tabular([[0.1, 0.9]]), horizon=1)
    found = pessimistic_law(base, [1.0, 0.0], beta)
    assert math.exp(found.log_probabilities()[0]) == pytest.approx(expected, abs=EXACT)


@pytest.mark.parametrize("beta", [0.01, 0.1, 0.5, 2.0, 30.0])
def test_the_pessimistic_level_solves_its_equation_and_the_law_its_optimization(
    beta: float,
) -> None:
    rng = np.random.default_rng(7)
    rewards, p = rng.normal(size=12).round(1), rng.dirichlet(np.ones(12))
    level = pessimistic_level(rewards, p, beta)
    density = np.maximum(rewards - level, 0.0) / beta
    assert p @ density == pytest.approx(1.0, abs=EXACT)

    def objective(density: np.ndarray) -> float:
        return float(p @ (density * rewards) - beta / 2 * (p @ density**2))

    for _ in range(200):  # no other density does better
        other = density * rng.gamma(5.0, 0.2, size=12) + 0.05 * rng.gamma(1.0, size=12)
        assert objective(other / (p @ other)) <= objective(density) + EXACT


@pytest.mark.parametrize(
    "bad",
    [
        lambda t: power_law(t, 0.0),
        lambda t: power_law(t, math.inf),
        lambda t: reweighted(t, [0.0]),
        lambda t: reweighted(t, np.full(len(t.outputs), -np.inf)),
        lambda t: reweighted(t, np.full(len(t.outputs), np.nan)),
        lambda t: conditioned_law(t, -np.ones(len(t.outputs))),
        lambda t: conditioned_law(t, np.zeros(len(t.outputs))),
        lambda t: pessimistic_law(t, np.zeros(len(t.outputs)), -1.0),
        lambda t: pessimistic_level([1.0, 2.0], [0.5, 0.6], 1.0),
        lambda t: pessimistic_level([], [], 1.0),
    ],
)
def test_bad_input_is_refused(bad) -> None:
    with pytest.raises(InvalidInput):
        bad(tree(2, 3))
