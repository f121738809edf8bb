"""The shared decoding loop: rows of all requests advance together, one token each per step.

A subclass says what a *state* is (an integer that determines the next-token law), how a token
moves it, and the laws of a batch of distinct states. Rows in the same state share one law, so n
draws at one prefix cost one evaluation. A subclass with bounded memory says how much is in flight at
once; a row that ends makes room for the next one at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ..contract import Sampling
from ..errors import InvalidInput
from ..randomness import thread_uniforms
from ..types import PAD, FloatArray, IntArray, Physical, Prefix, Reply, read_only
from .base import Capabilities, Request, check_prefix
from .law import cumulative, invert, most_likely, sampling_laws
from .stops import Stop, Stops, grouped

_T = TypeVar("_T", np.int64, np.float64)
_Span = tuple[int, int, int, int]  # (request, step, lo, hi): rows lo … hi − 1 are at its step


class SteppingGenerator(ABC):
    """A generator given by states: ``_start``, ``_advance`` and ``_laws``.

    Subclasses add the text side of the ``Generator`` protocol: ``encode``,
    ``encode_continuation``, ``decode``, ``stops``, ``end_token`` and ``describe``.
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

    def _capacity(self) -> BatchCapacity | None:
        """What may be in flight at once; ``None``: everything."""
        return None

    def _tidy(self, states: IntArray) -> None:  # noqa: B027
        """Called between steps with the states still in use; all others may be given up."""

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
        if request.forced is not None:
            check_prefix(request.forced, self.vocab_size)
        limit = self.max_length()
        start = len(request.prompt) + len(request.prefix)
        if limit is not None and start + request.length > limit:
            raise InvalidInput(
                f"{request.length} tokens after {start} prompt and prefix tokens pass the "
                f"generator's {limit} positions"
            )


