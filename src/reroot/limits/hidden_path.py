"""The hidden path from the root: how deep rollouts get, and what is known then."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ..checks import check_between, check_int
from ..types import FloatArray, IntArray
from .rollouts import smallest

_SMALL = -36.0
"""log x below which log(1 - exp(-x)) equals log x, and log(1 - x) equals -x, to the last bit."""


def other_probability(vocab_size: int, horizon: int, p: float) -> float:
    """q = (1 - p)/(K - 1), after checking K, H and p (``InvalidInput``)."""
    check_int("vocab_size", vocab_size, 2)
    check_int("horizon", horizon, 1)
    check_between("p", p, 1 / vocab_size, 1.0)
    return (1.0 - p) / (vocab_size - 1)


def root_success(
    rollouts: int, vocab_size: int, horizon: int, p: float, reward_queries: int = 0
) -> float:
    """Best probability of naming the hidden path after root-start rollouts with FULL reports.

    D, the number of leading path tokens matched by the best of N rollouts, has
    Pr(D <= d) = (1 - p^(d+1))^N for d < H. The law at depth D shows one more token; the other
    n(d) = max(0, H - 1 - d) are uniform given the transcript, so with M reward queries

        S_root(N, M) = Σ_d Pr(D = d)·min(1, (M + 1)·K^(-n(d))).

    Evaluated in log space: N up to 1e30 and beyond, H up to 1e4 and beyond. Values below the
    smallest float come out as 0; ``log_root_success`` keeps them.

    Args:
        rollouts: N >= 0.
        vocab_size: K >= 2.
        horizon: H >= 1 tokens.
        p: probability of the path token, 1/K < p < 1.
        reward_queries: M >= 0 outcome rewards asked before the answer.

    Raises:
        InvalidInput: an argument is out of range.
    """
    return math.exp(log_root_success(rollouts, vocab_size, horizon, p, reward_queries))


def log_root_success(
    rollouts: int, vocab_size: int, horizon: int, p: float, reward_queries: int = 0
) -> float:
    """log S_root(N, M), nats; arguments and errors as for ``root_success``."""
    other_probability(vocab_size, horizon, p)
    check_int("rollouts", rollouts)
    check_int("reward_queries", reward_queries)
    guesses, log_vocab = math.log(reward_queries + 1), math.log(vocab_size)
    if rollouts == 0:  # nothing was seen, not even the first token
        return min(0.0, guesses - horizon * log_vocab)
    unknown = np.maximum(0, horizon - 1 - np.arange(horizon + 1))
    hits = np.minimum(0.0, guesses - unknown * log_vocab)
    log_terms = log_depths(rollouts, horizon, p) + hits
    return min(0.0, float(np.logaddexp.reduce(log_terms)))


def root_rollouts(
    success: float, vocab_size: int, horizon: int, p: float, reward_queries: int = 0
) -> int:
    """The smallest N with S_root(N, M) >= ``success``; about p^(1-H)·log 2 for one half.

    Args:
        success: probability in (0, 1).
        vocab_size, horizon, p, reward_queries: as for ``root_success``.

    Raises:
        InvalidInput: an argument is out of range.
    """
    target = math.log(check_between("success", success, 0.0, 1.0))
    return smallest(lambda n: log_root_success(n, vocab_size, horizon, p, reward_queries) >= target)


def root_depths(rollouts: int, horizon: int, p: float, uniforms: npt.ArrayLike) -> IntArray:
    """D of N rollouts, drawn exactly in law from one uniform each, whatever N is.

    By inverse transform: D is the smallest d < H with u <= (1 - p^(d+1))^N, or H.

    Args:
        rollouts: N >= 1.
        horizon: H >= 1 tokens.
        p: probability of the path token, 0 < p < 1.
        uniforms: (n,) numbers in [0, 1).

    Returns:
        (n,) depths in 0…H.

    Raises:
        InvalidInput: an argument is out of range.
    """
    check_int("rollouts", rollouts, 1)
    check_int("horizon", horizon, 1)
    check_between("p", p, 0.0, 1.0)
    with np.errstate(divide="ignore"):
        nats = -np.log(np.asarray(uniforms, dtype=np.float64))  # D <= d where N·a_d <= nats
        # 1 - u^(1/N) = -expm1(-nats/N), in logs as N may pass the floats
        log_share = np.log(nats) - math.log(rollouts)
        log_miss = np.where(
            log_share < _SMALL, log_share, np.log(-np.expm1(-np.exp(np.maximum(log_share, _SMALL))))
        )
        depth = np.ceil(log_miss / math.log(p)) - 1
    return np.clip(depth, 0, horizon).astype(np.int64)


def log_depths(rollouts: int, horizon: int, p: float) -> FloatArray:
    """(H + 1,) nats: log Pr(D = d), d = 0…H, for N >= 1 rollouts on the hidden path.

    With a_d = -log(1 - p^(d+1)) and F(d) = exp(-N·a_d) = Pr(D <= d), the differences of F are
    taken as F(d)·(1 - exp(-N·(a_(d-1) - a_d))), so that nothing cancels.
    """
    log_n, log_p = math.log(rollouts), math.log(p)
    log_power = np.arange(1, horizon + 1) * log_p  # log p^(d+1), d = 0…H-1
    missed = np.log1p(-np.exp(log_power))  # -a_d
    # log a_d, by its series log p^(d+1) where 1 - p^(d+1) rounds to 1
    log_a = np.where(log_power < _SMALL, log_power, np.log(np.maximum(-missed, 1e-300)))
    # a_(d-1) - a_d = log1p(p^d (1 - p) / (1 - p^d)), d = 1…H-1
    ratio = np.exp(log_power[:-1]) * (1.0 - p) / -np.expm1(log_power[:-1])
    series = log_power[:-1] + math.log1p(-p)
    log_gap = np.where(log_power[:-1] < _SMALL, series, np.log(np.maximum(np.log1p(ratio), 1e-300)))
    with np.errstate(over="ignore"):  # N·a_d beyond the floats: Pr = 0, as it should be
        below = -np.exp(log_n + log_a)  # log F(d)
        steps = _log_one_minus_exp(log_n + log_gap)
        top = _log_one_minus_exp(log_n + log_a[-1:])
    return np.concatenate([below[:1], below[1:] + steps, top])


def _log_one_minus_exp(log_x: FloatArray) -> FloatArray:
    """log(1 - exp(-x)) for x = exp(log_x) > 0, also where x underflows (then it is log x)."""
    x = np.exp(log_x)
    return np.where(log_x < _SMALL, log_x, np.log(np.maximum(-np.expm1(-x), 1e-300)))
