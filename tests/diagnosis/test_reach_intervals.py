"""Intervals of small probabilities from unbiased estimates: coverage at stated error rates."""

from __future__ import annotations

import math

import numpy as np
import pytest

from reroot.diagnosis import reach_interval, reach_lower, relative_error
from reroot.errors import InvalidInput


def clouds(rng: np.random.Generator, reach: float, cv: float, shape: tuple[int, ...]) -> np.ndarray:
    """Log-normal estimates with mean ``reach`` and this coefficient of variation."""
    v = math.log1p(cv**2)
    return reach * np.exp(rng.normal(-v / 2, math.sqrt(v), size=shape))


@pytest.mark.slow(2)
@pytest.mark.parametrize("cv", [0.14, 0.5, 1.0, 1.4])
@pytest.mark.parametrize("reach", [1e-1, 1e-10])
def test_the_interval_covers(cv: float, reach: float) -> None:
    """1,500 repetitions of 8 clouds: at least 94 %, each tail at most 4 % (s.e. .6 %)."""
    rng = np.random.default_rng(5)
    low = high = 0
    for row in clouds(rng, reach, cv, (1500, 8)):
        ends = reach_interval(row)
        low += ends.low > reach
        high += ends.high < reach
    assert low + high <= 0.06 * 1500
    assert max(low, high) <= 0.045 * 1500


@pytest.mark.slow(2)
def test_the_lower_bound_holds_where_the_interval_fails() -> None:
    """A lucky branch of probability 1/1000 carries the reach; 4,000 repetitions, error 2.5 %."""
    rng = np.random.default_rng(6)
    lucky = rng.random((4000, 8)) < 1e-2
    z = np.where(lucky, 0.9 / 1e-2, 0.1) * 1e-8
    reach = 1e-8 * (0.9 + 0.1 * 0.99)
    missed = [reach_lower(row) > reach for row in z]
    assert np.mean(missed) <= 0.025
    rare = [not reach_interval(row).low <= reach <= reach_interval(row).high for row in z[:500]]
    assert np.mean(rare) > 0.5  # so no claim rests on it alone


def test_the_lower_bound_is_useful() -> None:
    rng = np.random.default_rng(7)
    for count, least in ((8, 0.25), (32, 0.45)):
        bounds = [reach_lower(row) for row in clouds(rng, 1e-6, 0.3, (50, count))]
        assert np.median(bounds) >= least * 1e-6


def test_dead_clouds_count() -> None:
    assert reach_interval([0.0, 0.0]) == (0.0, 1.0)
    assert math.isinf(relative_error([0.0, 0.0]))
    assert reach_lower([0.0, 0.0, 0.0]) == 0.0
    alive, some = reach_interval([1e-5] * 8), reach_interval([1e-5] * 6 + [0.0, 0.0])
    assert some.low < alive.low
    assert relative_error([1e-5] * 8) == 0.0


def test_the_scale_does_not_matter() -> None:
    z = np.array([1.0, 0.4, 2.0, 0.0, 1.3])
    for scale in (1e-12, 1e-200):
        assert reach_lower(z * scale) == pytest.approx(reach_lower(z / 4) * scale * 4, rel=1e-8)


def test_what_is_no_estimate_is_refused() -> None:
    for bad in ([0.1], [0.1, -0.1], [0.1, math.nan], [[0.1, 0.2]]):
        with pytest.raises(InvalidInput):
            reach_interval(bad)
    with pytest.raises(InvalidInput):
        reach_lower([0.1, 0.2], alpha=0.0)