class BatchCapacity:
    """Memory for rows in flight: laws and places for tokens.

    A row holds places for all tokens that it may generate until it ends; prompt and prefix of its
    request are held while any of its rows is in flight. Rows of single tokens share one law.

    Args:
        laws: most distinct laws of one step.
        places: most tokens held.
    """

    def __init__(self, laws: int, places: int) -> None:
        self._laws, self._places = laws, places
        self._prompts: Counter[tuple[int, ...]] = Counter()
        self._rows: Counter[int] = Counter()
        self._in_flight = 0

    def acquire(self, index: int, request: Request, rows: int) -> int:
        """How many of the next ``rows`` rows of a request there is room for; they take it."""
        begun = self._rows[index] > 0
        start = 0 if begun else len(request.prefix)
        start += 0 if self._prompts[request.prompt] else len(request.prompt)
        if request.length == 1:  # all of them at one prefix
            fits = rows if begun or (self._laws > 0 and start + 1 <= self._places) else 0
        else:
            fits = min(rows, self._laws, (self._places - start) // request.length)
        if fits < 1 and self._in_flight:
            return 0
        if fits < 1:  # something is always served
            fits = rows if request.length == 1 else 1
        self._in_flight += fits
        self._rows[index] += fits
        self._prompts[request.prompt] += fits
        self._hold(request, fits, start, begun)
        return fits

    def release(self, index: int, request: Request, rows: int) -> None:
        """``rows`` rows of a request have ended."""
        self._in_flight -= rows
        self._rows[index] -= rows
        self._prompts[request.prompt] -= rows
        ended = not self._rows[index]
        start = len(request.prefix) if ended else 0
        start += 0 if self._prompts[request.prompt] else len(request.prompt)
        self._hold(request, -rows, -start, not ended)

    def _hold(self, request: Request, rows: int, start: int, shares: bool) -> None:
        if request.length == 1:
            rows = 0 if shares else (1 if rows > 0 else -1)
        self._laws -= rows
        self._places -= start + rows * request.length


class _Decoding:
    """One call of ``answer``.

    Row r is one continuation: number ``local[r]`` of request ``owner[r]``. Tokens and
    log-probabilities of all requests lie in flat buffers, where row r starts at ``at[r]``; its step is
    the number of its tokens, ``lengths[r]``.
    """

    def __init__(self, generator: SteppingGenerator, requests: Sequence[Request]) -> None:
        self.generator = generator
        self.requests = requests
        self.uniforms = thread_uniforms()
        starts = [generator._start(r.prompt, r.prefix) for r in requests]
        self.starts = np.array(starts, dtype=np.int64)
        sizes = [r.n for r in requests]
        self.edges = list(accumulate(sizes, initial=0))
        self.owner = np.repeat(np.arange(len(requests)), sizes)
        self.local = np.arange(len(self.owner)) - np.repeat(self.edges[:-1], sizes)
        self.states = np.repeat(self.starts, sizes)
        self.most = np.repeat(np.array([r.length for r in requests], dtype=np.int64), sizes)
        ends = np.cumsum(self.most)
        self.at = ends - self.most
        self.lengths = np.zeros(len(self.owner), dtype=np.int64)
        self.tokens = np.full(ends[-1], PAD, dtype=np.int64)
        scored = [r.report.has_logprob for r in requests]
        self.scored = np.repeat(np.array(scored), sizes) if any(scored) else None
        self.logprobs = np.zeros(ends[-1] if any(scored) else 0)
        raw = any(r.report.has_logprob and not r.sampling.is_base for r in requests)
        self.base_logprobs = np.zeros(ends[-1]) if raw else self.logprobs
        self.lists = {
            i: _Lists(r, generator.vocab_size)
            for i, r in enumerate(requests)
            if r.report.top or r.report.has_law
        }
        self.samplings = grouped([r.sampling for r in requests])
        self.stops = Stops([r.stop if r.forced is None else Stop() for r in requests])

    def run(self) -> list[Reply]:
        capacity = self.generator._capacity()
        active, waiting = self._admitted(np.arange(0), 0, capacity)
        while len(active):
            tokens = self._step(active)
            going = self.most[active] > self.lengths[active]
            going &= ~self.stops.ended(self.owner[active], tokens, partial(self._so_far, active))
            if not going.all():
                if capacity is not None:
                    ended = np.bincount(self.owner[active[~going]])
                    for index in np.flatnonzero(ended).tolist():
                        capacity.release(index, self.requests[index], int(ended[index]))
                active, tokens = active[going], tokens[going]
            if len(active):
                self.states[active] = self.generator._advance(self.states[active], tokens)
            if waiting < len(self.owner):
                active, waiting = self._admitted(active, waiting, capacity)
            if capacity is not None:
                self.generator._tidy(np.concatenate([self.states[active], self.states[waiting:]]))
        return [self._reply(index) for index in range(len(self.requests))]

    def _so_far(self, active: IntArray, row: int) -> tuple[int, ...]:
        """All tokens of the output of an active row, its prefix included."""
        index = int(active[row])
        drawn = self.tokens[self.at[index] : self.at[index] + self.lengths[index]]
        return (*self.requests[self.owner[index]].prefix, *drawn.tolist())

    def _admitted(
        self, active: IntArray, waiting: int, capacity: BatchCapacity | None
    ) -> tuple[IntArray, int]:
        """(rows in flight with those that there is room for, the first row that waits)."""
        first, total = waiting, len(self.owner)
        if capacity is None:
            return np.arange(total), total
        while waiting < total:
            index = int(self.owner[waiting])
            wanted = self.edges[index + 1] - waiting
            taken = capacity.acquire(index, self.requests[index], wanted)
            waiting += taken
            if taken < wanted:
                break
        return np.concatenate([active, np.arange(first, waiting)]), waiting

    def _step(self, active: IntArray) -> IntArray:
        """Evaluate each distinct state once; choose and record one token per active row."""
        if len(active) == len(self.owner) and not self.lengths.any():  # the rows of a request agree
            distinct, row = _distinct(self.starts)
            row = row[self.owner]
        else:
            distinct, row = _distinct(self.states[active])
        base = self.generator._evaluate(distinct)
        if len(self.samplings) == 1:
            return self._serve(active, row, base, self.requests[0].sampling)
        tokens = np.empty(len(active), dtype=np.int64)
        for sampling, members in self.samplings.items():
            mine = members[self.owner[active]]
            if mine.any():
                tokens[mine] = self._serve(active[mine], row[mine], base, sampling)
        return tokens

    def _serve(
        self, active: IntArray, row: IntArray, base: FloatArray, sampling: Sampling
    ) -> IntArray:
        """The next token of each active row, recorded; ``base[row[i]]`` is the law at active[i]."""
        laws = sampling_laws(base, sampling)
        spans = _spans(self.owner[active], self.lengths[active])
        tokens = self._choose(active, row, laws, spans)
        here = self.at[active] + self.lengths[active]
        self.tokens[here] = tokens
        if self.scored is not None:
            mine = self.scored[active]
            self.logprobs[here[mine]] = laws[row[mine], tokens[mine]]
            if self.base_logprobs is not self.logprobs:
                self.base_logprobs[here[mine]] = base[row[mine], tokens[mine]]
        for index, step, lo, hi in spans if self.lists else ():
            if index in self.lists:
                self.lists[index].write(step, self.local[active[lo:hi]], row[lo:hi], laws)
        self.lengths[active] += 1
        return tokens

    def _choose(
        self, active: IntArray, row: IntArray, laws: FloatArray, spans: list[_Span]
    ) -> IntArray:
        """Drawn, given, or the most likely token, as each request says."""
        fixed: list[tuple[int, int]] = []  # (position, token) where nothing is drawn
        u = np.empty(len(active))
        for index, step, lo, hi in spans:
            request = self.requests[index]
            if request.forced is not None:
                fixed.append((lo, request.forced[step]))
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
        longest = 1 if request.length == 1 else int(lengths.max())
        lists = self.lists.get(index)
        scored = request.report.has_logprob

        def cut(array: npt.NDArray[_T]) -> npt.NDArray[_T]:
            rows = array[flat].reshape(shape)
            return read_only(rows if longest == request.length else rows[:, :longest])

        return Reply(
            Prefix(request.prefix),
            cut(self.tokens),
            read_only(lengths),
            cut(self.logprobs) if scored else None,
            *((None, None, None) if lists is None else lists.cut(longest)),
            base_logprobs=cut(self.base_logprobs) if scored else None,
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
            return read_only(np.broadcast_to(array, (self.n, *array.shape[1:])))

        return (
            shared(self.top_tokens) if self.k else None,
            shared(self.top_logprobs) if self.k else None,
            None if self.laws is None else shared(self.laws),
        )


def _distinct(states: IntArray) -> tuple[IntArray, IntArray]:
    """(the distinct states, for each state its row among them)."""
    if (states == states[0]).all():
        return states[:1], np.zeros(len(states), dtype=np.int64)
    return np.unique(states, return_inverse=True)


def _spans(owner: IntArray, steps: IntArray) -> list[_Span]:
    """For each run of rows of one request at one step: both, and its bounds."""
    if owner[0] == owner[-1] and (steps == steps[0]).all():  # owners are sorted
        return [(int(owner[0]), int(steps[0]), 0, len(owner))]
    first = np.flatnonzero((owner[1:] != owner[:-1]) | (steps[1:] != steps[:-1])) + 1
    starts = [0, *first.tolist()]
    ends = [*starts[1:], len(owner)]
    return list(zip(owner[starts].tolist(), steps[starts].tolist(), starts, ends, strict=True))
