"""A prefix tree on the sequences of libllama's memory.

The memory holds *cells*, one per token, and each belongs to a set of numbered sequences; a token attends to
the cells of its sequence at earlier positions. So each node of the tree with a slot is one cell, and the
sequences are paths from the root: one for each leaf of what is held, which all share the cells above. There
are few sequences (256 in today's libllama), so wide trees lose their oldest leaves.

Cells are filled from first to last, and when they are full all are emptied. Attention adds up in half
precision, cell by cell, so only if every token stands behind those it attends to is its law the same, bit for
bit, whatever else is held. A cell that were freed would be filled next, wherever it is; so what is given up is
*buried*, in a sequence that nobody reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ...types import IntArray
from ..prefix_tree import NO_SLOT, ROOT, PrefixTree


class Memory(Protocol):
    """What is asked of libllama's memory."""

    def copy(self, source: int, target: int, length: int) -> None:
        """Let the first ``length`` cells of a sequence belong to an empty one too."""
        ...

    def cut(self, sequence: int, length: int) -> None:
        """Leave a sequence its first ``length`` cells; cells of no sequence are free."""
        ...

    def bury(self, sequence: int, length: int) -> None:
        """Leave a sequence its first ``length`` cells; the others stay taken."""
        ...

    def clear(self) -> None:
        """Empty all sequences."""
        ...


@dataclass(frozen=True, slots=True)
class Batch:
    """One decode: n tokens, ancestors first, whose cells the memory gets.

    Attributes:
        tokens, positions: (n,).
        counts: (n,) how many sequences each token belongs to.
        sequences: (sum of counts,) them, token by token.
        wanted: (n,) whether the law after the token is asked.
        asked: (m,) nodes of those tokens, in their order.
        recomputed: how many of the n tokens had been computed before.
    """

    tokens: IntArray
    positions: IntArray
    counts: IntArray
    sequences: IntArray
    wanted: npt.NDArray[np.bool_]
    asked: IntArray
    recomputed: int


