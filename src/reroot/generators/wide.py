"""Next-token laws over large vocabularies: keeping them, and drawing from them."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import numpy.typing as npt

from ..errors import BackendError
from ..types import FloatArray, IntArray

_BLOCK = 256  # tokens summed together in the first level of a draw
_CHUNK = 16  # laws worked on together: they stay in the processor's cache
_UNNORMALIZED = 1e-3  # most that a law in float32 may miss probability 1 by
_Rows = npt.NDArray[np.float32] | npt.NDArray[np.float64]


class LawStore:
    """Laws of nodes that were evaluated lately, as many as ``rows``; the least recent goes first."""

    def __init__(self, rows: int, vocab: int) -> None:
        self.rows = rows
        self._laws = np.empty((rows, vocab), dtype=np.float32)
        self._row: OrderedDict[int, int] = OrderedDict()

    def __contains__(self, node: int) -> bool:
        return node in self._row

    def nodes(self) -> list[int]:
        return list(self._row)

    def read(self, nodes: IntArray, out: npt.NDArray[np.float32]) -> IntArray:
        """Copy the laws that are here to ``out``; which of ``nodes`` are missing."""
        rows = np.array([self._row.get(node, -1) for node in nodes.tolist()], dtype=np.int64)
        here = rows >= 0
        out[here] = self._laws[rows[here]]
        for node in nodes[here].tolist():
            self._row.move_to_end(node)
        return np.flatnonzero(~here)

    def write(self, nodes: IntArray, laws: npt.NDArray[np.float32]) -> None:
        """Keep the laws of ``nodes``, the last ones where there is not room for all."""
        rows: list[int] = []
        new = nodes[len(nodes) - min(len(nodes), self.rows) :]
        for node in new.tolist():
            row = self._row.pop(node, None)
            if row is None:
                full = len(self._row) == self.rows
                row = self._row.popitem(last=False)[1] if full else len(self._row)
            self._row[node] = row
            rows.append(row)
        self._laws[rows] = laws[len(nodes) - len(new) :]


def draw_wide(laws: _Rows, rows: IntArray, u: FloatArray) -> IntArray:
    """(n,) tokens by inverse transform of ``laws[rows]``, for large vocabularies.

    Two levels, blocks of tokens and then tokens, in the laws' own precision with sums in float64.

    Raises:
        BackendError: a law holds NaN or does not sum to 1.
    """
    order = np.argsort(rows, kind="stable")
    edges = np.searchsorted(rows[order], np.arange(0, len(laws) + _CHUNK, _CHUNK))
    tokens = np.empty(len(rows), dtype=np.int64)
    for i in range(len(edges) - 1):
        here = order[edges[i] : edges[i + 1]]
        if len(here):
            part = laws[i * _CHUNK : (i + 1) * _CHUNK]
            tokens[here] = _draw(part, rows[here] - i * _CHUNK, u[here])
    return tokens


def _draw(laws: _Rows, rows: IntArray, u: FloatArray) -> IntArray:
    p = np.exp(laws)
    vocab = p.shape[1]
    whole = vocab // _BLOCK * _BLOCK
    blocks = p[:, :whole].reshape(len(p), whole // _BLOCK, _BLOCK).sum(axis=2, dtype=np.float64)
    if whole < vocab:
        blocks = np.c_[blocks, p[:, whole:].sum(axis=1, dtype=np.float64)]
    ends = np.cumsum(blocks, axis=1)
    miss = np.abs(ends[:, -1] - 1.0)
    if not miss.max() <= _UNNORMALIZED:  # NaN fails the comparison too
        raise BackendError(f"a next-token law misses probability 1 by {miss.max():.3g}")
    target = u * ends[rows, -1]
    block = _below(ends[rows], target)
    tokens = block[:, None] * _BLOCK + np.arange(_BLOCK)
    inside = np.where(tokens < vocab, p[rows[:, None], tokens.clip(max=vocab - 1)], 0.0)
    steps = np.cumsum(inside, axis=1, dtype=np.float64)
    start = ends[rows, block] - blocks[rows, block]
    return tokens[:, 0] + _below(steps, np.maximum(target - start, 0.0))


def _below(steps: FloatArray, target: FloatArray) -> IntArray:
    """(n,) entries of each rising row that are ≤ its target, short of the last rise."""
    last = (steps < steps[:, -1:]).sum(axis=1)
    return np.minimum((steps <= target[:, None]).sum(axis=1), last)
