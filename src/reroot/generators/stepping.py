"""The shared decoding loop: all requests advance together, one token per step.

A subclass says what a *state* is (an integer that determines the next-token law), how a token
moves it, and the laws of a batch of distinct states. Rows in the same state share one law, so n
draws at one prefix cost one evaluation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from ..randomness import Uniforms
from ..types import PAD, FloatArray, IntArray, Physical, Prefix, Reply
from .base import Capabilities, Request
from .law import cumulative, invert, most_likely, sampling_laws


class SteppingGenerator(ABC):
    """A generator given by states: ``_start``, ``_advance`` and ``_laws``."""

    def __init__(self) -> None:
        self._forwards = self._computed = 0

    @property
    @abstractmethod
    def vocab_size(self) -> int: ...

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities()

    @abstractmethod
    def _start(self, prompt: Sequence[int], prefix: Sequence[int]) -> int:
        """The state after prompt and prefix; ``InvalidInput`` if there is no next token."""

    @abstractmethod
    def _advance(self, states: IntArray, tokens: IntArray) -> IntArray:
        """(n,) states after ``tokens``, elementwise; called only where a next token exists."""

    @abstractmethod
    def _laws(self, states: IntArray) -> FloatArray:
        """(n, K) log P(· | state) in nats for distinct states; float32 or float64."""

    def log_laws(self, prompt: Sequence[int], prefixes: Sequence[Sequence[int]]) -> FloatArray:
        states = np.array([self._start(prompt, u) for u in prefixes], dtype=np.int64)
        unique, inverse = np.unique(states, return_inverse=True)
        return np.asarray(self._evaluate(unique)[inverse], dtype=np.float64)

    def physical(self) -> Physical:
        return Physical(forwards=self._forwards, computed=self._computed)

    def _evaluate(self, states: IntArray) -> FloatArray:
        self._forwards += 1
        self._computed += len(states)
        return self._laws(states)

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        """Advance all rows of all requests one token per step until each has ended."""
        return _Decoding(self, requests).run()


class _Record:
    """The reply of one request while it grows."""

    def __init__(self, request: Request, vocab_size: int) -> None:
        n, length, report = request.n, request.length, request.report
        rows = 1 if length == 1 and request.given is None else n  # one law serves all n draws
        k = min(report.top, vocab_size)
        self.request = request
        self.tokens = np.full((n, length), PAD, dtype=np.int64)
        self.lengths = np.zeros(n, dtype=np.int64)
        self.logprobs = np.zeros((n, length)) if report.has_logprob else None
        self.top_tokens = np.full((rows, length, k), PAD, dtype=np.int64) if k else None
        self.top_logprobs = np.zeros((rows, length, k)) if k else None
        self.laws = np.zeros((rows, length, vocab_size)) if report.has_law else None

    def write(self, step: int, rows: IntArray, tokens: IntArray, laws: FloatArray, at: IntArray):
        """Store step ``step`` of continuations ``rows``: their tokens and laws[at]."""
        self.tokens[rows, step] = tokens
        self.lengths[rows] += 1
        if self.logprobs is not None:
            self.logprobs[rows, step] = laws[at, tokens]
        if self.top_tokens is not None and self.top_logprobs is not None:
            distinct, back = np.unique(at, return_inverse=True)
            ids = most_likely(laws[distinct], self.request.report.top)
            values = np.take_along_axis(laws[distinct], ids, axis=1)
            where = rows[: len(self.top_tokens)]
            self.top_tokens[where, step] = ids[back][: len(where)]
            self.top_logprobs[where, step] = values[back][: len(where)]
        if self.laws is not None:
            where = rows[: len(self.laws)]
            self.laws[where, step] = laws[at[: len(where)]]

    def reply(self) -> Reply:
        """The finished reply, its arrays cut to the longest continuation."""
        longest = int(self.lengths.max())

        def cut(array: np.ndarray | None):
            if array is None:
                return None
            array = array[:, :longest]
            if len(array) != self.request.n:
                array = np.broadcast_to(array, (self.request.n, *array.shape[1:]))
            return array

        tokens = cut(self.tokens)
        assert tokens is not None
        return Reply(
            Prefix(self.request.prefix),
            tokens,
            self.lengths,
            cut(self.logprobs),
            cut(self.top_tokens),
            cut(self.top_logprobs),
            cut(self.laws),
        )


class _Decoding:
    """One call of ``answer``: rows of all requests, stepped together."""

    def __init__(self, generator: SteppingGenerator, requests: Sequence[Request]) -> None:
        self.generator = generator
        self.requests = requests
        self.records = [_Record(r, generator.vocab_size) for r in requests]
        self.uniforms = Uniforms()
        sizes = [r.n for r in requests]
        self.request_of = np.repeat(np.arange(len(requests)), sizes)
        self.local = np.concatenate([np.arange(n) for n in sizes]) if sizes else np.zeros(0, int)
        self.lengths = np.array([r.length for r in requests], dtype=np.int64)
        starts = [generator._start(r.prompt, r.prefix) for r in requests]
        self.states = np.repeat(np.array(starts, dtype=np.int64), sizes)

    def run(self) -> list[Reply]:
        active = np.arange(len(self.states))
        step = 0
        while len(active):
            tokens = self._step(step, active)
            step += 1
            ended = self.lengths[self.request_of[active]] <= step
            for stop in {r.stop for r in self.requests}:
                if stop:
                    uses = np.array([r.stop == stop and r.given is None for r in self.requests])
                    hit = np.isin(tokens, np.fromiter(stop, dtype=np.int64))
                    ended |= hit & uses[self.request_of[active]]
            active, tokens = active[~ended], tokens[~ended]
            if len(active):
                self.states[active] = self.generator._advance(self.states[active], tokens)
        return [record.reply() for record in self.records]

    def _step(self, step: int, active: IntArray) -> IntArray:
        """Evaluate the distinct states once, then choose and record one token per active row."""
        distinct, row = np.unique(self.states[active], return_inverse=True)
        base = self.generator._evaluate(distinct)
        tokens = np.empty(len(active), dtype=np.int64)
        owner = self.request_of[active]
        edges = np.searchsorted(owner, np.arange(len(self.requests) + 1))
        served = {s: sampling_laws(base, s) for s in {self.requests[r].sampling for r in owner}}
        cums: dict[object, FloatArray] = {}
        for index, request in enumerate(self.requests):
            lo, hi = edges[index], edges[index + 1]
            if lo == hi:
                continue
            laws, rows, local = served[request.sampling], row[lo:hi], self.local[active[lo:hi]]
            if request.given is not None:
                chosen = np.array([request.given[step]])
            elif request.report.draws:
                if request.sampling not in cums:
                    cums[request.sampling] = cumulative(laws)
                u = self.uniforms.column(request.key, request.first, request.n, step)[local]
                chosen = invert(cums[request.sampling], rows, u)
            else:
                chosen = laws[rows].argmax(axis=1)
            tokens[lo:hi] = chosen
            self.records[index].write(step, local, chosen, laws, rows)
        return tokens