class Sequences:
    """Which sequences hold which paths.

    Args:
        tree: its ``limit`` is at least the longest path; the memory has half of ``most`` more cells.
        memory: empty.
        most: sequences that there are; at least 2.
        laws: most laws of one batch, at least 1.
    """

    def __init__(self, tree: PrefixTree, memory: Memory, most: int, laws: int) -> None:
        self._tree, self._memory = tree, memory
        self._laws = min(laws, most // 2)  # each may take a sequence, and hold up another
        self._tips = np.full(most, ROOT, dtype=np.int64)  # the last node of each; ROOT: it is empty
        self._spare = np.arange(0)  # sequences of what is computed again
        self._filled = 0  # cells, with those that are buried

    def plan(self, asked: IntArray) -> Batch:
        """The next batch towards the laws at ``asked``; it is decoded, and then ``done`` called."""
        tree = self._tree
        asked = self._fitting(asked)
        needed = _above(tree, asked)
        new = needed[tree.slot[needed] == NO_SLOT]
        again = asked[tree.slot[asked] != NO_SLOT]  # its law is lost, its cell is not
        if self._filled + len(new) > tree.limit:
            self._start_over()
            new, again = needed, again[:0]
        self._filled += len(new)
        recomputed = int(tree.computed[new].sum()) + len(again)
        tree.claim(needed, new)
        leaves = np.setdiff1d(new, tree.parent[new])
        steps = list(_climb(tree, leaves, new))
        attach = leaves.copy()
        for places, nodes in steps:
            attach[places] = tree.parent[nodes]
        self._make_room(attach, len(again))
        owner = self._owners()
        mine = self._sequences_for(attach, owner)
        self._tips[mine] = leaves
        self._spare = np.flatnonzero(self._tips == ROOT)[: len(again)]
        for sequence, above in zip(self._spare.tolist(), tree.parent[again].tolist(), strict=True):
            if above != ROOT:
                self._memory.copy(int(owner[above]), sequence, int(tree.depth[above]))
        order = np.concatenate([new[np.lexsort((new, tree.depth[new]))], again])
        nodes = np.concatenate([*(nodes for _, nodes in steps), again])
        belongs = np.concatenate([*(mine[places] for places, _ in steps), self._spare])
        tree.scratch[order] = np.arange(len(order))
        place = tree.scratch[nodes]
        wanted = np.isin(order, asked)
        tree.computed[new] = True
        return Batch(
            tree.token[order],
            tree.depth[order] - 1,
            np.bincount(place, minlength=len(order)),
            belongs[np.argsort(place, kind="stable")],
            wanted,
            order[wanted],
            recomputed,
        )

    def done(self) -> None:
        """The batch is in the memory: free what is there twice, because it was computed again."""
        for sequence in self._spare.tolist():
            self._memory.cut(sequence, 0)

    def _fitting(self, asked: IntArray) -> IntArray:
        """Those of ``asked`` that one batch has room for: depth-first, what shares most together."""
        tree = self._tree
        if len(asked) <= self._laws and len(_above(tree, asked)) <= tree.limit:
            return asked
        chosen: list[int] = []
        seen: set[int] = {ROOT}
        for node in _depth_first(tree, asked):
            path: list[int] = []
            above = node
            while above not in seen:
                path.append(above)
                above = int(tree.parent[above])
            if chosen and len(seen) - 1 + len(path) > tree.limit:
                break
            seen.update(path)
            chosen.append(node)
            if len(chosen) == self._laws:
                break
        return np.array(sorted(chosen), dtype=np.int64)

    def _start_over(self) -> None:
        self._memory.clear()
        self._tree.release(np.flatnonzero(self._tree.slot != NO_SLOT))
        self._tips[:] = ROOT
        self._filled = 0

    def _make_room(self, attach: IntArray, spare: int) -> None:
        """Give up sequences, least recently used first, until there are enough empty ones."""
        tree, counts = self._tree, None
        while True:
            reused = len(np.intersect1d(attach, self._tips[self._tips != ROOT]))
            short = len(attach) - reused + spare - int((self._tips == ROOT).sum())
            if short <= 0:
                return
            idle = np.flatnonzero((self._tips != ROOT) & (tree.used[self._tips] < tree.tick))
            assert len(idle)  # no tip is above another, so what is needed has at most two per law
            idle = idle[np.argsort(tree.used[self._tips[idle]], kind="stable")][:short]
            counts = self._counts() if counts is None else counts
            for sequence in idle.tolist():
                kept = int(self._tips[sequence])
                while kept != ROOT and tree.used[kept] < tree.tick:
                    kept = int(tree.parent[kept])
                alone = kept == ROOT or counts[kept] == 1
                self._shorten(sequence, kept if alone else ROOT, counts)

    def _shorten(self, sequence: int, kept: int, counts: IntArray) -> None:
        """Let a sequence end at ``kept``, above its last node; nodes of no sequence lose their slots."""
        tree, node = self._tree, int(self._tips[sequence])
        self._memory.bury(sequence, int(tree.depth[kept]))
        freed: list[int] = []
        while node != kept:
            counts[node] -= 1
            if not counts[node]:
                freed.append(node)
            node = int(tree.parent[node])
        tree.release(np.array(freed, dtype=np.int64))
        self._tips[sequence] = kept

    def _counts(self) -> IntArray:
        """For each node, how many sequences hold it."""
        tips = self._tips[self._tips != ROOT]
        if not len(tips):
            return np.zeros(len(self._tree.parent), dtype=np.int64)
        return np.bincount(self._tree.paths(tips).ravel(), minlength=len(self._tree.parent))

    def _owners(self) -> IntArray:
        """For each node that is held, one sequence that holds it."""
        owner = np.zeros(len(self._tree.parent), dtype=np.int64)
        live = np.flatnonzero(self._tips != ROOT)
        if len(live):
            paths = self._tree.paths(self._tips[live])
            owner[paths] = np.broadcast_to(live, paths.shape)
        return owner

    def _sequences_for(self, attach: IntArray, owner: IntArray) -> IntArray:
        """A sequence for each new leaf that holds the path to its ``attach``: the one that ends there, or
        an empty one that gets a copy."""
        ending = {int(self._tips[s]): s for s in np.flatnonzero(self._tips != ROOT).tolist()}
        empty = iter(np.flatnonzero(self._tips == ROOT).tolist())
        found = np.empty(len(attach), dtype=np.int64)
        for i, node in enumerate(attach.tolist()):
            sequence = ending.pop(node, None)
            if sequence is None:
                sequence = next(empty)
                if node != ROOT:
                    self._memory.copy(int(owner[node]), sequence, int(self._tree.depth[node]))
            found[i] = sequence
        return found


def _above(tree: PrefixTree, nodes: IntArray) -> IntArray:
    """The nodes and all their ancestors, the root not among them."""
    found = np.unique(tree.paths(nodes))
    return found[found != ROOT]


def _climb(
    tree: PrefixTree, leaves: IntArray, new: IntArray
) -> Iterator[tuple[IntArray, IntArray]]:
    """Level by level upwards: (which leaves, their ancestors there), as long as these are new."""
    is_new = np.zeros(len(tree.parent), dtype=bool)
    is_new[new] = True
    places, nodes = np.arange(len(leaves)), leaves
    while len(places):
        yield places, nodes
        nodes = tree.parent[nodes]
        here = is_new[nodes]
        places, nodes = places[here], nodes[here]


def _depth_first(tree: PrefixTree, asked: IntArray) -> Iterator[int]:
    """``asked``, each before what is below it, and that before anything else."""
    below: dict[int, list[int]] = {}
    every = _above(tree, asked)
    for node, parent in zip(every.tolist(), tree.parent[every].tolist(), strict=True):
        below.setdefault(parent, []).append(node)
    wanted = set(asked.tolist())
    stack = [ROOT]
    while stack:
        node = stack.pop()
        if node in wanted:
            yield node
        stack.extend(reversed(below.get(node, ())))
