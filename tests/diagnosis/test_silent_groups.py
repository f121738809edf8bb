"""Shares of zero-variance groups: unbiased by enumeration, intervals that cover."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from reroot.diagnosis import signal_threshold, silent_groups
from reroot.errors import InvalidInput


@pytest.mark.parametrize("group", [1, 4, 8, 64])
def test_at_the_threshold_half_of_the_groups_hold_a_pass(group: int) -> None:
    assert (1 - signal_threshold(group)) ** group == pytest.approx(0.5, rel=1e-12)


@pytest.mark.parametrize(("n", "group"), [(8, 8), (12, 4), (16, 8), (9, 1)])
@pytest.mark.parametrize("p", [0.0, 0.02, 0.4, 1.0])
def test_the_means_are_unbiased(n: int, group: int, p: float) -> None:
    counts = np.arange(n + 1)
    mass = stats.binom.pmf(counts, n, p)
    found = [silent_groups([c], n, group) for c in counts]
    assert sum(m * f.wrong.mean for m, f in zip(mass, found, strict=True)) == pytest.approx(
        (1 - p) ** group
    )
    assert sum(m * f.right.mean for m, f in zip(mass, found, strict=True)) == pytest.approx(
        p**group
    )
    if group > 1:
        for f in found:
            assert f.total.mean == pytest.approx(f.wrong.mean + f.right.mean)
    else:
        assert {f.total.mean for f in found} == {1.0}


def populations() -> dict[str, tuple[float, ...]]:
    """Pass probabilities, of which each problem has one at random."""
    return {
        "silent": (0.0, 0.0, 0.0, 0.01),
        "mixed": (0.0, 0.001, 0.03, 0.2, 0.5, 1.0),
        "near the threshold": (0.083,),
        "solved": (1.0, 1.0, 0.999, 0.6),
        "all silent": (0.0,),
    }


@pytest.mark.slow(3)
@pytest.mark.parametrize("name", populations())
@pytest.mark.parametrize(("n", "group", "problems"), [(16, 8, 20), (8, 8, 60), (8, 32, 30)])
def test_intervals_cover(name: str, n: int, group: int, problems: int) -> None:
    """Nominal 95 %, 400 repetitions: fewer than 365 covered has probability below 1e-3 at 95 %."""
    levels = np.array(populations()[name])
    truth = {
        "wrong": float(((1 - levels) ** group).mean()),
        "right": float((levels**group).mean()),
    }
    truth["total"] = truth["wrong"] + truth["right"]
    rng = np.random.default_rng(11)
    covered = dict.fromkeys(truth, 0)
    for _ in range(400):
        passed = rng.binomial(n, rng.choice(levels, size=problems))
        found = silent_groups(passed, n, group)
        for kind, value in truth.items():
            low, high = getattr(found, kind).interval
            covered[kind] += low <= value + 1e-12 and value <= high + 1e-12
    assert min(covered.values()) >= 365


def test_few_rollouts_bound_by_convexity() -> None:
    """E(1 − p)^G lies between the power of E(1 − p)^n and itself, whatever the mixture."""
    found = silent_groups([0] * 30 + [4] * 10, 8, 64)
    assert math.isnan(found.total.mean)
    few, many = silent_groups([0] * 30 + [4] * 10, 8, 8).wrong.interval
    assert found.wrong.interval == pytest.approx((few**8, many))


def test_what_is_no_count_is_refused() -> None:
    for passed, attempts in (([], 8), ([9], 8), ([-1], 8), ([0], 0), ([0.5], 8)):
        with pytest.raises(InvalidInput):
            silent_groups(passed, attempts, 8)
    with pytest.raises(InvalidInput):
        silent_groups([1], 8, 0)


def test_known_rates_take_the_place_of_counts() -> None:
    found = silent_groups([0, 3], 16, 8, known={0: 0.05, 1: 0.2})
    assert found.wrong.mean == pytest.approx((0.95**8 + 0.8**8) / 2)
    assert found.right.mean == pytest.approx((0.05**8 + 0.2**8) / 2)
    fewer = silent_groups([0, 1], 4, 8, known={0: 1e-9, 1: 1e-9})  # n < G
    assert fewer.total.interval.high == 1.0
    with pytest.raises(InvalidInput, match="0 to 1"):
        silent_groups([0, 3], 16, 8, known={2: 0.5})


def test_known_rates_of_silent_problems_alone_would_mislead() -> None:
    """Why ``known`` must not depend on counts: E is then (1 − p)^G less what silence had lent."""
    p, n, group = 0.05, 16, 8
    mass = stats.binom.pmf(np.arange(n + 1), n, p)
    chosen = [
        silent_groups([c], n, group, known={0: p} if c == 0 else None).wrong.mean
        for c in range(n + 1)
    ]
    assert mass @ chosen < (1 - p) ** group - 0.1
