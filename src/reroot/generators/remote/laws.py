"""From the list of a law that a server states to the law that it draws from, where the list suffices."""

from __future__ import annotations

import numpy as np

from ...contract import Sampling
from ...types import FloatArray, IntArray
from ..law import log_normalize, most_likely, sampling_laws
from .dialects import WHOLE
from .replies import Ranked

_NEAR = 1e-4
"""Probability by which a server's top-p may cut elsewhere than its stated law does, for rounding."""


def needed(sampling: Sampling, k: int, vocab: int) -> int:
    """How long a list of the base law must be, so that the k most likely tokens of the law that is drawn
    from, and the log-probability of any token that it can draw, are known; ``WHOLE``: all of it."""
    if k >= vocab:
        return WHOLE
    if sampling.is_base:
        return k
    if sampling.temperature == 0.0:
        return 1
    return sampling.top_k if 0 < sampling.top_k < vocab else WHOLE


def drawn(listed: Ranked, sampling: Sampling, vocab: int) -> Ranked:
    """The law that is drawn from, as far as ``listed`` (at least ``needed``) shows it: tokens of
    probability 0 left out."""
    ids, logs = listed
    if sampling.is_base:
        return listed
    if sampling.temperature == 0.0:
        return ids[:1], np.zeros(1)
    if len(ids) >= vocab:
        (law,) = sampling_laws(dense(listed, vocab)[None], sampling)
        order = most_likely(law[None], vocab)[0]
        order = order[law[order] > -np.inf]
        return order, law[order]
    logs = log_normalize((logs[: sampling.top_k] - logs[0]) / sampling.temperature)
    ids = ids[: sampling.top_k]
    if sampling.top_p < 1.0:
        p = np.exp(logs)
        kept = np.cumsum(p) - p < sampling.top_p * (1 - 1e-12)
        ids, logs = ids[kept], log_normalize(logs[kept])
    return ids, logs


def logprob(listed: Ranked, sampling: Sampling, vocab: int, token: int) -> float | None:
    """log P(token) of the law that is drawn from; ``None``: it cannot draw the token."""
    laws = [drawn(listed, sampling, vocab)]
    if sampling.top_p < 1.0:  # which rounding may have let in
        loose = Sampling(sampling.temperature, min(1.0, sampling.top_p + _NEAR), sampling.top_k)
        laws.append(drawn(listed, loose, vocab))
    for ids, logs in laws:
        at = np.flatnonzero(ids == token)
        if len(at):
            return float(logs[at[0]])
    return None


def most(law: Ranked, k: int) -> tuple[IntArray, FloatArray]:
    """The k most likely tokens of a law; what it lacks are the smallest ids of probability 0."""
    ids, logs = law[0][:k], law[1][:k]
    if len(ids) == k:
        return ids, logs
    rest = np.setdiff1d(np.arange(k + len(law[0])), law[0])[: k - len(ids)]
    return np.concatenate([ids, rest]), np.concatenate([logs, np.full(len(rest), -np.inf)])


def dense(law: Ranked, vocab: int) -> FloatArray:
    """(K,) nats."""
    out = np.full(vocab, -np.inf)
    out[law[0]] = law[1]
    return out


def difference(a: Ranked, b: Ranked) -> float:
    """Largest difference, in nats, of two lists of one law where both name a token; infinite if the most likely
    tokens of one are unknown to the other."""
    ids, i, j = np.intersect1d(a[0], b[0], return_indices=True)
    if not len(ids):
        return float("inf")
    worst = float(np.abs(_finite(a[1][i]) - _finite(b[1][j])).max())
    for one, other in (
        (a, b),
        (b, a),
    ):  # what is left out must not be likelier than the last one listed
        missing = ~np.isin(one[0], other[0])
        if missing.any():
            worst = max(worst, float(_finite(one[1][missing]).max() - _finite(other[1]).min()))
    return worst


def _finite(logs: FloatArray) -> FloatArray:
    return np.maximum(logs, -50.0)
