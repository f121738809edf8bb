"""Is a place of a right output a bottleneck, or said otherwise? Rollouts from before and after it tell.

V(u) is the probability that a rollout from u passes. A token d_k of a right output with P(d_k) small is a *bottleneck*
where V falls without it, ρ = V(d_<k)/V(d_≤k) < ½ (ρ ≥ P(d_k) always), and *paraphrase* where others do as well, ρ > ½.
"""

from __future__ import annotations

import math
from enum import StrEnum

import numpy as np

from ..checks import check_int
from ..errors import InvalidInput

RATIO = 0.5
"""ρ that tells them apart."""
CRITICAL = (2.1, 2.25)
"""−z from which it is a bottleneck, z from which paraphrase; at ρ = ½ and 64 rollouts each errs in at most 2 %."""
SIDE = 64
"""Rollouts from before and from after a place."""


class Place(StrEnum):
    """What a rare place is."""

    BOTTLENECK = "bottleneck"
    PARAPHRASE = "paraphrase"
    UNKNOWN = "unknown"


def ratio_score(before: int, after: int, n: int, ratio: float = RATIO) -> float:
    """Score statistic z of H: V_before = ratio·V_after, from passes of n rollouts each; 0 where both are 0.

    z = (p̂₀ − ρ·p̂₁)/√(p₀(1 − p₀)/n + ρ²p₁(1 − p₁)/n) at the maximum likelihood estimates p₀ = ρ·p₁ under H (Miettinen
    & Nurminen 1985): negative where V falls by more.

    Raises:
        InvalidInput: counts outside 0…n.
    """
    check_int("n", n, 1)
    if not (0 <= before <= n and 0 <= after <= n):
        raise InvalidInput(f"counts must lie in 0…{n}, got {before!r} and {after!r}")
    if not before + after:
        return 0.0
    # the root in [0, 1] of the likelihood equation a·p² − b·p + c = 0
    a, c = 2.0 * n * ratio, float(before + after)
    b = before + ratio * after + ratio * n + n
    p = 2.0 * c / (b + math.sqrt(max(0.0, b * b - 4.0 * a * c)))
    variance = (ratio * p * (1.0 - ratio * p) + ratio**2 * p * (1.0 - p)) / n
    return (before - ratio * after) / n / math.sqrt(max(variance, np.finfo(float).tiny))


def tell(before: int, after: int, n: int) -> Place:
    """Bottleneck, paraphrase, or unknown, from passes of n rollouts from before and from after the place.

    Raises:
        InvalidInput: counts outside 0…n.
    """
    z = ratio_score(before, after, n)
    if z < -CRITICAL[0]:
        return Place.BOTTLENECK
    return Place.PARAPHRASE if z > CRITICAL[1] else Place.UNKNOWN
