"""Coverage against its definition, its bounds on random laws, and what best-of-n makes of it."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reroot import InvalidInput
from reroot.diagnosis import (
    best_of_n_regret,
    coverage,
    coverage_bound,
    coverage_profile,
    tournament,
    tree_coverage,
)
from reroot.families import Dyck
from reroot.generators.tabular import Tabular
from reroot.objective.exact import kl as tree_kl
from reroot.objective.tree import Tree

THRESHOLDS = (0.5, 1.0, 2.0, 2.8, 5.0, 16.0, 1e4)


def dirichlets(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two laws of 2…30 outputs; a small concentration makes their ratios large."""
    rng = np.random.default_rng(seed)
    m, a = int(rng.integers(2, 31)), float(rng.choice([0.1, 0.3, 1.0]))
    p, q = rng.dirichlet(np.full((2, m), a)[0], size=2) + 1e-12
    return p / p.sum(), q / q.sum()


def best_of(q: np.ndarray, rewards: np.ndarray, n: int) -> float:
    """E[max of n rewards] from the cumulative law of the reward."""
    values = np.unique(rewards)
    below = np.array([q[rewards <= v].sum() for v in values])
    return float(values @ np.diff(below.clip(0, 1) ** n, prepend=0.0))


# ---- the definition ------------------------------------------------------------------------------


def test_exact_coverage_by_definition() -> None:
    p, q = np.array([0.5, 0.3, 0.2, 0.0]), np.array([0.25, 0.6, 0.0, 0.15])
    with np.errstate(divide="ignore"):
        ratios = np.log(p) - np.log(q)
    # ratios 2, 1/2, inf, 0; N itself counts
    for n, known in ((0.4, 1.0), (0.5, 1.0), (0.6, 0.7), (2.0, 0.7), (2.1, 0.2), (1e9, 0.2)):
        assert coverage(ratios, p, n) == pytest.approx(known)
    np.testing.assert_allclose(coverage_profile(ratios, p, [0.6, 2.1]), [0.7, 0.2])
    assert coverage([0.0, math.log(3), math.inf], None, 3) == pytest.approx(2 / 3)


def test_ratios_that_equal_the_threshold_up_to_rounding_count() -> None:
    parts = np.log([0.1, 0.7, 0.3]) - np.log([0.2, 0.35, 0.1])  # 1/2, 2, 3
    assert coverage([parts.sum()], None, 3.0) == 1.0
    assert coverage([math.log(3) - 1e-6], None, 3.0) == 0.0


@pytest.mark.parametrize("seed", range(8))
def test_coverage_of_trees_by_enumeration(seed: int) -> None:
    one, other = (Tabular.random(3, 4, seed=seed + i, concentration=0.4) for i in (0, 100))
    target = Tree.of(one, horizon=4)
    model = target.with_laws(Tree.of(other, horizon=4).laws)
    p, q = dict(one.enumerate_outputs()), dict(other.enumerate_outputs())
    found = tree_coverage(target, model, THRESHOLDS)
    for n, value in zip(THRESHOLDS, found.tolist(), strict=True):
        known = sum(math.exp(w) for y, w in p.items() if math.exp(w - q[y]) >= n)
        assert value == pytest.approx(known, abs=1e-9)
        if n > math.e:
            assert value <= coverage_bound(tree_kl(target, model), n) + 1e-12
    assert (np.diff(found) <= 0).all()
    assert len(set(found.tolist())) > 3


def test_a_model_that_excludes_outputs() -> None:
    """Noisy Dyck strings against the law without noise: it covers the valid ones alone."""
    g = Dyck(6, depth=2, noise=0.3)
    target = Tree.of(g, horizon=6)
    clean = Dyck(6, depth=2)
    model = target.with_laws(clean.log_laws((), target.prefixes))
    (never,) = tree_coverage(target, model, [1e12])
    assert never == pytest.approx(1 - math.exp(g.log_valid), abs=1e-12)
    limit = (1 / (0.7 + 0.3 / 4)) ** 6  # the most that noise takes from a valid string
    assert tree_coverage(model, target, [1e-9, limit * 1.01]).tolist() == [pytest.approx(1), 0]


