"""Resampling: which particles go on, how many times each; unbiased in every scheme.

With weights W of sum 1 each of n particles has n·W expected copies. A uniform number enters only by
the interval between break points that it falls into, so every scheme is a sequence of choices.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...access.session import Session
from ...types import FloatArray
from .choices import choose

Resampler = Callable[["Session", FloatArray], list[int]]
"""(session, (n,) weights of sum 1) → n indices, ascending for all but the multinomial one."""


def multinomial(session: Session, weights: FloatArray) -> list[int]:
    """n independent choices."""
    return [choose(session, weights) for _ in weights]


def systematic(session: Session, weights: FloatArray) -> list[int]:
    """One uniform number u: the particles at u/n, (1 + u)/n, … of the cumulative weights."""
    n = len(weights)
    cumulative = _cumulative(weights) * n
    place = _uniform(session, np.mod(cumulative, 1.0))
    return _at(cumulative, [i + place for i in range(n)])


def stratified(session: Session, weights: FloatArray) -> list[int]:
    """One uniform number in each n-th of the cumulative weights."""
    n = len(weights)
    cumulative = _cumulative(weights) * n
    places = [
        i + _uniform(session, cumulative[(cumulative > i) & (cumulative < i + 1)] - i)
        for i in range(n)
    ]
    return _at(cumulative, places)


def residual(session: Session, weights: FloatArray) -> list[int]:
    """⌊n·W⌋ copies of each, the rest by independent choices of what is left over."""
    n = len(weights)
    copies = np.floor(weights * n + 1e-12).astype(int)
    left = np.maximum(weights * n - copies, 0.0)
    found = np.repeat(np.arange(n), copies).tolist()
    return sorted(found + [choose(session, left) for _ in range(n - len(found))])


RESAMPLERS: dict[str, Resampler] = {
    "multinomial": multinomial,
    "systematic": systematic,
    "stratified": stratified,
    "residual": residual,
}


def effective_size(weights: FloatArray) -> float:
    """ESS = 1/Σ W², of weights of sum 1; between 1 and n."""
    return float(1.0 / (weights @ weights))


def _cumulative(weights: FloatArray) -> FloatArray:
    found = np.cumsum(weights)
    return found / found[-1]


def _uniform(session: Session, breaks: FloatArray) -> float:
    """A number in (0, 1): the middle of an interval between break points, chosen by its length."""
    inner = np.unique(breaks[(breaks > 0.0) & (breaks < 1.0)])
    edges = np.concatenate([[0.0], inner, [1.0]])
    at = choose(session, np.diff(edges)) if len(inner) else 0
    return float(edges[at] + edges[at + 1]) / 2


def _at(cumulative: FloatArray, places: list[float]) -> list[int]:
    found = np.searchsorted(cumulative, places, side="right")
    return np.minimum(found, len(cumulative) - 1).tolist()
