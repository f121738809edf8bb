"""The hidden trie (arXiv 2604.04855): many right outputs that share prefixes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np

from ..checks import check_between, check_int
from ..errors import InvalidInput
from ..generators.base import check_prefix
from ..generators.tabular import IntegerGenerator
from ..randomness import keyed_rng, stream_key
from ..tasks.base import Problem
from ..types import FloatArray, IntArray, Output, Prefix, as_tokens
from .hidden_path import OFF, digest

MAX_NODES = 1_000_000
_ROUNDING = 1e-12


class HiddenTrie(IntegerGenerator):
    """A trie T whose leaves are complete outputs, all of depth H; outside T all is uniform.

    At an internal node (a prefix of a leaf, shorter than H) with c children each child token has
    probability a, and the others share the rest equally: (1 − c·a)/(K − c) each, which is below
    1/K ≤ b < a. So children have at least a, all else at most b, inside T and outside, and the
    threshold (a + b)/2 separates them; b is the bound a learner may count on. c·a ≤ 1 limits the
    children.

    O(S + leaves) memory. States number the internal nodes; ``OFF`` is outside T.

    Args:
        vocab_size: K.
        horizon: H, depth of every leaf.
        a: probability of each child token.
        b: bound on the probability of all other tokens, 1/K ≤ b < a.
        trie: the leaves; ``None``: drawn by ``seed``.
        nodes: internal nodes S of a drawn trie, at least H; ``None``: 2·H. It has fewer only if no
            node may branch any more. Not to be given together with ``trie``.
        seed: names the random trie.

    Raises:
        InvalidInput: a parameter is out of range, or ``trie`` does not fit K, H and a.
    """

    family = "hidden_trie"

    def __init__(
        self,
        vocab_size: int,
        horizon: int,
        a: float,
        b: float,
        trie: Iterable[Iterable[int]] | None = None,
        nodes: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(vocab_size, horizon)
        self.a = check_between("a", a, 0.0, 1.0)
        self.b = check_between("b", b, 0.0, self.a)
        if self.b < (1 - _ROUNDING) / self.vocab_size:
            raise InvalidInput(f"b must be at least 1/K = {1 / self.vocab_size:g}, got {b!r}")
        if trie is not None and nodes is not None:
            raise InvalidInput("give either trie or nodes, not both")
        self.seed = seed
        self._drawn = trie is None
        self._most = int((1.0 + _ROUNDING) / self.a)  # most children of a node
        self._children: list[dict[int, int]] = [{}]  # internal node → token → node (OFF: a leaf)
        self._depths: list[int] = [0]
        if trie is not None:
            self._read(trie)
        else:
            limit = 2 * self.horizon if nodes is None else nodes
            self._draw_trie(check_int("nodes", limit, self.horizon, MAX_NODES))
        edges = [(node, t) for node, below in enumerate(self._children) for t in sorted(below)]
        origin, tokens = np.array(edges, dtype=np.int64).T
        self._tokens = tokens
        self._first = np.searchsorted(origin, np.arange(len(self._children) + 1))
        self._edges = origin * self.vocab_size + tokens
        self._below = np.array([self._children[node][t] for node, t in edges], dtype=np.int64)

    @property
    def internal_nodes(self) -> int:
        """S: how many prefixes have children."""
        return len(self._children)

    @cached_property
    def leaves(self) -> tuple[tuple[int, ...], ...]:
        """The right outputs, sorted."""
        found: list[tuple[int, ...]] = []
        stack: list[tuple[int, tuple[int, ...]]] = [(0, ())]
        while stack:
            node, prefix = stack.pop()
            for token, child in self._children[node].items():
                if child == OFF:
                    found.append((*prefix, token))
                else:
                    stack.append((child, (*prefix, token)))
        return tuple(sorted(found))

    @property
    def label(self) -> str:
        """The spec of this instance, with its seed (or a digest of a trie that was given)."""
        which = (
            f"nodes={self.internal_nodes},seed={self.seed}" if self._drawn else f"trie={self._name}"
        )
        return f"{self.family}:K={self.vocab_size},H={self.horizon},a={self.a},b={self.b},{which}"

    @cached_property
    def _name(self) -> str:
        return digest([token for leaf in self.leaves for token in leaf])

    def describe(self) -> Mapping[str, object]:
        return {
            "family": self.family,
            "vocab_size": self.vocab_size,
            "horizon": self.horizon,
            "a": self.a,
            "b": self.b,
            "trie": self._name,
        }

    def contains(self, tokens: Sequence[int]) -> bool:
        """Whether ``tokens`` is a prefix of a leaf, or a leaf."""
        return self._walk(tokens) is not None

    def problem(self, id: str | None = None) -> Problem:
        """The task of finding any leaf: empty prompt, outcome reward 1[y is a leaf].

        The process verifier says whether a prefix lies in the trie; the demonstration is the
        first leaf.

        Args:
            id: the problem's id; ``None``: ``label``.
        """
        contains, horizon = self.contains, self.horizon

        def reward(output: Output) -> float:
            return float(len(output.tokens) == horizon and contains(output.tokens))

        def verifier(output: Output) -> bool:
            return contains(output.tokens)

        return Problem(
            id=self.label if id is None else id,
            prompt=(),
            max_tokens=horizon,
            reward=reward,
            verifier=verifier,
            demonstration=self.leaves[0],
            unique=len(self.leaves) == 1,
            horizon=horizon,
            answer=self.decode(self.leaves[0]),
        )

    def _start(self, prompt: Sequence[int], prefix: Sequence[int]) -> int:
        tokens = (*prompt, *prefix)
        check_prefix(tokens, self.vocab_size, self.horizon)
        node = self._walk(tokens)
        return OFF if node is None else node

    def _advance(self, states: IntArray, tokens: IntArray) -> IntArray:
        edges = states * self.vocab_size + tokens  # negative, so none of ours, outside the trie
        at = np.minimum(np.searchsorted(self._edges, edges), len(self._edges) - 1)
        return np.where(self._edges[at] == edges, self._below[at], OFF)

    def _laws(self, states: IntArray) -> FloatArray:
        laws = np.full((len(states), self.vocab_size), -np.log(self.vocab_size))
        for row, node in enumerate(states.tolist()):
            if node != OFF:
                tokens = self._tokens[self._first[node] : self._first[node + 1]]
                rest = max(0.0, 1.0 - len(tokens) * self.a)  # 0 if a = 1/c, up to rounding
                other = rest / (self.vocab_size - len(tokens))
                laws[row] = np.log(other) if other else -np.inf
                laws[row, tokens] = np.log((1.0 - rest) / len(tokens))
        return laws

    def _walk(self, tokens: Sequence[int]) -> int | None:
        """The internal node of a prefix (``OFF`` for a leaf); ``None`` outside the trie."""
        node = 0
        for token in tokens:
            if node == OFF or token not in self._children[node]:
                return None
            node = self._children[node][token]
        return node

    def _grow(self, node: int, tokens: Iterable[int]) -> None:
        """Add what is missing of the path that leads from ``node`` by ``tokens`` to a leaf."""
        for token in tokens:
            below = self._children[node]
            if token not in below:
                last = self._depths[node] + 1 == self.horizon
                below[token] = OFF if last else len(self._children)
                if not last:
                    self._children.append({})
                    self._depths.append(self._depths[node] + 1)
            node = below[token]

    def _read(self, trie: Iterable[Iterable[int]]) -> None:
        leaves = [as_tokens(leaf) for leaf in trie]
        if not leaves:
            raise InvalidInput("the trie needs at least one leaf")
        for leaf in leaves:
            check_prefix(leaf, self.vocab_size)
            if len(leaf) != self.horizon:
                raise InvalidInput(
                    f"every leaf must have horizon = {self.horizon} tokens, got {Prefix(leaf)} "
                    f"with {len(leaf)}"
                )
            self._grow(0, leaf)
        widest = max(len(below) for below in self._children)
        if widest > self._most:
            raise InvalidInput(
                f"a node has {widest} children; with a = {self.a} at most {self._most} fit"
            )

    def _draw_trie(self, limit: int) -> None:
        """Random branches as long as at most ``limit`` internal nodes result."""
        rng = keyed_rng(stream_key(self.seed, self.family, "trie"))

        def branch(node: int) -> None:
            below = self._children[node]
            token = int(rng.integers(self.vocab_size))
            while token in below:
                token = int(rng.integers(self.vocab_size))
            rest = self.horizon - self._depths[node] - 1
            self._grow(node, [token, *rng.integers(self.vocab_size, size=rest).tolist()])

        branch(0)
        while (room := limit - len(self._children)) > 0:
            added = self.horizon - 1 - np.array(self._depths)  # nodes that a branch there adds
            width = np.array([len(below) for below in self._children])
            free = np.flatnonzero((added >= 1) & (added <= room) & (width < self._most))
            if not len(free):
                break
            branch(int(rng.choice(free)))
        for node in [n for n, depth in enumerate(self._depths) if depth == self.horizon - 1]:
            for _ in range(int(rng.integers(self._most))):
                branch(node)
