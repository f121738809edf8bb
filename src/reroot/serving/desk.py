"""The desk: one thread that answers what all clients ask, round by round.

What arrives while the generator works joins the next round. A round takes at most ``MOST`` requests,
one of each key in turn, so that no key waits for another's queue, and no more of a key than its largest
request may be, so that none makes the others wait for long. Its turns are written down in one
transaction before anybody is told.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..access.batches import answer_all
from ..access.judging import judge
from ..errors import BackendError, RerootError
from .bell import Bell
from .catalogue import Catalogue
from .company import Company
from .sessions import Sessions
from .tasks import Task

MOST = 256
_SWEEP = 60.0


class Busy(RerootError):
    """Too many requests of this key wait, or the server is going down."""


@dataclass(frozen=True, slots=True)
class State:
    """How a desk stands: rounds and answers so far, requests that wait, what the generator has computed."""

    rounds: int
    answered: int
    waiting: int
    physical: dict[str, int]


class Desk:
    """What answers.

    Args:
        sessions: what is served, and to whom.

    Attributes:
        rounds, answered: how many there were.
        after_rounds: called after each.
    """

    def __init__(self, sessions: Sessions) -> None:
        self.sessions = sessions
        self.rounds = self.answered = 0
        self.after_rounds: list[Callable[[], None]] = []
        self._bell = Bell()
        self._queues: dict[str, deque[Task]] = {}
        self._passes = 0  # how many of these wait for the generator
        self._since = 0.0  # when the first of those came
        self._kept_back = False  # those that draw
        self._company = Company()
        self._known: dict[object, Task] = {}
        self._changed = threading.Condition()
        self._ending = False
        self._swept = 0.0
        self._thread = threading.Thread(target=self._work, name="desk", daemon=True)
        self._thread.start()

    # ---- for other threads -----------------------------------------------------------------------

    def submit(self, task: Task) -> Future[dict[str, Any]]:
        """Have something done; what it is told.

        Raises:
            Busy: as many requests of the key wait as may, or the server is going down.
        """
        with self._changed:
            same = task.same()
            known = None if same is None else self._known.get(same)
            if known is not None and known.asks_what(task):
                return known.future
            queue = self._queues.setdefault(task.key.name, deque())
            if self._ending or len(queue) >= task.key.queue:
                what = "the server is going down" if self._ending else f"{len(queue)} requests wait"
                raise Busy(f"{what}; try again")
            queue.append(task)
            now = time.monotonic()
            if task.comes:
                self._company.came(task.key.name, task.comes, now)
            if task.passes and not self._passes:
                self._since = now
            self._passes += task.passes
            if same is not None:
                self._known.setdefault(same, task)
            self._changed.notify()
        return task.future

    async def do(self, task: Task) -> dict[str, Any]:
        """Have something done; it is also done if nobody waits any more for what it is told.

        Raises:
            RerootError: what it is told, or that there is no place (``Busy``).
        """
        return await self._bell.waits(self.submit(task))

    def attend(self) -> None:
        """The event loop of those who ask is running now: nothing is to be done, as it is not theirs."""

    @property
    def catalogue(self) -> Catalogue:
        """What is served."""
        return self.sessions.catalogue

    @property
    def secret(self) -> bytes:
        """Of the ledger."""
        return self.sessions.ledger.secret

    async def state(self) -> State:
        """How it stands."""
        return self.now()

    def now(self) -> State:
        """How it stands."""
        physical = self.catalogue.generator.physical().to_dict()
        return State(self.rounds, self.answered, self.waiting(), physical)

    def waiting(self) -> int:
        """Requests that wait."""
        with self._changed:
            return sum(map(len, self._queues.values()))

    @property
    def alive(self) -> bool:
        """Whether it takes requests."""
        return self._thread.is_alive() and not self._ending

    def drain(self) -> None:
        """Answer what waits, take nothing more, and end."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join()

    # ---- the rounds ------------------------------------------------------------------------------

    def _work(self) -> None:
        while (tasks := self._next()) is not None:
            try:
                self._round(tasks)
            except BaseException as error:  # it must go on for the others
                for task in tasks:
                    self._fail(task, error)
            with self._changed:
                for task in tasks:
                    if self._known.get(same := task.same()) is task:
                        del self._known[same]
            for then in self.after_rounds:
                then()
        self.sessions.ledger.close()

    def _next(self) -> list[Task] | None:
        """The requests of the next round, one of each key in turn; ``None``: it is over."""
        with self._changed:
            while True:
                if not any(self._queues.values()):
                    if self._ending:
                        return None
                    if not self._changed.wait(_SWEEP):
                        return []
                    continue
                hold = 0.0
                if 0 < self._passes < MOST and not self._ending:
                    hold = self._company.hold(self._since, time.monotonic())
                if hold <= 0.0:
                    return self._due()
                others = self._take(lambda task: not task.passes)
                if others:
                    return others
                self._changed.wait(hold)

    def _due(self) -> list[Task]:
        """What waits. Where passes are long, what draws is kept back once for the rest: that is soon done, and
        who is told it may ask for draws in time."""
        split = self._company.matters and not self._kept_back
        others = self._take(lambda task: not task.draws) if split else []
        self._kept_back = bool(others) and self._passes > 0
        return others or self._take(lambda task: True)

    def _take(self, wanted: Callable[[Task], bool]) -> list[Task]:
        """At most ``MOST`` of what waits and is wanted, one of each key in turn, and of each no more than
        its largest request may be."""
        taken: list[Task] = []
        took: dict[str, float] = {}
        ready = {
            name: deque(filter(wanted, queue)) for name, queue in self._queues.items() if queue
        }
        while len(taken) < MOST and any(ready.values()):
            for name in [name for name, queue in ready.items() if queue][: MOST - len(taken)]:
                task = ready[name].popleft()
                share = task.size(self.sessions).share(task.key)
                if name in took and took[name] + share > 1.0:
                    ready[name].clear()  # the rest of this key's waits
                    continue
                took[name] = took.get(name, 0.0) + share
                taken.append(task)
        gone = set(map(id, taken))
        for name in {task.key.name for task in taken}:
            self._queues[name] = deque(t for t in self._queues[name] if id(t) not in gone)
        self._passes -= sum(task.passes for task in taken)
        # who was served first this time is served last the next
        for name in list(self._queues)[:1]:
            self._queues[name] = self._queues.pop(name)
        return taken

    def _round(self, tasks: Sequence[Task]) -> None:
        sessions, now = self.sessions, time.monotonic()
        if now - self._swept > _SWEEP:
            self._swept = now
            sessions.ledger.sweep()
        quick = [task for task in tasks if not task.judges]
        names = {task.key.name for task in quick}
        with sessions.ledger.together(names) if quick else nullcontext():
            for task in quick:
                self._try(task, partial(task.prepare, sessions))
        for task in tasks:  # nobody waits for a judge while the ledger is held
            if task.judges:
                self._try(task, partial(task.prepare, sessions))
        going = [task for task in tasks if not task.future.done() and task.result is None]
        generator = sessions.catalogue.generator
        began = time.monotonic()
        answer_all(generator, [item for task in going for item in task.waiting])
        closing = [task for task in going if task.closing is not None]
        lives = [task.closing.running for task in closing if task.closing is not None]
        for task, attempt in zip(
            closing, judge(generator, lives, sessions.judge_timeout), strict=True
        ):
            task.judged(attempt)
        due = [(task.key.name, task.leads_to) for task in tasks if task.leads_to]
        passes = sum(task.passes for task in going)
        with self._changed:
            self._company.was(due, passes, began, time.monotonic())
        for task in going:
            self._try(task, task.settle)
        entries = [(task, task.entry) for task in going if task.entry and not task.future.done()]
        firsts = sessions.ledger.write([entry for _, entry in entries]) if entries else []
        for (task, _), first in zip(entries, firsts, strict=True):
            self._try(task, partial(task.written, sessions, first))
        for task in tasks:
            if not task.future.done():
                assert task.result is not None
                task.future.set_result(task.result)
        self.rounds += bool(tasks)
        self.answered += len(tasks)

    def _try(self, task: Task, step: Any) -> None:
        if task.future.done():
            return
        try:
            step()
        except Exception as error:
            self._fail(task, error)

    def _fail(self, task: Task, error: BaseException) -> None:
        """Tell an error. What is in memory of a session that failed half way is not what is written
        down of it."""
        session = getattr(task, "session", None)
        if session is not None:
            self.sessions.forget(session)
        if not task.future.done():
            task.future.set_exception(error)


def told_error(error: BaseException) -> RerootError:
    """An error as it is told to whoever asked."""
    return error if isinstance(error, RerootError) else BackendError("the server failed")
