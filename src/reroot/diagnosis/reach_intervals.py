"""Intervals for a reach Pr_P(pass) from independent unbiased estimates, down to 1e-12 and below.

A sequential Monte Carlo cloud returns Ẑ ≥ 0 with E Ẑ = Z; dead clouds return 0. Estimates of small
probabilities are skewed to the right: the usual t interval misses above.
"""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import numpy.typing as npt
from scipy import special

from ..checks import check_between
from ..errors import InvalidInput
from ..types import FloatArray
from .intervals import Interval

_BETS = np.array([0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75])
"""Stakes λ of the lower bound; their mean is a mixture, so none needs to be chosen."""

_LOW, _HIGH = 0.96, 0.99
"""t levels of the lower and upper end: they share 5 % as the skewness asks."""


def relative_error(estimates: npt.ArrayLike) -> float:
    """Relative standard error of the mean of M estimates of one reach; ``inf`` where all are 0.

    The larger of two: from the standard deviation, and from the variance v of log Ẑ over living clouds as if
    they were log-normal, √(e^v − 1), which rare large values do not make small by staying away.

    Raises:
        InvalidInput: fewer than two, negative or not finite.
    """
    z = _checked(estimates)
    if not z.any():
        return math.inf
    spread = float(z.std(ddof=1) / z.mean())
    alive = np.log(z[z > 0])
    logs = math.sqrt(math.expm1(float(alive.var(ddof=1)))) if len(alive) > 1 else 0.0
    return max(spread, logs) / math.sqrt(len(z))


def reach_interval(estimates: npt.ArrayLike) -> Interval:
    """Nominal 95 % interval [Z̄·e^(−t.₉₆ r), Z̄·e^(t.₉₉ r)], t with M − 1 degrees, r the relative error.

    Measured coverage 94.6–97.8 % for coefficients of variation of .14 to 1.4 per cloud (docs/log.md). It relies
    on the clouds having seen what matters: a claim rests on ``reach_lower`` and on counts of direct rollouts,
    which always hold. (0, 1) where every cloud died.

    Args:
        estimates: (M,) M ≥ 2.

    Raises:
        InvalidInput: fewer than two, negative or not finite.
    """
    z = _checked(estimates)
    r, mean = relative_error(z), float(z.mean())
    if math.isinf(r):
        return Interval(0.0, 1.0)
    low, high = (float(special.stdtrit(len(z) - 1, level)) for level in (_LOW, _HIGH))
    return Interval(mean * math.exp(-low * r), min(1.0, mean * math.exp(high * r)))


def reach_lower(estimates: npt.ArrayLike, alpha: float = 0.025) -> float:
    """A lower bound of Z that is wrong with probability at most ``alpha``, whatever the law of the clouds.

    For the true Z each Π_j(1 + λ(Ẑ_j/Z − 1)) has mean 1, so has their mean over λ, and it exceeds 1/α with
    probability at most α (Markov). The bound is the least z at which it does not.

    Args:
        estimates: (M,) independent, E Ẑ = Z.
        alpha: error probability.

    Raises:
        InvalidInput: fewer than two, negative or not finite, or ``alpha`` outside (0, 1).
    """
    from scipy import optimize  # here: it takes long to import

    z = _checked(estimates)
    level = -math.log(check_between("alpha", alpha, 0.0, 1.0))
    if not z.any():
        return 0.0
    scale = float(z.max())

    def excess(log_z: float) -> float:
        stakes = np.log1p(_BETS[:, None] * (z / scale * math.exp(-log_z) - 1.0)).sum(axis=1)
        return float(np.logaddexp.reduce(stakes)) - math.log(len(_BETS)) - level

    low = -1.0
    while excess(low) <= 0:  # at z → 0 every stake has won
        low *= 2.0
    root = cast(float, optimize.brentq(excess, low, math.log(len(z)) + 1.0, xtol=1e-10))
    return scale * math.exp(root)


def _checked(estimates: npt.ArrayLike) -> FloatArray:
    z = np.asarray(estimates, dtype=np.float64)
    if z.ndim != 1 or len(z) < 2 or not np.isfinite(z).all() or (z < 0).any():
        raise InvalidInput(f"needs at least two estimates, finite and >= 0, got {estimates!r}")
    return z
