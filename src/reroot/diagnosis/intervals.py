"""Intervals for pass rates and differences, and the exact law of best-of-N.

Notation: n attempts, k of them passed, α the error probability of an interval, p the probability
that one rollout passes, N rollouts. Logarithms are natural.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from ..errors import InvalidInput
from ..types import FloatArray

_SMALL = -36.0
"""log p below which −log(1 − p) equals p to the last bit of a double."""

_ROUNDING = 1e-12
"""Relative excess of wins + losses over the attempts that scaling counts may leave."""

MANY = 2_000
"""Problems, or trials, beyond which ``bootstrap_interval`` draws nothing and ``poisson_binomial`` multiplies."""

_THETA_SHARE = 0.75
"""Share of α that ``paired_difference`` spends on the sign of the difference."""


class Interval(NamedTuple):
    """A closed interval; ``nan`` bounds where the data determine none."""

    low: float
    high: float


def lower_bound(passed: npt.ArrayLike, attempts: npt.ArrayLike, alpha: float) -> FloatArray:
    """Exact lower bound of a binomial probability, wrong with probability at most ``alpha``.

    Counts may be fractional (for planning) and broadcast. Source: Clopper & Pearson (1934).

    Raises:
        InvalidInput: not 0 <= passed <= attempts, or ``alpha`` outside (0, 1).
    """
    k, n = _counts(passed, attempts, alpha)
    inside = k > 0
    safe = np.where(inside, k, 1.0)
    return np.where(inside, special.betaincinv(safe, np.maximum(n - safe, 0.0) + 1, alpha), 0.0)


def upper_bound(passed: npt.ArrayLike, attempts: npt.ArrayLike, alpha: float) -> FloatArray:
    """Exact upper bound of a binomial probability, wrong with probability at most ``alpha``."""
    k, n = _counts(passed, attempts, alpha)
    return 1.0 - lower_bound(n - k, n, alpha)


def clopper_pearson(passed: float, attempts: float, confidence: float = 0.95) -> Interval:
    """Exact two-sided interval of a pass rate; (0, 1) without attempts."""
    alpha = (1.0 - confidence) / 2
    low, high = lower_bound(passed, attempts, alpha), upper_bound(passed, attempts, alpha)
    return Interval(float(low), float(high))


def paired_difference(
    wins: npt.ArrayLike,
    losses: npt.ArrayLike,
    attempts: npt.ArrayLike,
    *,
    alpha_low: float,
    alpha_high: float,
) -> tuple[FloatArray, FloatArray]:
    """Exact bounds for the difference of two pass rates measured on the same attempts.

    The difference is d = D·(2θ − 1): D the probability that exactly one of the two passes, θ the
    probability that it is the first one. Each one-sided bound spends 3/4 of its α on a
    Clopper-Pearson bound of θ given the discordant attempts and 1/4 on one of D, so it is valid for
    any n, and the lower bound is positive exactly when McNemar's exact one-sided test rejects at
    3α/4.

    Args:
        wins: attempts that only the first passed; broadcasts, may be fractional.
        losses: attempts that only the second passed.
        attempts: number of paired attempts.
        alpha_low: error probability of the lower bound.
        alpha_high: error probability of the upper bound.

    Returns:
        Lower and upper bound, of the broadcast shape.

    Raises:
        InvalidInput: negative counts, or more discordant attempts than attempts.
    """
    up = _paired_lower(losses, wins, attempts, alpha_high)
    return _paired_lower(wins, losses, attempts, alpha_low), -up


def _paired_lower(
    wins: npt.ArrayLike, losses: npt.ArrayLike, attempts: npt.ArrayLike, alpha: float
) -> FloatArray:
    won, lost = np.asarray(wins, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    total = np.asarray(attempts, dtype=np.float64)
    discordant = won + lost
    if not (discordant <= total * (1 + _ROUNDING)).all():
        raise InvalidInput(
            f"needs at most as many discordant attempts as attempts, got {discordant!r} of {attempts!r}"
        )
    lead = 2.0 * lower_bound(won, discordant, _THETA_SHARE * alpha) - 1.0
    discordant = np.minimum(discordant, total)
    rest = (1.0 - _THETA_SHARE) * alpha
    few = lower_bound(discordant, total, rest)
    many = upper_bound(discordant, total, rest)
    return lead * np.where(lead > 0, few, many)


def bootstrap_means(
    values: npt.ArrayLike,
    clusters: Sequence[object],
    *,
    rng: np.random.Generator,
    draws: int = 2000,
) -> FloatArray:
    """Means of ``values`` over resampled problems, all columns with the same resample (paired).

    Args:
        values: (units,) or (units, columns), finite.
        clusters: (units,) the problem of each unit; its units stay together.
        rng: a keyed generator.
        draws: number of resamples B.

    Returns:
        (B, columns) resampled means.

    Raises:
        InvalidInput: no units, unequal lengths, or a value that is not finite.
    """
    return _resampled(*_clustered(values, clusters), rng, draws)


def _clustered(values: npt.ArrayLike, clusters: Sequence[object]) -> tuple[FloatArray, FloatArray]:
    """(clusters, columns) sums within clusters, and (clusters,) their sizes."""
    table = np.asarray(values, dtype=np.float64)
    table = table[:, None] if table.ndim == 1 else table
    if not len(table) or len(table) != len(clusters):
        raise InvalidInput(
            f"a bootstrap needs one cluster per unit, got {len(table)} units, {len(clusters)} clusters"
        )
    if not np.isfinite(table).all():
        raise InvalidInput("a bootstrap needs finite values")
    ids = {cluster: i for i, cluster in enumerate(dict.fromkeys(clusters))}
    index = np.array([ids[cluster] for cluster in clusters])
    sums = np.zeros((len(ids), table.shape[1]))
    np.add.at(sums, index, table)
    return sums, np.bincount(index).astype(np.float64)


def _resampled(
    sums: FloatArray, sizes: FloatArray, rng: np.random.Generator, draws: int
) -> FloatArray:
    weights = rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=draws)
    return (weights @ sums) / (weights @ sizes)[:, None]


def _of_many(sums: FloatArray, sizes: FloatArray, tail: float) -> Interval:
    """Quantiles of the resampled ratio of sums, linearized, from its variance and skewness."""
    mean = float(sums.sum() / sizes.sum())
    gaps = (sums - mean * sizes) / sizes.mean()
    error = float(np.sqrt((gaps**2).mean() / len(gaps)))
    if not error:
        return Interval(mean, mean)
    z = float(special.ndtri(tail))
    skewness = float((gaps**3).mean()) / (error * np.sqrt(len(gaps))) ** 3
    shift = skewness * (z * z - 1) / (6 * np.sqrt(len(gaps)))
    return Interval(float(mean + error * (shift + z)), float(mean + error * (shift - z)))


def bootstrap_interval(
    values: npt.ArrayLike,
    clusters: Sequence[object],
    *,
    rng: np.random.Generator,
    confidence: float = 0.95,
    draws: int = 2000,
) -> Interval:
    """Bootstrap interval of a mean over problems; for paired differences pass the differences.

    Percentiles are widened for few problems as in Hesterberg (2015), "What teachers should know
    about the bootstrap", §5.3: the normal level is replaced by the t level with C − 1 degrees of
    freedom times √(C/(C − 1)), C the number of problems. ``nan`` with fewer than two problems. Of more than
    ``MANY`` problems nothing is drawn: the law of the resampled mean is known to order 1/C (Cornish-Fisher).
    """
    sums, sizes = _clustered(values, clusters)
    count = len(sizes)
    if count < 2:
        return Interval(float("nan"), float("nan"))
    if count > MANY:
        return _of_many(sums[:, 0], sizes, (1 - confidence) / 2)
    means = _resampled(sums, sizes, rng, draws)[:, 0]
    t = special.stdtrit(count - 1, (1 - confidence) / 2)
    tail = float(special.ndtr(np.sqrt(count / (count - 1)) * t))
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(low), float(high))


def log_best_of_n(log_p: npt.ArrayLike, log_n: npt.ArrayLike) -> FloatArray:
    """log(1 − (1 − p)^N): log-probability that at least one of N rollouts passes.

    Stable for every log p <= 0 (−inf included) and every N >= 0, far below and above the range of
    doubles, because only log p and log N enter.

    Args:
        log_p: nats, log-probability that one rollout passes; broadcasts with ``log_n``.
        log_n: log of the number of rollouts; −inf for N = 0.

    Raises:
        InvalidInput: log p above 0, or nan.
    """
    p, n = np.asarray(log_p, dtype=np.float64), np.asarray(log_n, dtype=np.float64)
    if np.isnan(p).any() or np.isnan(n).any() or (p > 0).any():
        raise InvalidInput("log_best_of_n needs log p <= 0 and log N, neither nan")
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        hazard = np.where(p < _SMALL, p, np.log(-np.log1p(-np.exp(np.maximum(p, _SMALL)))))
        total = np.where((p == -np.inf) | (n == -np.inf), -np.inf, hazard + n)
        return np.where(total < _SMALL, total, np.log(-np.expm1(-np.exp(total))))


def best_of_n(log_p: npt.ArrayLike, n: npt.ArrayLike) -> FloatArray:
    """1 − (1 − p)^N from log p (nats) and N, exact to a few units in the last place.

    Raises:
        InvalidInput: log p above 0, N negative, or nan.
    """
    count = np.asarray(n, dtype=np.float64)
    if not (count >= 0).all():
        raise InvalidInput(f"the number of rollouts must be >= 0, got {n!r}")
    with np.errstate(divide="ignore"):
        return np.exp(log_best_of_n(log_p, np.log(count)))


def poisson_binomial(probabilities: npt.ArrayLike) -> FloatArray:
    """(n + 1,) exact law of the number of successes of n independent trials.

    As ``scipy.stats.poisson_binom``, bit for bit; importing that takes longer than a comparison. Of more than
    ``MANY`` trials by products of generating functions, to 1e-14: the other way takes n² steps.

    Raises:
        InvalidInput: a probability outside [0, 1].
    """
    ps = np.asarray(probabilities, dtype=np.float64).ravel()
    if not ((ps >= 0) & (ps <= 1)).all():
        raise InvalidInput("probabilities must lie in [0, 1]")
    if len(ps) > MANY:
        return _law_of_many(ps)
    law = np.zeros(len(ps) + 1)
    law[0] = 1.0
    for i, p in enumerate(ps):
        law[1 : i + 2] = law[1 : i + 2] * (1 - p) + law[: i + 1] * p
        law[0] *= 1 - p
    return law


def _law_of_many(ps: FloatArray) -> FloatArray:
    laws = np.stack([1 - ps, ps], axis=1)
    while len(laws) > 1:
        if len(laws) % 2:
            laws = np.vstack([laws, np.eye(1, laws.shape[1])])  # no trial at all
        size = 2 * laws.shape[1] - 1
        waves = np.fft.rfft(laws, size, axis=1)
        laws = np.fft.irfft(waves[::2] * waves[1::2], size, axis=1)
    return np.maximum(laws[0, : len(ps) + 1], 0.0)


def count_band(probabilities: npt.ArrayLike, confidence: float = 0.95) -> tuple[int, int]:
    """Counts that n independent trials stay within: each tail outside has at most (1 − c)/2.

    Returns:
        (low, high), both included: Pr(X < low) and Pr(X > high) are at most (1 − confidence)/2.
    """
    law = poisson_binomial(probabilities)
    tail = (1 - confidence) / 2 * (1 + 1e-12)
    below = np.cumsum(law) - law  # Pr(X < x)
    above = np.cumsum(law[::-1])[::-1] - law  # Pr(X > x)
    return int(np.flatnonzero(below <= tail)[-1]), int(np.flatnonzero(above <= tail)[0])


def _counts(
    passed: npt.ArrayLike, attempts: npt.ArrayLike, alpha: float
) -> tuple[FloatArray, FloatArray]:
    k, n = np.broadcast_arrays(
        np.asarray(passed, dtype=np.float64), np.asarray(attempts, dtype=np.float64)
    )
    if not ((k >= 0) & (k <= n)).all():
        raise InvalidInput(f"needs 0 <= passed <= attempts, got {passed!r} of {attempts!r}")
    if not 0 < alpha < 1:
        raise InvalidInput(f"alpha must lie in (0, 1), got {alpha!r}")
    return k, n