def test_samples_estimate_the_exact_value() -> None:
    p, q = dirichlets(5)
    ratios, n = np.log(p / q), 20_000
    drawn = np.random.default_rng(1).choice(len(p), size=n, p=p)
    exact = coverage_profile(ratios, p, THRESHOLDS)
    estimate = coverage_profile(ratios[drawn], None, THRESHOLDS)
    spread = np.sqrt(exact * (1 - exact) / n)
    assert (np.abs(estimate - exact) <= 5 * spread + 1e-12).all()  # error rate 1e-6 per threshold
    assert 0 < exact[3] < 1


# ---- bounds --------------------------------------------------------------------------------------


@given(st.integers(0, 10**6), st.floats(2.8, 1e6))
@settings(max_examples=300, deadline=None)
def test_the_kl_bounds_coverage(seed: int, threshold: float) -> None:
    p, q = dirichlets(seed)
    ratios = np.log(p / q)
    kl = float(p @ ratios)
    assert coverage(ratios, p, threshold) <= coverage_bound(kl, threshold) + 1e-9


def test_the_bound_is_attained_in_the_limit() -> None:
    """Mass 1/√N at ratio N: coverage is that mass, and its ratio to the bound tends to 1."""
    found: list[float] = []
    for n in (1e4, 1e8, 1e16, 1e32):
        s = n**-0.5
        kl = s * math.log(n) + (1 - s) * (math.log1p(-s) - math.log1p(-s / n))
        found.append(s / coverage_bound(kl, n))
    assert found == sorted(found)
    assert 0.98 < found[-1] < 1
    assert coverage_bound(0.0, 3) == 0
    assert coverage_bound(1.0, math.e**3) == pytest.approx(0.5)
    assert coverage_bound(math.inf, 3) == math.inf


@pytest.mark.parametrize("seed", range(60))
def test_best_of_n_regret_lies_where_coverage_says(seed: int) -> None:
    """Every reward keeps the upper bound, and the uncovered set attains the lower one."""
    p, q = dirichlets(seed)
    rng = np.random.default_rng(seed)
    ratios = np.log(p / q)
    for threshold, n in itertools.product((1.5, 4.0, 40.0), (1, 2, 8, 64)):
        covered = coverage(ratios, p, threshold)
        low, high = best_of_n_regret(covered, threshold, n)
        rewards = [(ratios >= math.log(threshold)).astype(float), rng.random(len(p))]
        rewards += [(rng.random(len(p)) < 0.3).astype(float) for _ in range(10)]
        rewards += [(ratios >= np.sort(ratios)[i]).astype(float) for i in range(len(p))]
        regrets = [float(p @ r) - best_of(q, r, n) for r in rewards]
        assert max(regrets) <= high + 1e-12
        assert low == 0 or regrets[0] >= low - 1e-12  # 0: any constant reward


def test_best_of_n_needs_as_many_rollouts_as_coverage_says() -> None:
    """p = (1 − s, s) against q = (1 − s/N, s/N): regret stays near s up to N/4 rollouts, then ends."""
    s, n = 0.4, 1000.0
    p, q = np.array([1 - s, s]), np.array([1 - s / n, s / n])
    assert coverage(np.log(p / q), p, n) == pytest.approx(s)
    rare = np.array([0.0, 1.0])
    few, many = s - best_of(q, rare, 250), s - best_of(q, rare, 10_000)
    assert few >= best_of_n_regret(s, n, 250).low == pytest.approx(0.3)
    # just above N the model covers all: n = 10·N rollouts leave e^−10
    assert many <= best_of_n_regret(0.0, n * 1.001, 10_000).high < 1e-4


# ---- tournament ----------------------------------------------------------------------------------


def decoyed() -> tuple[np.ndarray, np.ndarray]:
    """(data law, 2 candidates) over 40 outputs of which 10 are never in the data.

    Candidate 0 is the better likelihood, but gives a tenth of the data 1/100 of its mass; candidate
    1 wastes 3/5 of its mass on what never comes, and covers all of the data within 5/2.
    """
    p = np.zeros(40)
    p[:30] = 1 / 30
    first = p.copy()
    first[:3] /= 100
    first[3:30] += (1 - first.sum()) / 27
    second = 0.4 * p
    second[30:] += 0.06
    return p, np.array([first, second])


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_tournament_covers_where_maximum_likelihood_does_not(order: tuple[int, int]) -> None:
    p, candidates = decoyed()
    candidates = candidates[list(order)]
    drawn = np.random.default_rng(2).choice(40, size=400, p=p)
    with np.errstate(divide="ignore"):
        logs = np.log(candidates)
        exact = [coverage(np.log(p[:30] / c[:30]), p[:30], 16) for c in candidates]
    likeliest = int(logs[:, drawn].mean(axis=1).argmax())
    found = tournament(logs[:, drawn], 16)
    assert order[likeliest] == 0
    assert order[found.winner] == 1
    assert exact[likeliest] == pytest.approx(0.1)
    assert exact[found.winner] == 0
    assert found.worst[found.winner] == 0
    assert found.worst[likeliest] == pytest.approx((drawn < 3).mean())


