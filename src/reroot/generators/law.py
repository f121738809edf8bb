"""Pure functions on next-token laws, given as rows of natural log-probabilities."""

from __future__ import annotations

import numpy as np

from ..access.contract import Sampling
from ..types import FloatArray, IntArray

_DENSE = 1 << 22  # most (row, token) pairs compared at once in ``invert``


def log_normalize(logits: FloatArray) -> FloatArray:
    """Rows of logits → rows of log-probabilities (log-sum-exp 0)."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def most_likely(laws: FloatArray, k: int) -> IntArray:
    """(n, min(k, K)) token ids, most likely first; ties go to the smaller id."""
    n, vocab = laws.shape
    k = min(k, vocab)
    if k == 1:
        return laws.argmax(axis=1)[:, None]  # argmax returns the first, so the smallest id
    if 4 * k >= vocab:
        return np.argsort(-laws, axis=1, kind="stable")[:, :k]
    out = np.empty((n, k), dtype=np.int64)
    for row, law in enumerate(laws):
        threshold = np.partition(law, vocab - k)[vocab - k]
        above = np.flatnonzero(law > threshold)
        ids = np.concatenate([above, np.flatnonzero(law == threshold)[: k - len(above)]])
        out[row] = ids[np.argsort(-law[ids], kind="stable")] if len(above) else ids
    return out


def sampling_laws(laws: FloatArray, sampling: Sampling) -> FloatArray:
    """Rows of the base law → rows of the law that draws follow (temperature, top-k, top-p)."""
    if sampling.is_base:
        return laws
    laws = np.asarray(laws, dtype=np.float64)
    if sampling.temperature == 0.0:
        out = np.full_like(laws, -np.inf)
        np.put_along_axis(out, laws.argmax(axis=1)[:, None], 0.0, axis=1)
        return out
    scaled = log_normalize(laws / sampling.temperature)
    if sampling.top_k:
        scaled = _keep(scaled, most_likely(scaled, sampling.top_k))
    if sampling.top_p < 1.0:
        order = np.argsort(-scaled, axis=1, kind="stable")
        sorted_p = np.exp(np.take_along_axis(scaled, order, axis=1))
        before = np.cumsum(sorted_p, axis=1) - sorted_p
        kept = np.where(before < sampling.top_p, np.take_along_axis(scaled, order, axis=1), -np.inf)
        out = np.empty_like(scaled)
        np.put_along_axis(out, order, kept, axis=1)
        scaled = log_normalize(out)
    return scaled


def _keep(laws: FloatArray, ids: IntArray) -> FloatArray:
    """The laws restricted to ``ids`` and renormalized."""
    out = np.full_like(laws, -np.inf)
    np.put_along_axis(out, ids, np.take_along_axis(laws, ids, axis=1), axis=1)
    return log_normalize(out)


def cumulative(laws: FloatArray) -> FloatArray:
    """Rows of cumulative probabilities in token order; exactly 1 from the last possible token on."""
    p = np.exp(np.asarray(laws, dtype=np.float64))
    cum = np.cumsum(p, axis=1)
    cum /= cum[:, -1:]
    last = p.shape[1] - 1 - (p[:, ::-1] > 0).argmax(axis=1)
    cum[np.arange(p.shape[1]) >= last[:, None]] = 1.0
    return cum


def invert(cum: FloatArray, rows: IntArray, u: FloatArray) -> IntArray:
    """(n,) tokens by inverse transform: the number of entries of ``cum[rows[i]]`` that are ≤ u[i]."""
    n, vocab = len(u), cum.shape[1]
    if len(cum) == 1:
        return np.searchsorted(cum[0], u, side="right").astype(np.int64)
    out = np.empty(n, dtype=np.int64)
    if vocab <= 256:
        chunk = max(1, _DENSE // vocab)
        for lo in range(0, n, chunk):
            hi = lo + chunk
            out[lo:hi] = (cum[rows[lo:hi]] <= u[lo:hi, None]).sum(axis=1)
        return out
    order = np.argsort(rows, kind="stable")
    starts = np.searchsorted(rows[order], np.arange(len(cum) + 1))
    for row in range(len(cum)):
        members = order[starts[row] : starts[row + 1]]
        out[members] = np.searchsorted(cum[row], u[members], side="right")
    return out
