"""Pairs of next-token laws that one interface shows alike and another one does not, by enumeration.

Candidates are heads (what a list or a truncated law shows) with tails behind them, in many masses and
shapes. Those that a weaker interface shows alike are grouped; a pair is two of a group that the
stronger interface tells apart.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ...contract import Contract, Control, Report, Sampling
from ...types import FloatArray, IntArray
from ..law import log_normalize, most_likely, sampling_laws
from .pairs import DIGITS, Pair, shown, total_variation
from .place import Interface

_CLEAR = 0.01  # a pair that far apart needs no better one
_LOOK = 40  # groups that are looked at for a clearer pair
_MOST = 64  # tokens of a candidate at most


class _Pool(NamedTuple):
    """What candidates depend on: temperatures, tokens kept, tokens listed, top-p held and wanted."""

    temperatures: tuple[float, ...]
    kept: int
    listed: int
    held: float
    wanted: float


def indistinguishable(has: Interface, wants: Interface) -> Pair | None:
    """Two laws of one token that answers at ``has`` cannot tell apart and one at ``wants`` can.

    Only for interfaces without a bias: with one every law shows. ``None``: none was found.
    """
    if has.bias is not None:
        return None
    at = Control.CHOSEN  # at one prefix control does not matter
    weak, strong = has.contract.resolved, wants.contract.resolved
    weak = Interface(Contract(at, weak.report, weak.sampling))
    return _looked_for(weak, Interface(Contract(at, strong.report, strong.sampling), wants.bias))


@functools.lru_cache(maxsize=8192)
def _looked_for(has: Interface, wants: Interface) -> Pair | None:
    weak, strong = _law(has), _law(wants)
    listed = has.contract.report.top
    pool = _Pool(
        tuple(dict.fromkeys((weak.temperature or 1.0, strong.temperature or 1.0))),
        max(listed, weak.top_k if weak.top_p == 1.0 else 0, 1),
        listed,
        weak.top_p,
        strong.top_p,
    )
    size = _laws(pool).shape[1]
    for shift in _shifts(wants, size):
        found = _pair(pool, has, wants, shift)
        if found is not None:
            return found
    return None


def _law(one: Interface) -> Sampling:
    sampling = one.contract.sampling
    assert sampling is not None
    return sampling


def _shifts(wants: Interface, size: int) -> Iterator[tuple[int, float]]:
    """(token, nats): biases that a stronger interface may choose; none comes first."""
    yield 0, 0.0
    if wants.bias is not None:
        up = min(3.0, wants.bias.bound)
        yield from itertools.product(range(size), (up, -up))


def _pair(pool: _Pool, has: Interface, wants: Interface, shift: tuple[int, float]) -> Pair | None:
    """The first clear pair, or else the clearest, of the first groups that are told apart."""
    groups = _groups(pool, has.contract.report, _law(has), (0, 0.0))
    told = _groups(pool, wants.contract.report, _law(wants), shift)
    order = np.lexsort((np.arange(len(groups)), groups))
    split = (groups[order][1:] == groups[order][:-1]) & (told[order][1:] != told[order][:-1])
    best: Pair | None = None
    beta = np.zeros(_laws(pool).shape[1])
    beta[shift[0]] = shift[1]
    for at in np.flatnonzero(split)[:_LOOK].tolist():
        laws = _laws(pool)[order[[at, at + 1]]]
        one, other = (shown(x, has.contract.report, _law(has)) for x in laws)
        if total_variation(one, other) > 1e-12:  # alike to rounding only
            continue
        first, second = (shown(x, wants.contract.report, _law(wants), beta) for x in laws)
        tv = total_variation(first, second)
        if tv > max(1e-6, best.tv if best else 0.0):
            p, q = (tuple(np.exp(law).tolist()) for law in laws)
            what = f"{has.contract.report} at {_law(has)} shows the same"
            least = max(2, has.contract.report.top, wants.contract.report.top)
            best = Pair(*_trimmed(p, q, least), "∅", what, tv)
        if best is not None and best.tv > _CLEAR:
            break
    return best


def _trimmed(
    p: tuple[float, ...], q: tuple[float, ...], least: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Without the tokens at the end that neither can draw, but ``least``."""
    size = max(least, *(1 + max(i for i, x in enumerate(law) if x > 0) for law in (p, q)))
    return p[:size], q[:size]


