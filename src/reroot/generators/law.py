"""Pure functions on next-token laws, given as rows of natural log-probabilities."""

from __future__ import annotations

import numpy as np

from ..contract import Sampling
from ..errors import BackendError
from ..types import FloatArray, IntArray

_ROUNDING = 1e-12  # top-p masses that differ by less are equal
UNNORMALIZED = 1e-3
"""Most that a law in float32 may miss probability 1 by."""


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
    with np.errstate(over="ignore"):  # at tiny temperatures all but the largest entry, 0, overflow
        scaled = (laws - laws.max(axis=1, keepdims=True)) / sampling.temperature
    scaled = log_normalize(scaled)
    if sampling.top_k:
        scaled = _keep(scaled, most_likely(scaled, sampling.top_k))
    if sampling.top_p < 1.0:
        order = np.argsort(-scaled, axis=1, kind="stable")
        sorted_p = np.exp(np.take_along_axis(scaled, order, axis=1))
        before = np.cumsum(sorted_p, axis=1) - sorted_p
        dropped = np.empty(scaled.shape, dtype=bool)
        np.put_along_axis(dropped, order, before >= sampling.top_p * (1 - _ROUNDING), axis=1)
        scaled = log_normalize(np.where(dropped, -np.inf, scaled))
    return scaled


def _keep(laws: FloatArray, ids: IntArray) -> FloatArray:
    """The laws restricted to ``ids`` and renormalized."""
    out = np.full_like(laws, -np.inf)
    np.put_along_axis(out, ids, np.take_along_axis(laws, ids, axis=1), axis=1)
    return log_normalize(out)


def cumulative(laws: FloatArray) -> FloatArray:
    """Rows of cumulative probabilities in token order; exactly 1 from the last possible token on.

    Raises:
        BackendError: a law holds NaN or does not sum to 1.
    """
    cum = np.cumsum(np.exp(np.asarray(laws, dtype=np.float64)), axis=1)
    total = cum[:, -1:]
    miss = np.abs(total - 1.0)
    if not miss.max() <= UNNORMALIZED:  # NaN fails the comparison too
        raise BackendError(f"a next-token law sums to {total[miss.argmax(), 0]}, not to 1")
    return cum / total  # behind the last possible token: total / total, exactly 1


def invert(cum: FloatArray, rows: IntArray, u: FloatArray) -> IntArray:
    """(n,) tokens by inverse transform: the number of entries of ``cum[rows[i]]`` that are ≤ u[i].

    ``u`` lies in [0, 1), so a token of probability 0 is never chosen.
    """
    if len(cum) == 1:
        return np.searchsorted(cum[0], u, side="right").astype(np.int64, copy=False)
    vocab = cum.shape[1]
    flat = cum.ravel()
    before = np.asarray(rows, dtype=np.int64) * vocab - 1
    count = np.zeros(len(u), dtype=np.int64)
    step = 1 << (vocab.bit_length() - 1)
    while step:  # bisection of all rows at once
        probe = count + step
        inside = probe <= vocab
        lower = flat[before + np.where(inside, probe, 1)] <= u
        count += step * (inside & lower)
        step >>= 1
    return count
