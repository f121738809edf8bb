"""The plurality of m conditional draws: bounds on its error, and the error itself."""

from __future__ import annotations

import math

import numpy as np

from ..checks import check_between, check_int
from ..errors import InvalidInput, nearest
from ..types import FloatArray
from .hidden_path import other_probability

_DIRECT = 512  # counts up to which powers are taken by convolution: accurate for every K
_TAIL = 1e-18  # terms below do not count


def plurality_draws(
    vocab_size: int, horizon: int, p: float, delta: float, bound: str = "chernoff"
) -> int:
    """m: conditional draws per prefix with which the plurality walk finds the hidden path.

    The path token loses its stage only if some other token is drawn at least as often; a union
    over (K - 1)·H such pairs gives failure probability at most δ with

    * Hoeffding: m = ⌈(2/(p - q)²)·log((K - 1)·H/δ)⌉,
    * Chernoff:  m = ⌈log((K - 1)·H/δ) / -log(1 - (√p - √q)²)⌉, never larger,
    * exact: the smallest m with 1 - (1 - ``plurality_error``)^H <= δ.

    Args:
        vocab_size: K >= 2.
        horizon: H >= 1 tokens.
        p: probability of the path token, 1/K < p < 1.
        delta: failure probability, 0 < δ < 1.
        bound: ``"chernoff"``, ``"hoeffding"`` or ``"exact"``.

    Raises:
        InvalidInput: an argument is out of range, or the bound is unknown.
    """
    q = other_probability(vocab_size, horizon, p)
    check_between("delta", delta, 0.0, 1.0)
    nats = math.log(vocab_size - 1) + math.log(horizon) - math.log(delta)
    if bound == "hoeffding":
        return max(1, math.ceil(2 * nats / (p - q) ** 2))
    distance = (p - q) / (math.sqrt(p) + math.sqrt(q))  # √p - √q without cancellation
    chernoff = max(1, math.ceil(nats / -math.log1p(-(distance**2))))
    if bound == "chernoff":
        return chernoff
    if bound != "exact":
        hint = nearest(str(bound), ["chernoff", "exact", "hoeffding"])
        raise InvalidInput(f"unknown bound {bound!r}.{hint}")
    stage = -math.expm1(math.log1p(-delta) / horizon)
    low, high = 0, chernoff  # more draws never hurt: the plurality is the Bayes rule
    while high - low > 1:
        middle = (low + high) // 2
        if plurality_error(vocab_size, p, middle) <= stage:
            high = middle
        else:
            low = middle
    return high


def plurality_error(vocab_size: int, p: float, draws: int) -> float:
    """Exact probability that the plurality of m draws is not the path token, ties broken uniformly.

    Given that the path token was drawn c times, the other m - c draws are uniform over K - 1
    tokens: t of them tie and the rest stay below with probability C(K - 1, t)·f_c^t times the
    (K - 1 - t)-fold convolution of (f_0 … f_(c-1)) at m - c - t·c, over the total, where f are
    Poisson weights (their total is conditioned on). Absolute error below 1e-11.

    Args:
        vocab_size: K >= 2.
        p: probability of the path token, 1/K < p < 1.
        draws: m >= 0.

    Raises:
        InvalidInput: an argument is out of range.
    """
    from scipy import stats

    other_probability(vocab_size, 1, p)
    if check_int("draws", draws) == 0:
        return 1.0 - 1.0 / vocab_size
    counts = np.arange(1, draws + 1)
    weights = stats.binom.pmf(counts, draws, p)
    likely = weights > _TAIL
    wins = [_leads(vocab_size - 1, draws - int(c), int(c)) for c in counts[likely]]
    return min(1.0, max(0.0, 1.0 - float(weights[likely] @ np.array(wins))))


def _leads(rivals: int, rest: int, own: int) -> float:
    """Probability that ``rest`` uniform draws over ``rivals`` tokens leave a count of ``own`` ahead.

    A tie with t tokens counts 1/(t + 1).
    """
    from scipy import stats

    if rest < own:
        return 1.0
    rate = rest / rivals
    f = stats.poisson.pmf(np.arange(own + 1), rate)
    total = float(stats.poisson.pmf(rest, rest))
    won, choices = 0.0, 1.0  # choices: C(rivals, t)·f_own^t
    for t in range(min(rivals, rest // own) + 1):
        term = choices * _power(f[:own], rivals - t, rest - t * own) / (total * (t + 1))
        won += term
        choices *= (rivals - t) / (t + 1) * float(f[own])
        if choices < _TAIL * total:
            break
    return won


def _power(f: FloatArray, n: int, at: int) -> float:
    """Entry ``at`` of the n-fold convolution of ``f``."""
    if n == 0:
        return float(at == 0)
    if at > n * (len(f) - 1):
        return 0.0
    if at > _DIRECT:
        size = 1 << (4 * at + 256).bit_length()  # the mean is at most ``at``
        return max(0.0, float(np.fft.irfft(np.fft.rfft(f, size) ** n, size)[at]))
    result, base = np.ones(1), f[: at + 1]
    while n:
        if n & 1:
            result = np.convolve(result, base)[: at + 1]
        n >>= 1
        base = np.convolve(base, base)[: at + 1] if n else base
    return float(result[at]) if at < len(result) else 0.0
