"""A tree of tokens whose nodes own key/value memory: the KV cache of ``Transformers``.

A node is one token at one place: its identity is the whole path from the root (prompt, then prefix),
so two contexts that share a suffix never mix, and contexts that share a beginning share its memory. Each
computed node owns one *slot*, a row of every layer's key and value slab. A forward pass takes nodes from
anywhere in the tree as rows of tokens in which each token sees its own ancestors and itself.

Invariant: a node with a slot has a parent with a slot. Least recently used nodes are evicted first, and
every pass touches whole paths, so descendants go before their ancestors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..types import IntArray

ROOT = 0
"""The empty context; it holds no token and needs no slot."""

NO_SLOT = -1
"""The slot of a node that has none."""

_TOKEN_BITS = 32


class PrefixTree:
    """Nodes, and which of them own slots. Arrays are indexed by node.

    Attributes:
        parent, token, depth: the tree; ``depth`` counts tokens, the root has 0.
        home: the prompt's last node, below which a node was created: only a hint for packing.
        slot: row of the key/value slabs, or −1.
        used: the pass that last needed the node.
        tick: the latest pass.
        computed: whether the node has ever been computed.
        limit: most slots to hold; one pass may exceed it if it needs more.
        capacity: slots that exist.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.capacity = 0
        self.parent = np.zeros(1024, dtype=np.int64)
        self.token = np.zeros(1024, dtype=np.int64)
        self.depth = np.zeros(1024, dtype=np.int64)
        self.home = np.zeros(1024, dtype=np.int64)
        self.slot = np.full(1024, NO_SLOT, dtype=np.int64)
        self.used = np.zeros(1024, dtype=np.int64)
        self.computed = np.zeros(1024, dtype=bool)
        self.scratch = np.zeros(1024, dtype=np.int64)
        self._size = 1  # nodes 0 … size − 1 have existed
        self._child: dict[int, int] = {}
        self._prompts: dict[tuple[int, ...], int] = {}
        self._free_nodes: list[int] = []
        self._free_slots: list[int] = []
        self.tick = 0

    def __len__(self) -> int:
        """Nodes in the tree, the root not counted."""
        return len(self._child)

    @property
    def held(self) -> int:
        """Slots in use."""
        return self.capacity - len(self._free_slots)

    def start(self, prompt: Sequence[int], prefix: Sequence[int]) -> int:
        """The node after ``prompt`` and ``prefix``."""
        prompt = tuple(prompt)
        node = self._prompts.get(prompt)
        if node is None:
            node = self._prompts[prompt] = self.walk(ROOT, prompt)
            if self.home[node] == ROOT:
                self.home[node] = node
        return self.walk(node, prefix)

    def children(self, nodes: IntArray, tokens: IntArray) -> IntArray:
        """(n,) the node after each token, created where it is new."""
        keys = ((nodes << _TOKEN_BITS) | tokens).tolist()
        return np.array([self._child.get(k) or self._create(k) for k in keys], dtype=np.int64)

    def walk(self, node: int, tokens: Sequence[int]) -> int:
        """The node after ``tokens`` below ``node``, created where it is new."""
        for token in tokens:
            key = (node << _TOKEN_BITS) | token
            node = self._child.get(key) or self._create(key)
        return node

    def _create(self, key: int) -> int:
        if self._free_nodes:
            node = self._free_nodes.pop()
        else:
            node, self._size = self._size, self._size + 1
            if node == len(self.parent):
                self._grow()
        parent = key >> _TOKEN_BITS
        self._child[key] = node
        self.parent[node] = parent
        self.token[node] = key & ((1 << _TOKEN_BITS) - 1)
        self.depth[node] = self.depth[parent] + 1
        self.home[node] = self.home[parent]
        self.slot[node] = NO_SLOT
        self.computed[node] = False
        return node

    def _grow(self) -> None:
        for name in ("parent", "token", "depth", "home", "slot", "used", "computed", "scratch"):
            array = getattr(self, name)
            setattr(self, name, np.concatenate([array, np.zeros_like(array)]))

    def paths(self, nodes: IntArray) -> IntArray:
        """(D, n) each node and its ancestors, upwards; ``ROOT`` fills the rest."""
        out = np.zeros((int(self.depth[nodes].max()), len(nodes)), dtype=np.int64)
        for level in out:
            level[:] = nodes
            nodes = self.parent[nodes]
        return out

    def open_ancestors(self, nodes: IntArray) -> IntArray:
        """The proper ancestors of ``nodes`` that hold no slot."""
        found: list[IntArray] = [np.empty(0, dtype=np.int64)]
        while True:
            nodes = np.unique(self.parent[nodes])
            nodes = nodes[(nodes != ROOT) & (self.slot[nodes] == NO_SLOT)]
            if not len(nodes):
                return np.unique(np.concatenate(found))
            found.append(nodes)

    def claim(self, needed: IntArray, new: IntArray) -> None:
        """Mark ``needed`` (whole paths, ``new`` among them) as used now, and give ``new`` slots."""
        self.tick += 1
        self.used[needed] = self.tick
        new = new[self.slot[new] == NO_SLOT]
        short = len(new) - len(self._free_slots)
        if short > 0 and self.capacity < self.limit:
            short -= self._add_slots(min(self.limit, max(2 * self.capacity, 256)) - self.capacity)
        if short > 0:
            short -= self._evict(max(short, self.capacity // 16))
        if short > 0:
            self._add_slots(short)
        if len(new):
            self.slot[new] = self._free_slots[-len(new) :]
            del self._free_slots[-len(new) :]

    def _add_slots(self, count: int) -> int:
        self._free_slots.extend(range(self.capacity, self.capacity + count))
        self.capacity += count
        return count

    def _evict(self, count: int) -> int:
        """Free up to ``count`` slots, least recently used and deepest first, none of this pass."""
        here = np.arange(self._size)
        held = here[(self.slot[: self._size] != NO_SLOT) & (self.used[: self._size] < self.tick)]
        gone = held[np.lexsort((-self.depth[held], self.used[held]))[:count]]
        self._free_slots.extend(self.slot[gone].tolist())
        self.slot[gone] = NO_SLOT
        return len(gone)

    def release(self, nodes: IntArray) -> None:
        """Take the slots of ``nodes`` back, which hold all that is held below them."""
        self._free_slots.extend(self.slot[nodes].tolist())
        self.slot[nodes] = NO_SLOT

    def forget(self, kept: IntArray) -> None:
        """Drop all nodes without a slot, except ``kept`` and what is above them.

        Node numbers handed out before are void afterwards, those of ``kept`` excepted.
        """
        keep = self.slot[: self._size] != NO_SLOT
        nodes = kept
        while len(nodes):
            keep[nodes] = True
            nodes = np.unique(self.parent[nodes])
            nodes = nodes[(nodes != ROOT) & ~keep[nodes]]
        dropped = [key for key, node in self._child.items() if not keep[node]]
        self._free_nodes.extend(self._child.pop(key) for key in dropped)
        self._prompts.clear()


@dataclass(frozen=True, slots=True)
class Limits:
    """How much goes into one forward pass.

    Attributes:
        row: most tokens of one row that are worth computing together.
        read: what reading a past token for a row costs, if attending to it costs one token 1.
        columns: past tokens of one row; bounds the attention that is computed and masked out.
        positions: rows x longest row of one pass.
    """

    row: int = 64
    read: float = 8.0
    columns: int = 2048
    positions: int = 512


@dataclass(frozen=True, slots=True)
class Pass:
    """One forward pass: B rows of T new tokens (left-padded) over S slots, new ones among them.

    Attributes:
        tokens, positions: (B, T).
        sees: (B, T, S) whether a token attends to a slot.
        read: (B·S,) slots to attend to.
        read_at: (B, S) their positions.
        valid: (n,) places in B·T that are no padding.
        write: (n,) slots of those tokens.
        asked: (m,) nodes whose laws are asked.
        at: (m,) their places in the B x ``keep`` last positions.
        keep: last positions of each row whose logits are computed.
        recomputed: how many of the n tokens had been computed before.
    """

    tokens: IntArray
    positions: IntArray
    sees: npt.NDArray[np.bool_]
    read: IntArray
    read_at: IntArray
    valid: IntArray
    write: IntArray
    asked: IntArray
    at: IntArray
    keep: int
    recomputed: int


def plan_pass(tree: PrefixTree, asked: IntArray, limits: Limits) -> Pass:
    """The next pass towards the laws at ``asked``: some of these nodes and their open ancestors.

    Slots of new tokens are claimed. The first of ``asked`` always comes nearer, and what it needs is
    not evicted meanwhile, so repeating this ends.
    """
    work = np.union1d(asked, tree.open_ancestors(asked))
    units = _units(tree, work, asked[0], limits)
    rows = _rows(tree, units, limits)
    first = len(rows[0])
    chosen: list[IntArray] = []
    longest = 0
    for row in rows:
        fits = (len(chosen) + 1) * max(longest, len(row)) <= limits.positions
        if not chosen or (fits and 0.7 * first <= len(row) <= 1.4 * first):
            chosen.append(row)
            longest = max(longest, len(row))
    return _build(tree, chosen, asked)


def _units(tree: PrefixTree, work: IntArray, focus: int, limits: Limits) -> list[IntArray]:
    """Split ``work`` into sets that depend on nothing uncomputed outside; that of ``focus`` first."""
    work = work[np.lexsort((work, tree.depth[work]))]  # ancestors before descendants
    top = work.copy()
    if np.isin(tree.parent[work], work).any():
        tops: dict[int, int] = {}
        for i, (node, parent) in enumerate(
            zip(work.tolist(), tree.parent[work].tolist(), strict=True)
        ):
            has_slot = parent == ROOT or tree.slot[parent] != NO_SLOT
            tops[node] = top[i] = node if has_slot else tops[parent]
    here = top == top[work == focus]
    order = np.lexsort((top, tree.home[top], ~here))  # stable: keeps ancestors first
    work, top = work[order], top[order]
    edges = np.flatnonzero(np.diff(top)) + 1
    return [unit[: limits.positions] for unit in np.split(work, edges)]


def _rows(tree: PrefixTree, units: list[IntArray], limits: Limits) -> list[IntArray]:
    """Join units into rows of about equal length, a little more than one pass in all."""
    total = min(sum(map(len, units)), limits.positions)
    even = _even(total, _row_length(tree, units, limits))
    rows: list[IntArray] = []
    row: list[IntArray] = []
    size = columns = taken = 0
    home = NO_SLOT
    for unit in units:
        top = unit[0]
        shared = int(tree.depth[tree.home[top]])
        own = max(0, int(tree.depth[top]) - shared) + len(unit)
        cost = own if tree.home[top] == home else own + shared
        if row and (size + len(unit) > even or columns + cost > limits.columns):
            rows.append(np.concatenate(row))
            taken += size
            if taken >= limits.positions:
                return rows
            row, size, columns, cost = [], 0, 0, own + shared
        row.append(unit)
        size, columns, home = size + len(unit), columns + cost, int(tree.home[top])
    return [*rows, np.concatenate(row)]


def _even(total: int, most: int) -> int:
    """The length of about equal rows of ``total`` tokens: at most ``most``, with little padding."""
    rows = -(-total // most)
    lengths = (-(-total // rows), -(-total // (rows + 1)))
    return min(lengths, key=lambda length: -total % length)


def _row_length(tree: PrefixTree, units: list[IntArray], limits: Limits) -> int:
    """Tokens of a row that cost least: longer rows share more past, shorter ones mask out less.

    A row of r units reads s + r·c past tokens, s shared and c of each unit's own; to attend to one is
    worth 1 per token, to read it ``limits.read``. So the cost per token s·read/r + r·c is least
    at r = √(read·s/c).
    """
    tops = np.array([unit[0] for unit in units])
    sizes = np.array([len(unit) for unit in units])
    shared = tree.depth[tree.home[tops]]
    own = np.maximum(0, tree.depth[tops] - shared) + sizes
    r = (limits.read * shared.mean() / own.mean()) ** 0.5
    return int(np.clip(r * sizes.mean(), min(8, limits.row), limits.row))


def _build(tree: PrefixTree, rows: list[IntArray], asked: IntArray) -> Pass:
    """Lay the rows out as arrays; tokens whose laws are asked stand last."""
    member = np.isin(np.concatenate(rows), asked, kind="sort")
    is_asked = np.split(member, np.cumsum([len(row) for row in rows])[:-1])
    rows = [np.concatenate([r[~m], r[m]]) for r, m in zip(rows, is_asked, strict=True)]
    counts = [int(m.sum()) for m in is_asked]
    batch, length, keep = len(rows), max(map(len, rows)), max(*counts, 1)
    nodes = np.concatenate(rows)
    tokens = np.zeros((batch, length), dtype=np.int64)
    positions = np.zeros((batch, length), dtype=np.int64)
    valid: list[IntArray] = []
    at: list[IntArray] = []
    seen: list[tuple[IntArray, IntArray, IntArray]] = []
    paths, lo = tree.paths(nodes), 0
    for b, row in enumerate(rows):
        n = len(row)
        tokens[b, length - n :] = tree.token[row]
        positions[b, length - n :] = tree.depth[row] - 1
        valid.append(np.arange((b + 1) * length - n, (b + 1) * length))
        at.append(np.arange((b + 1) * keep - counts[b], (b + 1) * keep))
        seen.append(_columns(tree, paths[:, lo : lo + n], length - n))
        lo += n
    width = max(len(columns) for columns, _, _ in seen)
    recomputed = int(tree.computed[nodes].sum())
    tree.claim(np.concatenate([columns for columns, _, _ in seen]), nodes)
    tree.computed[nodes] = True
    sees = np.zeros((batch, length, width), dtype=bool)
    read = np.empty((batch, width), dtype=np.int64)
    read_at = np.zeros((batch, width), dtype=np.int64)
    for b, (columns, query, column) in enumerate(seen):
        read[b] = tree.slot[columns[0]]  # padding is a real slot: memory never written may hold NaN
        read[b, : len(columns)] = tree.slot[columns]
        read_at[b, : len(columns)] = tree.depth[columns] - 1
        sees[b, query, column] = True
        sees[b, : length - len(rows[b]), 0] = True
    return Pass(
        tokens,
        positions,
        sees,
        read.ravel(),
        read_at,
        np.concatenate(valid),
        tree.slot[nodes],
        np.concatenate([r[len(r) - c :] for r, c in zip(rows, counts, strict=True)]),
        np.concatenate(at),
        keep,
        recomputed,
    )


def _columns(tree: PrefixTree, paths: IntArray, shift: int) -> tuple[IntArray, IntArray, IntArray]:
    """(distinct nodes on ``paths``; then, for each entry, its query and the index of its node)."""
    flat = paths.ravel()
    entries = np.flatnonzero(flat)
    nodes, order = flat[entries], np.arange(len(entries))
    tree.scratch[nodes] = order
    distinct = nodes[tree.scratch[nodes] == order]
    tree.scratch[distinct] = np.arange(len(distinct))
    return distinct, entries % paths.shape[1] + shift, tree.scratch[nodes]
