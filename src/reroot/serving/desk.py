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
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any

from ..access.batches import answer_all
from ..access.judging import judge
from ..access.running import Waiting
from ..errors import BackendError, RerootError
from ..generators.base import ConcurrentGenerator
from .bell import Bell
from .catalogue import Catalogue
from .company import Company
from .database import Unavailable
from .jsontext import json_of
from .sessions import Sessions
from .tasks import Task

MOST = 256
_SWEEP = 60.0
_HELD = 0.02  # seconds for which a pass may keep others from the ledger


class Busy(RerootError):
    """Too many requests of this key wait."""


@dataclass(frozen=True, slots=True)
class State:
    """How a desk stands: rounds and answers so far, requests that wait, what the generator has computed."""

    rounds: int
    answered: int
    waiting: int
    physical: dict[str, int]


class Pace:
    """How long a pass is likely to take: as long as the last one, or longer in proportion to what is asked."""

    def __init__(self) -> None:
        self._asked, self._seconds = 1, inf

    def was(self, waiting: Sequence[Waiting], seconds: float) -> None:
        """A pass has answered what was waiting."""
        if asked := _asked(waiting):
            self._asked, self._seconds = asked, seconds

    def short(self, waiting: Sequence[Waiting]) -> bool:
        """Whether the ledger may be held until what waits is answered."""
        asked = _asked(waiting)
        return not asked or self._seconds * max(1.0, asked / self._asked) <= _HELD


def _asked(waiting: Sequence[Waiting]) -> int:
    """How much is asked, at worst: tokens, for the most part."""
    return sum(sum(item.admitted.worst) for item in waiting if item.admitted is not None)


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
        self._pace = Pace()
        self._passed = (0, inf, 0.0)  # in this round: by passes, which began and ended then
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
            Busy: as many requests of the key wait as may.
            Unavailable: the server is going down.
        """
        with self._changed:
            same = task.same()
            known = None if same is None else self._known.get(same)
            if known is not None and known.asks_what(task):
                return known.future
            queue = self._queues.setdefault(task.key.name, deque())
            if self._ending:
                raise Unavailable("the server is going down; try again")
            if len(queue) >= task.key.queue:
                raise Busy(f"{len(queue)} requests wait; try again")
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
            Unavailable: the accounts cannot be reached, or the server is going down.
        """
        return await self._bell.waits(self.submit(task))

    async def told(self, task: Task) -> bytes:
        """The same as JSON."""
        return json_of(await self.do(task))

    def at_once(self) -> AbstractContextManager[object]:
        """What is submitted inside is seen by the desk as one."""
        return self._changed

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
        self.sessions.ledger.tidy_beside()
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
                now = time.monotonic()
                if 0 < self._passes < MOST and not self._ending:
                    if self._company.left(self._since, now) > 0.0:
                        others = self._take(lambda task: not task.passes)
                        if others:
                            return others
                    hold = self._company.hold(self._since, now)
                    if hold > 0.0:
                        self._changed.wait(hold)
                        continue
                return self._due()

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
        self._passed = (0, inf, now)
        going: list[Task] = []
        done: list[tuple[Task, bool]] = []
        names = {task.key.name for task in quick}
        ids = [task.of for task in quick if task.of is not None]
        with sessions.ledger.together(names, ids) if quick else nullcontext():
            for task in quick:
                self._try(task, partial(task.prepare, sessions))
            going = [task for task in quick if task.goes_on]
            soon = [task for task in going if task.closing is None]
            if soon and self._pace.short([item for task in soon for item in task.waiting]):
                # nobody can see the ledger until they are answered: nothing is to be seen as set aside
                done = self._answered(soon)
                going = [task for task in going if task.closing is not None]
        for task in tasks:  # nobody waits for a judge while the ledger is held
            if task.judges:
                self._try(task, partial(task.prepare, sessions))
                going += [task] * task.goes_on
        done += self._answered(going)
        due = [(task.key.name, task.leads_to) for task in tasks if task.leads_to]
        with self._changed:
            self._company.was(due, *self._passed)
        for task, first in done:
            self._try(task, partial(task.written, sessions, first))
        for task in tasks:
            if not task.future.done():
                assert task.result is not None
                task.future.set_result(task.result)
        self.rounds += bool(tasks)
        self.answered += len(tasks)

    def _answered(self, tasks: Sequence[Task]) -> list[tuple[Task, bool]]:
        """Have the generator answer, and outputs judged, and write that down; what was written, and whether
        it was the first."""
        if not tasks:
            return []
        generator = self.catalogue.generator
        waiting = [item for task in tasks for item in task.waiting]
        began = time.monotonic()
        answer_all(generator, waiting)
        if not isinstance(generator, ConcurrentGenerator):  # nothing is expected of others' work
            self._pace.was(waiting, time.monotonic() - began)
        closing = [task for task in tasks if task.closing is not None]
        lives = [task.closing.running for task in closing if task.closing is not None]
        for task, attempt in zip(
            closing, judge(generator, lives, self.sessions.judge_timeout), strict=True
        ):
            task.judged(attempt)
        passes, first, _ = self._passed
        passes += sum(task.passes for task in tasks)
        self._passed = (passes, min(first, began), time.monotonic())
        for task in tasks:
            self._try(task, task.settle)
        entries = [(task, task.entry) for task in tasks if task.entry and not task.future.done()]
        firsts = self.sessions.ledger.write([entry for _, entry in entries]) if entries else []
        return [(task, first) for (task, _), first in zip(entries, firsts, strict=True)]

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
        if task.of is not None:
            self.sessions.forget(task.of)
        if not task.future.done():
            task.future.set_exception(error)


def told_error(error: BaseException) -> RerootError:
    """An error as it is told to whoever asked."""
    return error if isinstance(error, RerootError) else BackendError("the server failed")
