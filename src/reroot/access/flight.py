"""Many learners on a generator that answers each request when it can: nobody waits for others.

What a learner waits for at the same time is a *wave* of its own: it goes on when all of it is there,
while others' is open. So what it sees does not depend on which of its questions was answered
first, nor on anybody else, and is what it would see if the generator answered all at once. One
poll waits for everything: replies, judges that work elsewhere, what learners wait for besides
their sessions, and moments.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from ..generators.base import ConcurrentGenerator, Generator
from ..tasks.judges import Begun
from ..types import Reply
from .attempt import Job
from .batches import answer_all, conclude, submit
from .inbox import Inbox
from .judging import Judgement, surprisal_of
from .running import Running, Waiting
from .turns import Terms, on_it, take_turns, wake


class _Answers(Generator, ConcurrentGenerator, Protocol):
    """A generator, and what it does besides."""


def fly(queue: Iterator[Job], generator: _Answers, terms: Terms) -> None:
    """Run every job; see ``runner.execute``."""
    with Inbox() as inbox:
        flight = _Flight(generator, terms, inbox)
        try:
            flight.run(queue)
        finally:
            flight.end()


@dataclass(slots=True, eq=False)
class _Wave:
    """What one learner waits for, in the order in which it was asked; ``open`` of it is not there."""

    items: list[Waiting]
    open: int


@dataclass(slots=True, eq=False)
class _Call:
    """A judge at work elsewhere, and what is done with what it says (see ``Begun``)."""

    begun: Begun
    then: Callable[[float | None], None]
    open: int


@dataclass(slots=True, eq=False)
class _Scored:
    """A finished attempt while it is judged and its output scored."""

    judgement: Judgement
    reply: Future[Reply] | None = None


class _Flight:
    def __init__(self, generator: _Answers, terms: Terms, inbox: Inbox) -> None:
        self._generator, self._terms, self._inbox = generator, terms, inbox
        self._stage = terms.stage
        self._running: dict[Running, None] = {}  # not finished; between steps each in one of these:
        self._ready: list[Running] = []
        self._parked: list[Running] = []
        self._waves: dict[Running, _Wave] = {}
        self._finished: set[_Scored] = set()
        self._timed: dict[_Call, None] = {}  # with a limit, in the order in which they began
        self._since = 0.0  # when the first of these became the first, or came on

    def run(self, queue: Iterator[Job]) -> None:
        terms = self._terms
        while True:
            # an attempt keeps its place until it is judged: judges must be able to keep up
            free = terms.at_once - len(self._running) - len(self._finished)
            for job in itertools.islice(queue, max(0, free)):
                self._ready.append(terms.start(job))
                self._running[self._ready[-1]] = None
            if not self._running and not self._finished:
                return
            terms.on_round(len(self._running))
            if self._ready:
                self._step()
                self._receive(until=0.0)
            else:
                self._receive(until=math.inf)

    def _step(self) -> None:
        """Let everybody who can go on; what they ask is begun, and who has finished is judged."""
        ready, self._ready = self._ready, []
        waiting = take_turns(self._stage, ready, self._terms.attempt_timeout)
        done = [r for r in ready if r.finished is not None]
        for running in done:
            del self._running[running]
        self._stage.close(on_it(done))
        waiting = [item for item in waiting if item.running.finished is None]
        for item in waiting:
            self._waves.setdefault(item.running, _Wave([], 0)).items.append(item)
        for r in ready:
            if r.finished is None and r not in self._waves:
                (self._ready if r.parked is None else self._parked).append(r)
        self._begin(waiting)
        self._judge(done)

    def _receive(self, until: float) -> None:
        """Take what has come; wait for it, but not longer than until that moment."""
        first = next(iter(self._timed), None)
        if first is not None:
            until = min(until, self._since + (first.begun.limit or 0.0))
        woken = wake(self._parked, self._terms.attempt_timeout, until, self._inbox.fd)
        if woken:
            self._parked = [r for r in self._parked if r.parked is not None]
            self._ready += woken
        for action in self._inbox.take():
            action()
        # as one loop serves all that is awaited, only the first one's time is running
        if first in self._timed and time.monotonic() >= self._since + (first.begun.limit or 0.0):
            self._ruled(first, 0.0)

    # ---- what learners wait for ----------------------------------------------------------------

    def _begin(self, waiting: Sequence[Waiting]) -> None:
        """Ask for what has not been answered before."""
        for item in waiting:
            self._waves[item.running].open += 1
        asked = [
            i for i in waiting if i.admitted and i.admitted.kind == "queries" and not i.settled
        ]
        parts = [item.admitted.requests for item in asked if item.admitted]
        for item, futures in zip(asked, submit(self._generator, parts), strict=True):
            if isinstance(futures, Exception):
                item.lose(futures)
            else:
                item.futures = futures
        shown = [i for i in waiting if i.admitted and i.admitted.kind != "queries"]
        answer_all(self._generator, shown)  # hidden states are given at once
        for item in waiting:
            for i, future in enumerate(item.futures):
                self._inbox.expect(future, partial(self._replied, item, i))
            if item.settled:
                self._settled(item)
            elif item.begun is not None:
                self._call(item.begun, partial(self._verdicts, item))
            elif not item.futures:
                item.collect()
                self._settled(item)

    def _replied(self, item: Waiting, i: int) -> None:
        if item.settled:
            return
        future = item.futures[i]
        if not future.cancelled() and future.exception() is not None:
            item.cancel(after=i)
        if i == item.come:
            item.collect()
            if item.settled:
                self._settled(item)

    def _verdicts(self, item: Waiting, wait: float | None) -> None:
        item.judged(wait)
        self._settled(item)

    def _settled(self, item: Waiting) -> None:
        """Its learner goes on if this was the last."""
        running = item.running
        wave = self._waves[running]
        wave.open -= 1
        if wave.open:
            item.keep()
            return
        del self._waves[running]
        conclude(wave.items)
        self._ready.append(running)

    # ---- judges ----------------------------------------------------------------------------------

    def _call(self, begun: Begun, then: Callable[[float | None], None]) -> None:
        call = _Call(begun, then, len(begun.futures))
        if not begun.futures:
            then(None)
            return
        if begun.limit is not None:
            if not self._timed:
                self._since = time.monotonic()
            self._timed[call] = None
        for future in begun.futures:
            self._inbox.expect(future, partial(self._came_on, call))

    def _came_on(self, call: _Call) -> None:
        call.open -= 1
        if call is next(iter(self._timed), None):
            self._since = time.monotonic()
        if call.open == 0:
            self._ruled(call, None)

    def _ruled(self, call: _Call, wait: float | None) -> None:
        """Take what a judge says; or, with a ``wait`` of none, that it has said nothing in time."""
        call.open = -1  # what comes of it after its time is not looked at
        if call is next(iter(self._timed), None):
            self._since = time.monotonic()
        self._timed.pop(call, None)
        call.then(wait)

    # ---- finished attempts -----------------------------------------------------------------------

    def _judge(self, done: Sequence[Running]) -> None:
        new = [_Scored(Judgement(running, self._terms.judge_timeout)) for running in done]
        self._finished.update(new)
        requests = [one.judgement.request for one in new]
        if not self._generator.capabilities.forced:
            requests = [None] * len(new)
        scored = [one for one, request in zip(new, requests, strict=True) if request is not None]
        parts = [[request] for request in requests if request is not None]
        for one, found in zip(scored, submit(self._generator, parts), strict=True):
            if not isinstance(found, Exception):  # else nothing is known of its surprisal
                one.reply = found[0]
                self._inbox.expect(one.reply, partial(self._told, one))
        for one in new:
            self._go_on(one)

    def _go_on(self, one: _Scored, wait: float | None = None, take: bool = False) -> None:
        """Take what its judge has said, if it has, and ask the next one; in the end it is told."""
        if take:
            one.judgement.take(wait)
        while (begun := one.judgement.begun) is not None:
            if begun.elsewhere:
                self._call(begun, partial(self._go_on, one, take=True))
                return
            one.judgement.take()
        self._told(one)

    def _told(self, one: _Scored) -> None:
        reply, judgement = one.reply, one.judgement
        waits = judgement.begun is not None or (reply is not None and not reply.done())
        if waits or one not in self._finished:
            return
        self._finished.remove(one)
        if reply is not None:
            with suppress(Exception):
                judgement.surprisal = surprisal_of(reply.result(0))
        self._terms.tell(judgement.running, judgement.attempt())

    def end(self) -> None:
        """Let go of whatever is still going on; what has been answered meanwhile is written down."""
        for item in [item for wave in self._waves.values() for item in wave.items]:
            if item.settled or not item.futures:
                continue
            with suppress(BaseException):  # it may be what ends this
                item.collect()
            if item.settled and item.error is None:  # which may be of what ends this, too
                item.keep()
            item.cancel()
        for one in self._finished:
            if one.reply is not None:
                one.reply.cancel()
        self._stage.end(on_it(self._running))