@functools.lru_cache(maxsize=512)
def _groups(pool: _Pool, report: Report, sampling: Sampling, shift: tuple[int, float]) -> IntArray:
    """(n,) candidates with the same number show the same: what is listed, or all that can be drawn."""
    laws = _laws(pool)
    if shift[1]:
        beta = np.zeros(laws.shape[1])
        beta[shift[0]] = shift[1]
        laws = log_normalize(laws + beta)
    seen = np.round(np.exp(sampling_laws(laws, sampling)), DIGITS)
    if not report.draws:
        ids = most_likely(np.where(seen > 0, seen, -np.inf), min(report.top, seen.shape[1]))
        values = np.take_along_axis(seen, ids, axis=1)
        seen = np.concatenate([values, np.where(values > 0, ids, -1)], axis=1)
    return np.unique(seen, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


# ---- candidates --------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=256)
def _laws(pool: _Pool) -> FloatArray:
    """(n, K) nats: candidates at temperature 1."""
    size = _size(pool)
    rows = {tuple(np.round(x, 15)) for x in _shapes(pool, size)}
    shaped = np.array(sorted(rows, reverse=True))
    with np.errstate(divide="ignore"):
        logs = np.log(shaped)
    return np.concatenate([log_normalize(tau * logs) for tau in pool.temperatures])


def _size(pool: _Pool) -> int:
    """K: so many tokens that what is listed may fall short of top-p."""
    return min(_MOST, max(8, math.ceil(1.5 * (pool.kept + 1) / min(pool.held, pool.wanted)) + 2))


def _shapes(pool: _Pool, size: int) -> Iterator[FloatArray]:
    """(K,) probabilities at one of the pool's temperatures: heads of some mass, each with its tails."""
    for count in sorted({pool.kept, pool.kept + 1, 2, 1}, reverse=True):
        masses = _masses(pool, count, size)
        for head, mass in itertools.product(_heads(pool, count, masses), masses):
            for tail in _tails(size - count, 1 - mass, mass * float(head.min())):
                law = np.concatenate([mass * head, tail])
                yield law
                last = int(np.flatnonzero(law)[-1])
                if (
                    0 < pool.listed < last
                ):  # the first token that a list does not show, and the last
                    other = law.copy()
                    other[[pool.listed, last]] = law[[last, pool.listed]]
                    yield other


def _masses(pool: _Pool, count: int, size: int) -> list[float]:
    """Of a head: most, short of all by less than top-p needs, and hardly more than its share."""
    flat = 1.2 * count / size
    short = [1 - part * (1 - pi) for pi in (pool.held, pool.wanted) for part in (0.1, 0.3, 0.8)]
    return sorted({1.0, 0.95, 0.8, 0.6, 0.4, flat, *short}, reverse=True)


def _heads(pool: _Pool, count: int, masses: list[float]) -> Iterator[FloatArray]:
    """(count,) probabilities: falling, flat, and with a first token that reaches top-p by itself or not."""
    for ratio in (0.8, 0.97):
        head = ratio ** np.arange(count)
        yield head / head.sum()
    for pi, mass in itertools.product((pool.held, pool.wanted), masses[1:4]):
        first = pi * (1 + mass) / (2 * mass)  # at or above top-p as long as nothing is outside
        if pi < 1 and count > 1 and first < 1:
            rest = 0.8 ** np.arange(count - 1)
            yield np.concatenate([[first], (1 - first) * rest / rest.sum()])


def _tails(size: int, mass: float, cap: float) -> Iterator[FloatArray]:
    """(size,) probabilities of that mass, none above ``cap``: on one, two, three or all tokens."""
    for shape in ((1.0,), (0.5, 0.5), (0.9, 0.1), (0.1, 0.9), (1 / 3,) * 3, (1 / size,) * size):
        tail = mass * np.array(shape)
        if tail.max() <= cap:
            yield np.concatenate([tail, np.zeros(size - len(shape))])
    if cap > 0 and 1 < (full := math.floor(mass / cap)) < size:  # as steep as it can be
        steep = np.zeros(size)
        steep[:full], steep[full] = cap, mass - full * cap
        yield steep
