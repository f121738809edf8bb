"""What language models that are computed through a prefix tree have in common: states and kept laws."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager

import numpy as np
import numpy.typing as npt

from ..errors import InvalidInput
from ..types import FloatArray, IntArray, Reply
from .base import Request, check_prefix
from .over_text import OverText
from .prefix_tree import ROOT, PrefixTree
from .stepping import BatchCapacity, SteppingGenerator
from .wide import WIDE, LawStore, draw_wide

_NODES = 1 << 16  # dead nodes that may be left behind before they are dropped
_LAW_ENTRIES = 1 << 25  # most entries of the laws that are in flight at once


class TreeGenerator(OverText, SteppingGenerator):
    """A generator whose states are nodes of a prefix tree, and which keeps laws.

    Subclasses call ``_begin`` before anything else, and say how a few laws are computed in ``_pass``.
    """

    _reached: int  # tokens that what was asked would have cost without a cache

    def _begin(self, tree: PrefixTree, law_rows: int) -> None:
        """Start with an empty tree, and room to keep that many laws."""
        self._tree = tree
        self._kept = LawStore(min(law_rows, 1 << 16), self._vocab)
        self._buffer = np.empty((max(16, _LAW_ENTRIES // self._vocab), self._vocab), np.float32)
        self._ahead: dict[int, int] = {}
        self._left = 0  # nodes when dead ones were last dropped

    @abstractmethod
    def _pass(self, asked: IntArray) -> tuple[IntArray, npt.NDArray[np.float32]]:
        """((m,) some of ``asked``; (m, K) their laws in nats); m = 0 where it only came nearer to them."""

    def _in_use(self) -> IntArray:
        """Nodes whose numbers must stay valid, besides those that are asked about."""
        return np.arange(0)

    def _evaluating(self) -> AbstractContextManager[None]:
        """Around everything that computes."""
        return contextlib.nullcontext()

    @property
    def vocab_size(self) -> int:
        return self._vocab

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        """One reply each. What the cache cannot hold at once waits for rows that end; that moves no
        draw, because every continuation has its own place in the random stream.

        Raises:
            InvalidInput: tokens outside the vocabulary, no tokens at all, or more than ``max_length``.
            BackendError: the model's laws are not laws (NaN).
        """
        for request in requests:
            self._check(request)
        self._tidy(np.arange(0))
        try:
            self._look_ahead(requests)
            with self._evaluating():
                return super().answer(requests)
        finally:
            self._ahead = {}

    def log_laws(self, prompt: Sequence[int], prefixes: Sequence[Sequence[int]]) -> FloatArray:
        """(len(prefixes), K) nats: the base law at each prefix."""
        self._tidy(np.arange(0))
        with self._evaluating():
            return super().log_laws(prompt, prefixes)

    def _capacity(self) -> BatchCapacity:
        return BatchCapacity(len(self._buffer), self._tree.limit)

    def _look_ahead(self, requests: Sequence[Request]) -> None:
        """Note the paths of forced tokens, so that each is computed in one pass."""
        for request in requests:
            if request.forced is not None:
                node = self._start(request.prompt, request.prefix)
                for token in request.forced[:-1]:
                    self._ahead[node] = node = self._tree.walk(node, (token,))

    def _tidy(self, states: IntArray) -> None:
        """Drop dead nodes when there are many, but for those in use."""
        if len(self._tree) > self._left + 2 * self._tree.limit + _NODES:
            ahead = np.array([*self._ahead, *self._ahead.values()], dtype=np.int64)
            kept = np.array(self._kept.nodes(), dtype=np.int64)
            self._tree.forget(np.concatenate([kept, states, ahead, self._in_use()]))
            self._left = len(self._tree)  # so that what is in use is not looked through each step

    def _start(self, prompt: Sequence[int], prefix: Sequence[int]) -> int:
        self._string(prompt, prefix, 1)
        return self._tree.start(prompt, prefix)

    def _string(self, prompt: Sequence[int], prefix: Sequence[int], more: int) -> tuple[int, ...]:
        """Prompt and prefix as one string, checked, with room for ``more`` tokens."""
        check_prefix(prompt, self._vocab)
        check_prefix(prefix, self._vocab)
        length, limit = len(prompt) + len(prefix), self.max_length()
        if not length:
            raise InvalidInput("a language model needs at least one prompt token, got none")
        if limit is not None and length + more > limit:
            raise InvalidInput(f"{length} tokens fill the model's {limit} positions")
        return (*prompt, *prefix)

    def _advance(self, states: IntArray, tokens: IntArray) -> IntArray:
        return self._tree.children(states, tokens)

    def _laws(self, states: IntArray) -> FloatArray:
        """The laws, in memory that the next call overwrites."""
        self._reached += int(self._tree.depth[states].sum())
        laws = self._buffer[: len(states)]  # touching new memory costs more than filling old
        if len(laws) < len(states):
            laws = np.empty((len(states), self._vocab), dtype=np.float32)
        missing = self._kept.read(states, laws)
        place = dict(zip(states[missing].tolist(), missing.tolist(), strict=True))
        left = np.unique(np.array([*place, *self._soon(list(place))], dtype=np.int64))
        while len(left):
            nodes, fresh = self._pass(left)
            self._kept.write(nodes, fresh)
            if np.array_equal(nodes, states):
                return fresh  # pyright: ignore[reportReturnType]  # float32
            for law, node in zip(fresh, nodes.tolist(), strict=True):
                if node in place:
                    laws[place[node]] = law
            left = np.setdiff1d(left, nodes, assume_unique=True)
        return laws  # pyright: ignore[reportReturnType]  # float32

    def _soon(self, nodes: Sequence[int]) -> Iterator[int]:
        """Nodes that forced tokens lead to from ``nodes``, as many as the kept laws have room for."""
        room = self._kept.rows // 2 // max(1, len(nodes))
        for node in nodes if self._ahead else ():
            for _ in range(room):
                if (node := self._ahead.get(node, ROOT)) == ROOT:
                    break
                if node not in self._kept:
                    yield node

    def _draw(self, laws: FloatArray, rows: IntArray, u: FloatArray) -> IntArray:
        return (draw_wide if self._vocab >= WIDE else super()._draw)(laws, rows, u)
