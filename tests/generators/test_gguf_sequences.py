"""A prefix tree on sequences, beside a memory that keeps libllama's rules and shows what tokens see."""

from __future__ import annotations

import numpy as np
import pytest

from reroot.generators.gguf.sequences import Batch, Sequences
from reroot.generators.prefix_tree import NO_SLOT, ROOT, PrefixTree
from reroot.types import IntArray

String = tuple[int, ...]


GRAVE = -1


class Cells:
    """Cells with a token, a position and a set of sequences; it refuses what libllama refuses."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.cells: list[tuple[int, int, set[int]]] = []
        self.decoded = self.peak = 0

    def _of(self, sequence: int) -> list[tuple[int, int]]:
        """(position, token) of its cells, in the order in which attention adds them up."""
        return [(p, t) for p, t, owners in self.cells if sequence in owners]

    def copy(self, source: int, target: int, length: int) -> None:
        assert not self._of(target)
        for position, _, owners in self.cells:
            if source in owners and position < length:
                owners.add(target)

    def cut(self, sequence: int, length: int) -> None:
        for position, _, owners in self.cells:
            if position >= length:
                owners.discard(sequence)
        while self.cells and not self.cells[-1][2]:
            self.cells.pop()

    def bury(self, sequence: int, length: int) -> None:
        for position, _, owners in self.cells:
            if position >= length and sequence in owners:
                owners.add(GRAVE)
        self.cut(sequence, length)

    def clear(self) -> None:
        self.cells.clear()

    def decode(self, batch: Batch) -> list[String]:
        """What each token whose law is wanted attends to."""
        assert all(owners for _, _, owners in self.cells)  # a hole would be filled next
        parts = np.split(batch.sequences, np.cumsum(batch.counts)[:-1])
        rows = [
            (int(p), int(t), s.tolist())
            for p, t, s in zip(batch.positions, batch.tokens, parts, strict=True)
        ]
        first: dict[int, int] = {}
        last: dict[int, int] = {}
        narrowest: dict[int, set[int]] = {}
        for position, _, sequences in rows:
            assert len(sequences) == len(set(sequences)) >= 1
            for s in sequences:
                narrowest[s] = narrowest.get(s, set(sequences)) & set(sequences)
                assert narrowest[s]
                assert position == last.get(s, position - 1) + 1
                first.setdefault(s, position)
                last[s] = position
        for s, position in first.items():
            assert len(self._of(s)) == position
        for _, _, sequences in rows:
            assert len({len(self._of(s)) for s in sequences}) == 1
        self.cells += [(p, t, set(s)) for p, t, s in rows]
        self.decoded += len(rows)
        self.peak = max(self.peak, len(self.cells))
        assert len(self.cells) <= self.size
        seen: list[String] = []
        for (position, _, sequences), wanted in zip(rows, batch.wanted, strict=True):
            chain = [cell for cell in self._of(sequences[0]) if cell[0] <= position]
            assert [p for p, _ in chain] == list(range(position + 1))
            if wanted:
                seen.append(tuple(t for _, t in chain))
        return seen


class Bench:
    """The three together."""

    def __init__(self, cells: int, sequences: int, laws: int) -> None:
        self.tree = PrefixTree(cells)
        self.memory = Cells(cells + sequences // 2)
        self.sequences = Sequences(self.tree, self.memory, sequences, laws)

    def ask(self, strings: list[String]) -> None:
        """Ask for the laws at strings; each must be computed once, from what it says."""
        nodes = {self.tree.walk(ROOT, string): string for string in strings}
        left: IntArray = np.array(sorted(nodes), dtype=np.int64)
        while len(left):
            batch = self.sequences.plan(left)
            seen = self.memory.decode(batch)
            self.sequences.done()
            assert len(batch.asked)
            assert seen == [nodes[node] for node in batch.asked.tolist()]
            left = np.setdiff1d(left, batch.asked, assume_unique=True)
            self.check()

    def check(self) -> None:
        """Cells that somebody reads are the nodes with a slot, in the sequences whose paths they are on."""
        tree = self.tree
        held = np.flatnonzero(tree.slot != NO_SLOT)
        read = [cell for cell in self.memory.cells if cell[2] - {GRAVE}]
        assert len(held) == len(read) == tree.held
        assert len(self.memory.cells) <= tree.limit
        for sequence, tip in enumerate(self.sequences._tips.tolist()):
            assert len(self.memory._of(sequence)) == tree.depth[tip]
            for position, token in self.memory._of(sequence)[::-1]:
                assert (tree.token[tip], tree.depth[tip]) == (token, position + 1)
                assert tree.slot[tip] != NO_SLOT
                tip = tree.parent[tip]


@pytest.mark.parametrize(
    ("cells", "sequences", "laws"), [(200, 64, 32), (24, 64, 8), (60, 6, 3), (13, 2, 1)]
)
def test_tokens_see_their_own_path(cells: int, sequences: int, laws: int) -> None:
    rng = np.random.default_rng([cells, sequences])
    bench = Bench(cells, sequences, laws)
    known: list[String] = [(0,)]
    for _ in range(60):
        asked: list[String] = []
        for _ in range(int(rng.integers(1, 12))):
            parent = known[int(rng.integers(max(0, len(known) - 30), len(known)))]
            more = tuple(rng.integers(3, size=int(rng.integers(0, 4))).tolist())
            asked.append((*parent, *more)[:12])
        asked = list(dict.fromkeys(asked))
        bench.ask(asked)
        known += asked


def test_what_is_shared_is_computed_once() -> None:
    bench = Bench(100, 32, 16)
    bench.ask([(1, 2, 3, a, b) for a in (4, 5) for b in (6, 7, 8)])
    assert bench.memory.decoded == 3 + 2 + 6
    bench.ask([(1, 2, 3, 4, 6, 9), (1, 2, 3, 5, 9)])
    assert bench.memory.decoded == 11 + 2
    bench.ask([(1, 2), (1, 2, 3, 4)])  # held, but their laws are not
    assert bench.memory.decoded == 13 + 2


def test_rollouts_grow_in_place() -> None:
    bench = Bench(200, 16, 8)
    rows: list[String] = [(1, 2, 3, 10 + i) for i in range(8)]
    for step in range(12):
        bench.ask(rows)
        assert bench.memory.decoded == 3 + 8 * (step + 1)
        rows = [(*row, step) for row in rows]


def test_wide_trees_lose_their_oldest_leaves() -> None:
    bench = Bench(100, 8, 4)
    bench.ask([(1, 2, leaf) for leaf in range(20)])
    assert bench.memory.decoded == 2 + 20  # the trunk once
    bench.ask([(1, 2, 19, 5)])
    assert bench.memory.decoded == 22 + 1
    bench.ask([(1, 2, 0, 5)])
    assert bench.memory.decoded == 23 + 2
