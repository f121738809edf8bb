"""Bottleneck or paraphrase: errors and power of the score test, by enumeration."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy import stats

from reroot.diagnosis.bottlenecks import CRITICAL, SIDE, Place, ratio_score, tell
from reroot.errors import InvalidInput
from reroot.types import FloatArray


@cache
def _scores(n: int) -> FloatArray:
    """(n + 1, n + 1) z of every outcome (before, after)."""
    return np.array([[ratio_score(x, y, n) for y in range(n + 1)] for x in range(n + 1)])


def _rates(before: float, after: float, n: int = SIDE) -> tuple[float, float]:
    """Exact probabilities of (bottleneck, paraphrase)."""
    counts = np.arange(n + 1)
    law = np.outer(stats.binom.pmf(counts, n, before), stats.binom.pmf(counts, n, after))
    z = _scores(n)
    return float(law[z < -CRITICAL[0]].sum()), float(law[z > CRITICAL[1]].sum())


def test_each_claim_is_false_with_probability_at_most_2_percent() -> None:
    """At ρ = ½, the border, for values of every size; further away it is less."""
    for value in np.linspace(0.02, 1.0, 50).tolist():
        assert max(_rates(value / 2, value)) <= 0.02, value
        assert _rates(0.7 * value, value)[0] <= 0.02
        assert _rates(0.3 * value, value)[1] <= 0.02


@pytest.mark.parametrize(
    ("ratio", "value", "bottleneck", "least"),
    [
        (0.1, 0.5, True, 0.97),
        (1.0, 0.5, False, 0.92),
        (0.1, 0.9, True, 0.99),
        (1.0, 0.9, False, 0.99),
    ],
)
def test_power(ratio: float, value: float, bottleneck: bool, least: float) -> None:
    found = _rates(ratio * value, value)
    assert found[0 if bottleneck else 1] >= least


def test_small_values_tell_nothing() -> None:
    assert tell(0, 0, 64) == tell(0, 3, 64) == tell(1, 1, 64) == Place.UNKNOWN
    assert tell(2, 50, 64) == Place.BOTTLENECK
    assert tell(50, 50, 64) == Place.PARAPHRASE
    with pytest.raises(InvalidInput, match="counts"):
        tell(65, 1, 64)
