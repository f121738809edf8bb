"""The shared decoding loop: all requests advance together, one token per step.

A subclass says what a *state* is (an integer that determines the next-token law), how a token
moves it, and the laws of a batch of distinct states. Rows in the same state share one law, so n
draws at one prefix cost one evaluation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import accumulate
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ..access.contract import Sampling
from ..errors import InvalidInput
from ..randomness import thread_uniforms
from ..types import PAD, FloatArray, IntArray, Physical, Prefix, Reply
from .base import Capabilities, Request, check_prefix
from .law import cumulative, invert, most_likely, sampling_laws

_T = TypeVar("_T", np.int64, np.float64)
_Span = tuple[int, int, int]  # (request, lo, hi): rows lo … hi − 1 of a step belong to the request


class SteppingGenerator(ABC):
    """A generator given by states: ``_start``, ``_advance`` and ``_laws``.

    Subclasses add the text side of the ``Generator`` protocol: ``encode``,
    ``encode_continuation``, ``decode``, ``stop_tokens``, ``end_token`` and ``describe``.
    """

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

    def max_length(self) -> int | None:
        """Most prompt plus generated tokens; ``None``: no limit."""
        return None

    def log_laws(self, prompt: Sequence[int], prefixes: Sequence[Sequence[int]]) -> FloatArray:
        """(len(prefixes), K) nats: the base law at each prefix."""
        if not len(prefixes):
            return np.empty((0, self.vocab_size))
        states = np.array([self._start(prompt, u) for u in prefixes], dtype=np.int64)
        unique, inverse = np.unique(states, return_inverse=True)
        return np.asarray(self._evaluate(unique)[inverse], dtype=np.float64)

    def physical(self) -> Physical:
        return Physical(forwards=self._forwards, computed=self._computed)

    def _evaluate(self, states: IntArray) -> FloatArray:
        self._forwards += 1
        self._computed += len(states)
        return self._laws(states)

    def _draw(self, laws: FloatArray, rows: IntArray, u: FloatArray) -> IntArray:
        """(n,) tokens by inverse transform of ``laws[rows]`` at the uniforms ``u``."""
        return invert(cumulative(laws), rows, u)

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        """Advance all rows of all requests one token per step until each has ended.

        Raises:
            InvalidInput: a request has tokens outside the vocabulary, or runs past ``max_length``.
            BackendError: a law that is drawn from does not sum to 1.
        """
        for request in requests:
            self._check(request)
        return _Decoding(self, requests).run() if requests else []

    def _check(self, request: Request) -> None:
        if request.given is not None:
            check_prefix(request.given, self.vocab_size)
        limit = self.max_length()
        start = len(request.prompt) + len(request.prefix)
        if limit is not None and start + request.length > limit:
            raise InvalidInput(
                f"{request.length} tokens after {start} prompt and prefix tokens pass the "
                f"generator's {limit} positions"
            )


class _Decoding:
    """One call of ``answer``.

    Row r is one continuation: number ``local[r]`` of request ``owner[r]``. Tokens and
    log-probabilities of all requests lie in flat buffers, where row r starts at ``at[r]``.
    """

    def __init__(self, generator: SteppingGenerator, requests: Sequence[Request]) -> None:
        self.generator = generator
        self.requests = requests
        self.uniforms = thread_uniforms()
        starts = [generator._start(r.prompt, r.prefix) for r in requests]
        sizes = [r.n for r in requests]
        self.edges = list(accumulate(sizes, initial=0))
        self.owner = np.repeat(np.arange(len(requests)), sizes)
        self.local = np.arange(len(self.owner)) - np.repeat(self.edges[:-1], sizes)
        self.states = np.repeat(np.array(starts, dtype=np.int64), sizes)
        self.most = np.repeat(np.array([r.length for r in requests], dtype=np.int64), sizes)
        ends = np.cumsum(self.most)
        self.at = ends - self.most
        self.lengths = np.zeros(len(self.owner), dtype=np.int64)
        self.tokens = np.full(ends[-1], PAD, dtype=np.int64)
        scored = [r.report.has_logprob for r in requests]
        self.scored = np.repeat(np.array(scored), sizes) if any(scored) else None
        self.logprobs = np.zeros(ends[-1] if any(scored) else 0)
        self.lists = {
            i: _Lists(r, generator.vocab_size)
            for i, r in enumerate(requests)
            if r.report.top or r.report.has_law
        }
        self.samplings = _groups([r.sampling for r in requests])
        self.stops = _groups([r.stop if r.given is None else frozenset[int]() for r in requests])

    def run(self) -> list[Reply]:
        active = np.arange(len(self.owner))
        step = 0
        while len(active):
            tokens = self._step(step, active)
            step += 1
            going = self.most[active] > step
            for stop, members in self.stops.items():
                if stop:
                    hit = np.isin(tokens, np.fromiter(stop, dtype=np.int64))
                    going &= ~(hit & members[self.owner[active]])
            if not going.all():
                active, tokens = active[going], tokens[going]
            if len(active):
                self.states[active] = self.generator._advance(self.states[active], tokens)
        return [self._reply(index) for index in range(len(self.requests))]

    def _step(self, step: int, active: IntArray) -> IntArray:
        """Evaluate each distinct state once; choose and record one token per active row."""
        distinct, row = _distinct(self.states[active])
        base = self.generator._evaluate(distinct)
        if len(self.samplings) == 1:
            return self._serve(step, active, row, sampling_laws(base, self.requests[0].sampling))
        tokens = np.empty(len(active), dtype=np.int64)
        for sampling, members in self.samplings.items():
            mine = members[self.owner[active]]
            if mine.any():
                laws = sampling_laws(base, sampling)
                tokens[mine] = self._serve(step, active[mine], row[mine], laws)
        return tokens

    def _serve(self, step: int, active: IntArray, row: IntArray, laws: FloatArray) -> IntArray:
        """The next token of each active row, recorded; ``laws[row[i]]`` is the law at active[i]."""
        spans = _spans(self.owner[active])
        tokens = self._choose(step, active, row, laws, spans)
        here = self.at[active] + step
        self.tokens[here] = tokens
        self.lengths[active] = step + 1
        if self.scored is not None:
            mine = self.scored[active]
            self.logprobs[here[mine]] = laws[row[mine], tokens[mine]]
        for index, lo, hi in spans if self.lists else ():
            if index in self.lists:
                self.lists[index].write(step, self.local[active[lo:hi]], row[lo:hi], laws)
        return tokens

    def _choose(
        self, step: int, active: IntArray, row: IntArray, laws: FloatArray, spans: list[_Span]
    ) -> IntArray:
        """Drawn by inverse transform, given, or the most likely token, as each request says."""
        fixed: list[tuple[int, int]] = []  # (position, token) where nothing is drawn
        u = np.empty(len(active))
        for index, lo, hi in spans:
            request = self.requests[index]
            if request.given is not None:
                fixed.append((lo, request.given[step]))
            elif request.report.draws:
                column = self.uniforms.column(request.key, request.first, request.n, step)
                u[lo:hi] = column if hi - lo == request.n else column[self.local[active[lo:hi]]]
            else:
                fixed.append((lo, int(laws[row[lo]].argmax())))
        if not fixed:
            return self.generator._draw(laws, row, u)
        tokens = np.full(len(active), PAD, dtype=np.int64)
        where, what = zip(*fixed, strict=True)
        tokens[list(where)] = what
        drawn = tokens == PAD
        if drawn.any():
            tokens[drawn] = self.generator._draw(laws, row[drawn], u[drawn])
        return tokens

    def _reply(self, index: int) -> Reply:
        """The finished reply, its arrays cut to the longest continuation and read-only."""
        request = self.requests[index]
        lo, hi = self.edges[index], self.edges[index + 1]
        shape, begin = (request.n, request.length), int(self.at[lo])
        flat = slice(begin, begin + request.n * request.length)
        lengths = self.lengths[lo:hi]
        longest = int(lengths.max())
        lists = self.lists.get(index)
        return Reply(
            Prefix(request.prefix),
            _sealed(self.tokens[flat].reshape(shape)[:, :longest]),
            _sealed(lengths),
            _sealed(self.logprobs[flat].reshape(shape)[:, :longest])
            if request.report.has_logprob
            else None,
            *((None, None, None) if lists is None else lists.cut(longest)),
        )


class _Lists:
    """The top-k lists and laws of one request while they grow."""

    def __init__(self, request: Request, vocab_size: int) -> None:
        n, length = request.n, request.length
        rows = 1 if length == 1 else n  # one law serves all draws of a single token
        self.n, self.k = n, min(request.report.top, vocab_size)
        self.top_tokens = np.full((rows, length, self.k), PAD, dtype=np.int64)
        self.top_logprobs = np.zeros((rows, length, self.k))
        self.laws = np.zeros((rows, length, vocab_size)) if request.report.has_law else None

    def write(self, step: int, local: IntArray, row: IntArray, laws: FloatArray) -> None:
        """Store step ``step`` of the continuations ``local``, whose laws are ``laws[row]``."""
        held = len(self.top_tokens)
        local, row = local[:held], row[:held]
        if self.laws is not None:
            self.laws[local, step] = laws[row]
        if self.k:
            distinct, back = np.unique(row, return_inverse=True)
            ids = most_likely(laws[distinct], self.k)
            self.top_tokens[local, step] = ids[back]
            self.top_logprobs[local, step] = np.take_along_axis(laws[distinct], ids, axis=1)[back]

    def cut(self, longest: int) -> tuple[IntArray | None, FloatArray | None, FloatArray | None]:
        """(top_tokens, top_logprobs, laws) for all n continuations, ``None`` if not reported."""

        def shared(array: npt.NDArray[_T]) -> npt.NDArray[_T]:
            array = array[:, :longest]
            return _sealed(np.broadcast_to(array, (self.n, *array.shape[1:])))

        return (
            shared(self.top_tokens) if self.k else None,
            shared(self.top_logprobs) if self.k else None,
            None if self.laws is None else shared(self.laws),
        )


_Setting = TypeVar("_Setting", Sampling, frozenset[int])


def _groups(settings: Sequence[_Setting]) -> dict[_Setting, npt.NDArray[np.bool_]]:
    """Each distinct setting → (requests,) which requests have it."""
    return {s: np.array([s == other for other in settings]) for s in dict.fromkeys(settings)}


def _distinct(states: IntArray) -> tuple[IntArray, IntArray]:
    """(the distinct states, for each state its row among them)."""
    if (states == states[0]).all():
        return states[:1], np.zeros(len(states), dtype=np.int64)
    return np.unique(states, return_inverse=True)


def _spans(owner: IntArray) -> list[_Span]:
    """For each run of equal entries of ``owner``, its value and its bounds."""
    if owner[0] == owner[-1]:  # sorted, so all are equal
        return [(int(owner[0]), 0, len(owner))]
    first = np.flatnonzero(owner[1:] != owner[:-1]) + 1
    starts = [0, *first.tolist()]
    return list(zip(owner[starts].tolist(), starts, [*starts[1:], len(owner)], strict=True))


def _sealed(array: npt.NDArray[_T]) -> npt.NDArray[_T]:
    """``array``, read-only."""
    array.flags.writeable = False
    return array
