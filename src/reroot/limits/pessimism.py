"""The level of the χ²-regularized optimum, for laws and for draws (arXiv 2503.21878)."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ..checks import check_between
from ..errors import InvalidInput
from ..types import FloatArray


def pessimistic_level(rewards: npt.ArrayLike, weights: npt.ArrayLike, beta: float) -> float:
    """The λ at which Σ_i weights_i·max(0, (r_i − λ)/β) = 1, found exactly by sorting.

    Args:
        rewards: (m,).
        weights: (m,) >= 0, sum 1: probabilities, or 1/N for each of N draws.
        beta: β > 0.

    Raises:
        InvalidInput: a value is out of range.
    """
    rewards, weights = _numbers("rewards", rewards), _numbers("weights", weights)
    beta = check_between("beta", beta, 0.0, math.inf)
    if rewards.shape != weights.shape or rewards.ndim != 1 or not len(rewards):
        raise InvalidInput(
            f"rewards and weights must be two lists of one length, got {rewards.shape} and {weights.shape}"
        )
    if not np.isfinite(rewards).all():
        raise InvalidInput("rewards must be finite")
    if not (weights >= 0).all() or abs(weights.sum() - 1.0) > 1e-6:
        raise InvalidInput(f"weights must be >= 0 and sum to 1, got the sum {weights.sum()!r}")
    order = np.argsort(-rewards, kind="stable")
    rewards, weights = rewards[order], weights[order]
    mass, sums = np.cumsum(weights), np.cumsum(weights * rewards)
    with np.errstate(divide="ignore", invalid="ignore"):
        levels = (sums - beta) / mass  # λ if just the first i rewards are above it
    following = np.append(rewards[1:], -np.inf)
    fits = (mass > 0) & (levels >= following)
    return float(levels[np.argmax(fits)])


def _numbers(name: str, values: npt.ArrayLike) -> FloatArray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InvalidInput(f"{name} must be an array of numbers, got {values!r}") from None
