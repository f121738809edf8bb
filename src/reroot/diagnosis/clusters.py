"""Intervals where several attempts share a line: the line is what was drawn, so it counts once.

A data file has finitely many lines. Attempts on one line under several seeds, and on lines that repeat
a prompt, are a *cluster*: a greedy learner does the same in all of them, others nearly so. With C
clusters every number here is a function of the C means within clusters, whatever their sizes; with one
attempt per cluster it is the number of the plain formula, to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..errors import InvalidInput
from ..types import FloatArray
from .intervals import Interval, clopper_pearson

_LOG_GRID = np.arange(-23.0, 14.0, 0.05)
"""Logarithms of the frequencies, in units of 1/standard deviation, of the inversion in ``_below``."""

_HALVINGS = 32
"""Bisections for a bound: to 2e-10."""


def cluster_means(values: npt.ArrayLike, clusters: Sequence[object]) -> FloatArray:
    """(C,) mean of each cluster, in the order in which clusters first appear.

    Args:
        values: (attempts,) one number per attempt.
        clusters: (attempts,) the cluster of each.

    Raises:
        InvalidInput: unequal lengths.
    """
    table = np.asarray(values, dtype=np.float64)
    index, sizes = _index(clusters)
    if table.shape != index.shape:
        raise InvalidInput(f"needs one cluster per value, got {table.shape} and {index.shape}")
    sums = np.zeros(len(sizes))
    np.add.at(sums, index, table)
    return sums / sizes


def cluster_weights(clusters: Sequence[object]) -> FloatArray:
    """(attempts,) 1 / size of the attempt's cluster, so that each cluster weighs 1."""
    index, sizes = _index(clusters)
    return 1.0 / sizes[index]


def pass_interval(
    passed: npt.ArrayLike, clusters: Sequence[object], confidence: float = 0.95
) -> Interval:
    """Interval of a pass rate over clusters; (0, 1) without attempts. See ``bounded_interval``."""
    return bounded_interval(cluster_means(passed, clusters), confidence)


def standard_error(shares: npt.ArrayLike) -> float | None:
    """Standard error of the mean of C independent numbers, s/√C; ``None`` of fewer than two."""
    values = np.asarray(shares, dtype=np.float64)
    return None if len(values) < 2 else float(values.std(ddof=1) / np.sqrt(len(values)))


def bounded_interval(shares: npt.ArrayLike, confidence: float = 0.95) -> Interval:
    """Two-sided interval of the mean of independent numbers in [0, 1], from C of them.

    Gaffke's bounds: the upper one is the 1 − α/2 quantile of Σ D_i x_i + D_{C+1}·1, D uniform on the
    simplex; the lower one has 0 in place of that 1. Where every number is 0 or 1 (all attempts on each
    line agree) that is Clopper-Pearson on C lines, which is exact. For other laws on [0, 1] the coverage is
    conjectured to hold at any C and was never seen to fail (Gaffke 2005; Learned-Miller & Thomas
    2019, arXiv 1905.06208); it assumes nothing of how attempts on one line depend on each other.

    Raises:
        InvalidInput: a number outside [0, 1].
    """
    values, counts = np.unique(np.asarray(shares, dtype=np.float64), return_counts=True)
    if not ((values >= 0) & (values <= 1)).all():
        raise InvalidInput(f"shares must lie in [0, 1], got {values!r}")
    if np.isin(values, (0.0, 1.0)).all():
        return clopper_pearson(int(counts[values == 1.0].sum()), int(counts.sum()), confidence)
    alpha = (1.0 - confidence) / 2
    low = _lower(values, counts, alpha)
    return Interval(low, 1.0 - _lower(1.0 - values[::-1], counts[::-1], alpha))


def mean_of_means(
    estimates: Sequence[float], intervals: Sequence[Sequence[float]]
) -> tuple[float, Interval]:
    """Unweighted mean of estimates from independent data sets, and its interval.

    The distances of each estimate to the ends of its interval are added as squares, each side by
    itself (the method of variance estimates recovery), so that the interval has no width 0 where all
    attempts agree. Source: Zou & Donner 2008, Statistics in Medicine 27.
    """
    means, ends = np.asarray(estimates, dtype=np.float64), np.asarray(intervals, dtype=np.float64)
    mean = float(means.mean())
    below, above = (float(np.sqrt(((ends[:, i] - means) ** 2).sum())) for i in (0, 1))
    return mean, Interval(mean - below / len(means), mean + above / len(means))


def difference_of_independent(
    first: tuple[float, Sequence[float]], second: tuple[float, Sequence[float]]
) -> tuple[float, Interval]:
    """First minus second of two independent estimates, each with its interval; and an interval of that.

    The method of variance estimates recovery, as in ``mean_of_means``; with intervals of pass rates it is
    Newcombe's hybrid (1998, Statistics in Medicine 17, method 10), here with intervals that err on the
    safe side.
    """
    (a, around), (b, around_b) = first, second
    low = math.hypot(a - around[0], around_b[1] - b)
    high = math.hypot(around[1] - a, b - around_b[0])
    return a - b, Interval(a - b - low, a - b + high)


def _index(clusters: Sequence[object]) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """(attempts,) number of each attempt's cluster, and (C,) their sizes."""
    ids = {cluster: i for i, cluster in enumerate(dict.fromkeys(clusters))}
    index = np.array([ids[cluster] for cluster in clusters], dtype=np.int64)
    return index, np.bincount(index, minlength=len(ids)).astype(np.float64)


def _lower(values: FloatArray, counts: npt.NDArray[np.int64], alpha: float) -> float:
    """The α quantile of a mean of ``values`` and one 0, with Dirichlet weights; by bisection."""
    points, sizes = np.append(values, 0.0), np.append(counts, 1).astype(np.float64)
    low, high = 0.0, float(values @ counts / counts.sum())
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _below(points - middle, sizes) < alpha:
            low = middle
        else:
            high = middle
    return low


def _below(scales: FloatArray, sizes: FloatArray) -> float:
    """Pr(Σ λ_i·Γ(a_i) <= 0): its characteristic function inverted at 0 (Gil-Pelaez 1951).

    Substituting the logarithm of the frequency makes the trapezoidal rule exact to rounding.
    """
    frequencies = np.exp(_LOG_GRID) / np.sqrt(sizes @ scales**2)
    turned = np.outer(scales, frequencies)
    angle = sizes @ np.arctan(turned)
    size = np.exp(-0.5 * (sizes @ np.log1p(turned**2)))
    return 0.5 - float((np.sin(angle) * size).sum()) * (_LOG_GRID[1] - _LOG_GRID[0]) / np.pi