def test_the_tournament_by_definition() -> None:
    rng = np.random.default_rng(3)
    laws = rng.dirichlet(np.full(50, 0.2), size=5)
    for n in (1.5, 4.0, 30.0):
        found = tournament(np.log(laws[:, :40]), n)
        table = [[np.mean(a[:40] / b[:40] >= n) for a in laws] for b in laws]
        np.testing.assert_allclose(found.worst, np.max(table, axis=1))
        assert found.winner == int(np.argmin(np.max(table, axis=1)))
    both = tournament([[-math.inf, 0.0], [-math.inf, math.log(0.1)]], 5)
    assert both.worst.tolist() == [0, 0.5]  # what both exclude counts for neither
    never = tournament([[-math.inf, -math.inf], [-9.0, -9.0]], 5)
    assert never == (1, pytest.approx([1, 0]))


# ---- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (([], None, 2.0), r"log_ratios must be a row of at least one number.*shape \(0,\)"),
        (([[0.0]], None, 2.0), r"log_ratios must be a row .* shape \(1, 1\)"),
        (([0.0, math.nan], None, 2.0), "log_ratios must be a row .*none NaN"),
        ((["a"], None, 2.0), "log_ratios must be an array of numbers"),
        (([0.0, 0.0], [1.0], 2.0), r"weights must have shape \(2,\) as log_ratios, got \(1,\)"),
        (([0.0, 0.0], [0.6, 0.6], 2.0), "weights must be probabilities that sum to 1"),
        (([0.0, 0.0], [1.5, -0.5], 2.0), "the least is -0.5"),
        (([0.0], None, 0.0), r"a threshold must lie in \(0, inf\), got 0.0"),
        (([0.0], None, math.inf), "a threshold must lie"),
        (([0.0], None, "two"), "thresholds must be an array of numbers"),
    ],
)
def test_coverage_refuses(arguments: tuple[object, ...], why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        coverage(*arguments)  # type: ignore[arg-type]


def test_the_others_refuse() -> None:
    target = Tree.of(Tabular.random(3, 2, seed=0), horizon=2)
    longer = Tree.of(Tabular.random(3, 3, seed=0), horizon=3)
    with pytest.raises(InvalidInput, match=r"same outputs: .* they have 9 and 27 outputs"):
        tree_coverage(target, longer, [2.0])
    with pytest.raises(InvalidInput, match="thresholds must be a row"):
        tree_coverage(target, target, 2.0)
    with pytest.raises(InvalidInput, match=r"threshold must lie in \(2.71828, inf\), got 2"):
        coverage_bound(1.0, 2)
    for kl in (-0.1, math.nan, "1"):
        with pytest.raises(InvalidInput, match="kl must be a number >= 0"):
            coverage_bound(kl, 3)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=r"coverage must lie in \[0, 1\], got 1.5"):
        best_of_n_regret(1.5, 2, 1)
    with pytest.raises(InvalidInput, match="threshold must be a finite number >= 1"):
        best_of_n_regret(0.5, 0.5, 1)
    with pytest.raises(InvalidInput, match="rollouts must be an integer >= 1"):
        best_of_n_regret(0.5, 2, 0)
    for logs in ([0.0], np.zeros((0, 3)), np.zeros((3, 0))):
        with pytest.raises(InvalidInput, match=r"must have shape \(candidates, n\)"):
            tournament(logs, 2)
    for bad in (0.5, math.nan):
        with pytest.raises(InvalidInput, match="must be at most 0, got"):
            tournament([[-1.0, bad]], 2)
    with pytest.raises(InvalidInput, match=r"threshold must lie in \(1, inf\), got 1"):
        tournament([[-1.0]], 1)
