"""Next-token laws over large vocabularies: keeping them, and drawing from them."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import numpy.typing as npt

from ..errors import BackendError
from ..types import FloatArray, IntArray
from .law import UNNORMALIZED

_BLOCK = 256  # tokens in a block
_CHUNK = 16  # laws worked on together: they stay in the processor's cache
_DRAWS = 256  # draws worked on together
_STEP = 0x9E3779B97F4A7C15  # between places, as in SplitMix64
WIDE = 1024
"""Vocabularies from which language models draw by ``draw_wide``."""

_Rows = npt.NDArray[np.float32] | npt.NDArray[np.float64]


class LawStore:
    """Laws of nodes that were evaluated lately, as many as ``rows``; the least recent goes first."""

    def __init__(self, rows: int, vocab: int) -> None:
        self.rows = rows
        self._laws = np.empty((rows, vocab), dtype=np.float32)
        self._row: OrderedDict[int, int] = OrderedDict()

    def __contains__(self, node: int) -> bool:
        return node in self._row

    @property
    def bytes(self) -> int:
        """Memory of the laws that are kept."""
        return len(self._row) * self._laws.itemsize * self._laws.shape[1]

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
    """(n,) tokens drawn from ``laws[rows]`` by the Gumbel-max race, for laws that carry rounding.

    Two races, exact in law: among blocks of tokens, a block with its probability, and among the tokens
    of the block that won. The noise of a block or token depends on the draw's uniform and on its place
    alone, so laws that differ by rounding give the same token except with about the probability by
    which they differ; inverse transform moves every draw that falls into a tail of tokens less likely
    than the rounding. (Gumbel-max: Maddison, Tarlow and Minka 2014, arXiv 1411.0030.)

    Args:
        laws: rows of log-probabilities, nats.
        rows: (n,) which law each draw follows.
        u: (n,) uniforms in [0, 1), distinct with probability 1.

    Raises:
        BackendError: a law holds NaN or does not sum to 1.
    """
    order = np.argsort(rows, kind="stable")
    edges = np.searchsorted(rows[order], np.arange(0, len(laws) + _CHUNK, _CHUNK))
    tokens = np.empty(len(rows), dtype=np.int64)
    for i in range(len(edges) - 1):
        here = order[edges[i] : edges[i + 1]]
        for j in range(0, len(here), _DRAWS):
            part = here[j : j + _DRAWS]
            laws_here = laws[i * _CHUNK : (i + 1) * _CHUNK]
            tokens[part] = _race(laws_here, rows[part] - i * _CHUNK, u[part])
    return tokens


def _race(laws: _Rows, rows: IntArray, u: FloatArray) -> IntArray:
    vocab = laws.shape[1]
    blocks = -(-vocab // _BLOCK)
    weights = _block_weights(laws, blocks)
    seeds = (u * 2.0**53).astype(np.uint64)
    with np.errstate(divide="ignore"):
        scores = np.log(weights)[rows] + _gumbels(seeds, 0, blocks)
    block = scores.argmax(axis=1)
    tokens = block[:, None] * _BLOCK + np.arange(_BLOCK)
    inside = np.where(tokens < vocab, laws[rows[:, None], tokens.clip(max=vocab - 1)], -np.inf)
    return tokens[:, 0] + (inside + _gumbels(seeds, blocks, _BLOCK)).argmax(axis=1)


def _block_weights(laws: _Rows, blocks: int) -> FloatArray:
    """(laws, blocks) probability of each block, after checking that they sum to 1."""
    p = np.exp(laws)
    whole = p.shape[1] // _BLOCK * _BLOCK
    weights = np.empty((len(p), blocks))
    full = p[:, :whole].reshape(len(p), whole // _BLOCK, _BLOCK)
    weights[:, : whole // _BLOCK] = full.sum(axis=2, dtype=np.float64)
    if whole < p.shape[1]:
        weights[:, -1] = p[:, whole:].sum(axis=1, dtype=np.float64)
    miss = np.abs(weights.sum(axis=1) - 1.0)
    if not miss.max() <= UNNORMALIZED:  # NaN fails the comparison too
        raise BackendError(f"a next-token law misses probability 1 by {miss.max():.3g}")
    return weights


def _gumbels(seeds: npt.NDArray[np.uint64], first: int, count: int) -> FloatArray:
    """(n, count) standard Gumbel noise for the places first … first + count − 1 of each seed."""
    places = np.arange(first + 1, first + count + 1, dtype=np.uint64) * np.uint64(_STEP)
    bits = _mixed(_mixed(seeds)[:, None] + places)
    uniforms = ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return -np.log(-np.log(uniforms))


def _mixed(bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finalizer of SplitMix64 (Steele, Lea and Flood 2014): a hash of 64 bits."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
