"""Turns of learners on their thread, and what is waited for between them."""

from __future__ import annotations

import math
import select
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from ..errors import RerootError
from . import learner_thread
from .attempt import Attempt, Job, Log
from .learner_loop import Parked
from .learner_thread import Stage, Turn
from .running import Running, Waiting, open_message, start

_TURNS = 100  # turns in one round, so that no learner holds up the others


class Timed(Protocol):
    """An attempt of which the seconds are counted."""

    clock: float
    parked: Parked | None
    parked_at: float

    def fail(self, kind: str, why: str) -> None:
        """Give the learner up."""
        ...


_T = TypeVar("_T", bound=Timed)


class Ended(Protocol):
    """An attempt that is over: its job, its log, and what was raised."""

    @property
    def job(self) -> Job: ...
    @property
    def log(self) -> Log | None: ...
    @property
    def raised(self) -> BaseException | None: ...


@dataclass(frozen=True, slots=True)
class Terms:
    """How attempts are made, and who is told of them; see ``runner.execute``.

    ``at_once``: most attempts at the same time. ``stage``: where learners take turns.
    """

    at_once: int
    on_attempt: Callable[[Attempt], None]
    log: Log | None
    on_round: Callable[[int], None]
    on_error: Callable[[Attempt, BaseException], None] | None
    attempt_timeout: float | None
    judge_timeout: float | None
    stage: Stage

    def start(self, job: Job) -> Running:
        """Begin an attempt (``RunFolderError``: what is left of it is damaged)."""
        keep = self.on_error is not None
        return start(job, self.stage.begin, self.log, keep, self.judge_timeout)

    def tell(self, running: Ended, attempt: Attempt) -> None:
        """An attempt was made."""
        if self.on_error is not None and attempt.error is not None:
            self.on_error(attempt, running.raised or RerootError(str(attempt.error)))
        self.on_attempt(attempt)
        if running.log is not None:
            running.log.finish(running.job.key)


def on_it(running: Iterable[Running]) -> list[Any]:
    """The tasks that their stage can end: who did not give it back runs on one that was left."""
    return [r.task for r in running if r.clock < math.inf]


def wake(
    parked: Sequence[_T], timeout: float | None, until: float, fd: int | None = None
) -> list[_T]:
    """Wait until a parked attempt can go on, or is over its time; who does.

    Args:
        parked: attempts that wait for something else than their sessions.
        timeout: seconds of its own that an attempt may take.
        until: moment (of ``time.monotonic``) at which waiting ends in any case.
        fd: a file that ends it, too, when it can be read.
    """
    poll, limit = select.poll(), limit_of(timeout)
    if fd is not None:
        poll.register(fd, select.POLLIN)
    for r in parked:
        assert r.parked is not None
        poll.register(r.parked.fd, select.POLLIN)
        until = min(until, r.parked.wake, r.parked_at + limit - r.clock)
    pause = min(max(0.0, until - time.monotonic()), 3600.0)
    ready = {fd for fd, _ in poll.poll(math.ceil(1000 * pause))}
    now, woken = time.monotonic(), list[_T]()
    for r in parked:
        what = r.parked
        assert what is not None
        if what.fd in ready or what.wake <= now or r.parked_at + limit - r.clock <= now:
            r.clock += now - r.parked_at
            r.parked = None
            woken.append(r)
    return woken


def take_turns(stage: Stage, running: Sequence[Running], timeout: float | None) -> list[Waiting]:
    """Let learners run until all they wait for is the generator; what they wait for.

    A learner that goes on and on with what needs no generator does so in the rounds to come.
    """
    waiting: list[Waiting] = []
    limit = limit_of(timeout)
    for _ in range(_TURNS):
        running = [r for r in running if not over_time(r, timeout)]
        if not running:
            break
        turns = stage.step_all([(r.task, r.answers, limit - r.clock) for r in running])
        for r, turn in zip(running, turns, strict=True):
            _take(r, turn, waiting, timeout)
        running = [r for r in running if r.answers]
    return waiting


def _take(running: Running, turn: Turn, waiting: list[Waiting], timeout: float | None) -> None:
    """Go through what came out of a turn; ``waiting`` gets what the generator has to answer."""
    running.answers, running.finished, running.parked = [], turn.finished, turn.parked
    running.clock += turn.seconds
    if turn.parked is not None:
        running.parked_at = time.monotonic()
    if turn.sent and timeout is None:
        running.clock = 0.0
    for item in [open_message(running, ticket, message) for ticket, message in turn.sent]:
        if item.answer is None:
            waiting.append(item)
        else:
            item.deliver()
    running.fail_if_idle()
    if turn.seconds == math.inf:
        over_time(running, timeout)


def limit_of(timeout: float | None) -> float:
    return learner_thread.PATIENCE if timeout is None else timeout


def over_time(running: Timed, timeout: float | None) -> bool:
    """Give an attempt up that has had its time."""
    limit = limit_of(timeout)
    if running.clock < limit:
        return False
    if timeout is None:
        running.fail("stalled", f"went on for {limit:g} s without asking its session")
    else:
        running.fail("TimeoutError", f"it took more than the {limit:g} s that an attempt may take")
    return True
