"""Learners here, sessions elsewhere: turns go over the wall, answers come back.

Who waits for an answer waits alone. What a learner sends in one turn crosses together, so that at the
other side it is admitted, answered and charged in the order in which it would be here.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from ..errors import AccountExceeded
from ..types import Cost
from .attempt import Attempt, Job, Log
from .failures import Failure, failure_of
from .inbox import Inbox
from .learner_loop import Parked
from .learner_thread import Finished, Turn
from .running import MOST_IDLE
from .session import Answer
from .turns import Terms, limit_of, over_time, wake
from .wall import Line, Opened, Told, Wall


def relay(queue: Iterator[Job], wall: Wall, terms: Terms) -> None:
    """Run every job; see ``runner.execute``."""
    with Inbox() as inbox:
        relays = _Relays(wall, terms, inbox)
        try:
            relays.run(queue)
        finally:
            relays.end()


@dataclass(slots=True, eq=False)
class _Relayed:
    """An attempt whose session is elsewhere; see ``Running``."""

    job: Job
    log: Log | None
    line: Line | None = None
    task: Any = None  # of its stage
    answers: list[tuple[int, Answer]] = field(default_factory=list[tuple[int, Answer]])
    sent: int = 0
    open: int = 0
    idle_since: int = 0
    spent: Cost = Cost()
    short: AccountExceeded | None = None
    clock: float = 0.0
    parked: Parked | None = None
    parked_at: float = 0.0
    finished: Finished | None = None
    raised: BaseException | None = None
    waits: Future[Any] | None = None

    def fail(self, kind: str, why: str) -> None:
        """Give the learner up."""
        self.answers, self.parked = [], None
        self.finished = Finished(error=Failure(kind, why))

    def take(self, told: list[Told]) -> None:
        """Write answers down, and have them for the learner's next turn."""
        for one in told:
            if self.log is not None:
                self.log.append(self.job.key, one.line)
            self.answers.append((one.ticket, one.answer))
            if isinstance(one.answer.error, AccountExceeded):
                self.short = one.answer.error
            if one.answer.spent != self.spent:
                self.spent, self.idle_since = one.answer.spent, self.sent
        self.open -= len(told)
        if self.sent - self.idle_since > MOST_IDLE:
            why = f"sent {MOST_IDLE:,} messages in a row that were refused or cost nothing"
            self.fail("stalled", why)

    def lost(self) -> Attempt:
        """What became of it where its session does not say."""
        assert self.raised is not None
        return Attempt.lost(self.job, self.spent, failure_of(self.raised))


class _Relays:
    def __init__(self, wall: Wall, terms: Terms, inbox: Inbox) -> None:
        self._wall, self._terms, self._inbox = wall, terms, inbox
        self._stage = terms.stage
        self._alive: dict[_Relayed, None] = {}
        self._ready: list[_Relayed] = []
        self._parked: list[_Relayed] = []

    def run(self, queue: Iterator[Job]) -> None:
        terms = self._terms
        while True:
            for job in itertools.islice(queue, terms.at_once - len(self._alive)):
                self._begin(job)
            if not self._alive:
                return
            terms.on_round(len(self._alive))
            if self._ready:
                self._step()
            self._receive(0.0 if self._ready else math.inf)

    def _begin(self, job: Job) -> None:
        log = self._terms.log
        one = _Relayed(job, log)
        self._alive[one] = None
        if log is not None and log.recorded(job.key):
            # its session went with whoever had opened it: the attempt is made from its beginning
            log.append(job.key, {"forget": 0})
        self._await(one, self._wall.open_session(job), self._opened)

    def _await(
        self, one: _Relayed, future: Future[Any], then: Callable[[_Relayed, Any], None]
    ) -> None:
        one.waits = future
        self._inbox.expect(future, partial(self._came, one, future, then))

    def _came(
        self, one: _Relayed, future: Future[Any], then: Callable[[_Relayed, Any], None]
    ) -> None:
        one.waits = None
        try:
            found = future.result(0)
        except Exception as error:
            one.raised = error
            self._over(one, one.lost())
            return
        then(one, found)

    def _opened(self, one: _Relayed, opened: Opened) -> None:
        one.line = opened.line
        keep = self._terms.on_error is not None
        one.task = self._stage.begin(one.job.learner, opened.facts, keep)
        if one.log is not None and not one.log.recorded(one.job.key):
            one.log.append(one.job.key, opened.head)
        self._ready.append(one)

    def _answered(self, one: _Relayed, told: list[Told]) -> None:
        one.take(told)
        self._ready.append(one)

    def _over(self, one: _Relayed, attempt: Attempt) -> None:
        del self._alive[one]
        if one.task is not None and one.clock < math.inf:
            self._stage.close([one.task])
        self._terms.tell(one, attempt)

    def _step(self) -> None:
        ready, self._ready = self._ready, []
        timeout = self._terms.attempt_timeout
        able = [r for r in ready if r.finished is None and not over_time(r, timeout)]
        work = [(r.task, r.answers, limit_of(timeout) - r.clock) for r in able if r.task]
        turns = dict(zip(able, self._stage.step_all(work), strict=True))
        for one in ready:
            if one in turns:
                self._take(one, turns[one])
            if one.finished is not None:
                self._close(one, one.finished)

    def _take(self, one: _Relayed, turn: Turn) -> None:
        assert one.line is not None
        timeout = self._terms.attempt_timeout
        one.answers, one.finished, one.parked = [], turn.finished, turn.parked
        one.clock += turn.seconds
        if turn.sent and timeout is None:
            one.clock = 0.0
        if turn.seconds == math.inf:
            over_time(one, timeout)
        if one.finished is not None:
            return
        one.sent += len(turn.sent)
        one.open += len(turn.sent)
        if one.open:
            messages = [message for _, message in turn.sent]
            self._await(one, one.line.turn(messages), self._answered)
        elif one.parked is not None:
            one.parked_at = time.monotonic()
            self._parked.append(one)
        else:
            self._ready.append(one)

    def _close(self, one: _Relayed, finished: Finished) -> None:
        assert one.line is not None
        one.raised = finished.raised
        self._await(one, one.line.close(finished), self._closed)

    def _closed(self, one: _Relayed, attempt: Attempt) -> None:
        if one.short is not None and attempt.error is None:
            attempt = replace(attempt, stopped="account")
            if (
                self._terms.on_error is None
            ):  # recorded: it is made again, as it tells nothing of the learner
                attempt = Attempt.lost(one.job, attempt.cost, failure_of(one.short))
        self._over(one, attempt)

    def _receive(self, until: float) -> None:
        woken = wake(self._parked, self._terms.attempt_timeout, until, self._inbox.fd)
        if woken:
            self._parked = [one for one in self._parked if one.parked is not None]
            self._ready += woken
        for action in self._inbox.take():
            action()

    def end(self) -> None:
        """Let go of whatever is still going on."""
        for one in self._alive:
            if one.waits is not None:
                one.waits.cancel()
        tasks = [one.task for one in self._alive if one.task and one.clock < math.inf]
        self._stage.end(tasks)
