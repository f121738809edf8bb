"""Exact limits of what a learner can do through an interface, evaluated in log space.

Notation as in ``types``; on the hidden path the path token has probability p and each of the other
K - 1 tokens has q = (1 - p)/(K - 1). Source: *The Role of Generator Access in Autoregressive
Post-Training* (arXiv 2604.04855), with exact values in place of bounds.
"""

from __future__ import annotations

import math

import numpy as np

from .errors import InvalidInput, nearest


def plurality_draws(
    vocab_size: int, horizon: int, p: float, delta: float, bound: str = "chernoff"
) -> int:
    """m: conditional draws per prefix with which the plurality walk finds the hidden path.

    The path token loses its stage only if some other token is drawn at least as often; a union
    over (K - 1)·H such pairs gives failure probability at most delta with

    * Hoeffding: m = ⌈(2/(p - q)²)·log((K - 1)·H/delta)⌉,
    * Chernoff:  m = ⌈log((K - 1)·H/delta) / -log(1 - (√p - √q)²)⌉, never larger.

    Args:
        vocab_size: K >= 2.
        horizon: H >= 1 tokens.
        p: probability of the path token, 1/K < p < 1.
        delta: failure probability, 0 < delta < 1.
        bound: ``"chernoff"`` or ``"hoeffding"``.

    Raises:
        InvalidInput: an argument is out of range, or the bound is unknown.
    """
    q = _other(vocab_size, horizon, p)
    if not 0 < delta < 1:
        raise InvalidInput(f"delta must lie in (0, 1), got {delta!r}")
    nats = math.log(vocab_size - 1) + math.log(horizon) - math.log(delta)
    if bound == "hoeffding":
        return max(1, math.ceil(2 * nats / (p - q) ** 2))
    if bound == "chernoff":
        distance = (p - q) / (math.sqrt(p) + math.sqrt(q))  # √p - √q without cancellation
        return max(1, math.ceil(nats / -math.log1p(-(distance**2))))
    raise InvalidInput(f"unknown bound {bound!r}.{nearest(str(bound), ['chernoff', 'hoeffding'])}")


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
    _other(vocab_size, horizon, p)
    for name, value in (("rollouts", rollouts), ("reward_queries", reward_queries)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInput(f"{name} must be an integer >= 0, got {value!r}")
    guesses, log_vocab = math.log(reward_queries + 1), math.log(vocab_size)
    if rollouts == 0:  # nothing was seen, not even the first token
        return min(0.0, guesses - horizon * log_vocab)
    unknown = np.maximum(0, horizon - 1 - np.arange(horizon + 1))
    hits = np.minimum(0.0, guesses - unknown * log_vocab)
    log_terms = _log_depths(math.log(rollouts), horizon, p) + hits
    return min(0.0, float(np.logaddexp.reduce(log_terms)))


def _log_depths(log_n: float, horizon: int, p: float) -> np.ndarray:
    """(H + 1,) nats: log Pr(D = d), d = 0…H, for N = exp(log_n) rollouts on the hidden path.

    With a_d = -log(1 - p^(d+1)) and F(d) = exp(-N·a_d) = Pr(D <= d), the differences of F are
    taken as F(d)·(1 - exp(-N·(a_(d-1) - a_d))), so that nothing cancels.
    """
    log_p = math.log(p)
    log_power = np.arange(1, horizon + 1) * log_p  # log p^(d+1), d = 0…H-1
    missed = np.log1p(-np.exp(log_power))  # -a_d
    # log a_d, by its series log p^(d+1) where 1 - p^(d+1) rounds to 1
    log_a = np.where(log_power < -36.0, log_power, np.log(np.maximum(-missed, 1e-300)))
    # a_(d-1) - a_d = log1p(p^d (1 - p) / (1 - p^d)), d = 1…H-1
    ratio = np.exp(log_power[:-1]) * (1.0 - p) / -np.expm1(log_power[:-1])
    series = log_power[:-1] + math.log1p(-p)
    log_gap = np.where(log_power[:-1] < -36.0, series, np.log(np.maximum(np.log1p(ratio), 1e-300)))
    with np.errstate(over="ignore"):  # N·a_d beyond the floats: Pr = 0, as it should be
        below = -np.exp(log_n + log_a)  # log F(d)
        steps = _log_one_minus_exp(log_n + log_gap)
        top = _log_one_minus_exp(log_n + log_a[-1:])
    return np.concatenate([below[:1], below[1:] + steps, top])


def _log_one_minus_exp(log_x: np.ndarray) -> np.ndarray:
    """log(1 - exp(-x)) for x = exp(log_x) > 0, also where x underflows (then it is log x)."""
    x = np.exp(log_x)
    return np.where(log_x < -36.0, log_x, np.log(np.maximum(-np.expm1(-x), 1e-300)))


def _other(vocab_size: int, horizon: int, p: float) -> float:
    """q = (1 - p)/(K - 1), after checking K, H and p (``InvalidInput``)."""
    for name, value, least in (("vocab_size", vocab_size, 2), ("horizon", horizon, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInput(f"{name} must be an integer >= {least}, got {value!r}")
    if not 1 / vocab_size < p < 1:
        raise InvalidInput(f"p must lie in (1/{vocab_size}, 1), got {p!r}")
    return (1.0 - p) / (vocab_size - 1)
