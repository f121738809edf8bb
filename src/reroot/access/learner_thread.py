"""Where learners run: one thread, one small event loop per learner, no way back to the gate.

Learners of one run take turns on one thread that holds sessions and loops only. Each has its own
event loop, so ``asyncio`` works inside a learner (``gather``, task groups), one learner cannot see
another's tasks, and what a learner does depends on its own answers alone. What comes out of a turn
is plain data: no object that a learner made is ever touched by the runner's thread.
"""

from __future__ import annotations

import _thread
import asyncio
import ctypes
import itertools
import json
import math
import operator
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Protocol, cast

from ..errors import BudgetExceeded, InvalidInput
from ..types import Finding, Prefix, as_tokens
from .failures import Failure, failure_of, leaves
from .learner import BoundLearner
from .learner_loop import CLEANUP, Loop, Parked, quietly
from .metadata import metadata_from_text
from .session import Answer, Envelope, Facts, Message, Session, sanitize

PATIENCE = 600.0
"""Seconds a learner may go on without asking its session before it is given up."""

Start = Callable[[Session], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Finished:
    """How a learner ended: with an output, without one, or with an error.

    ``raised`` is the learner's own exception, for the caller of the run: nothing behind the door
    looks at it, and it is kept only if the caller has asked for it.
    """

    output: Prefix | None = None
    metadata: str = "{}"  # JSON text: plain, whatever the learner made
    error: Failure | None = None
    out_of_budget: bool = False
    raised: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """What comes out of a learner's turn: numbered messages, what it waits for, or how it ended.

    Nothing of these: it goes on by itself, and wants another turn. ``seconds``: what it took.
    """

    sent: Sequence[tuple[int, Message]] = ()
    parked: Parked | None = None
    finished: Finished | None = None
    seconds: float = 0.0


class LearnerTask:
    """One learner on its session; steps in the learner thread."""

    __slots__ = ("_box", "_facts", "_keep", "_loop", "_numbers", "_start", "_task", "_unanswered")

    def __init__(self, start: Start, facts: Facts, keep: bool = False) -> None:
        self._start = start
        self._keep = keep
        self._facts = facts
        self._box: list[Envelope] = []
        self._loop: Loop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._numbers = itertools.count()
        self._unanswered: dict[int, asyncio.Future[Answer]] = {}

    def step(self, answers: Sequence[tuple[int, Answer]]) -> Finished | list[tuple[int, object]]:
        """Deliver answers, run until the learner waits or ends; its new messages.

        Raises:
            BaseException: whatever a task of the learner raised that stops an event loop.
        """
        if self._loop is None:
            self._loop = Loop()
            session = Session(self._facts, self._loop, self._box)
            self._task = self._loop.create_task(_run(self._start, session))
        for number, answer in answers:
            future = self._unanswered.pop(number)
            if not future.done():
                future.set_result(answer)
        Loop.burst(self._loop)
        assert self._task is not None
        if self._task.done():
            return self._outcome(self._task)
        sent: list[tuple[int, object]] = []
        for envelope in self._box:
            number = next(self._numbers)
            self._unanswered[number] = envelope.future
            sent.append((number, envelope.message))
        self._box.clear()
        return sent

    def park(self) -> Parked | None:
        """What it waits for, if neither its session nor itself."""
        return None if self._unanswered or self._loop is None else self._loop.park()

    def _outcome(self, task: asyncio.Task[Any]) -> Finished:
        if task.cancelled():
            return Finished(error=Failure("CancelledError", "the learner cancelled itself"))
        error = task.exception()
        if error is not None:
            return self.failed(error)
        try:
            return _returned(task.result())
        except InvalidInput as error:
            return self.failed(error)

    def failed(self, error: BaseException) -> Finished:
        """The end of a learner by an exception."""
        if self._task is not None and self._task.done():
            quietly(self._task.exception)  # told here: asyncio need not say it again
        raised = error if self._keep else None
        return Finished(error=failure_of(error), out_of_budget=_is_budget(error), raised=raised)

    def close(self) -> None:
        """Cancel what is left and let go of all that the learner made; safe to call twice."""
        if self._loop is not None:
            quietly(Loop.end, self._loop)
            quietly(setattr, self._loop, "_closed", True)  # for its finalizer, whatever went wrong
        self._loop = self._task = None
        self._unanswered.clear()
        self._box.clear()


async def _run(start: Start, session: Session) -> object:
    return await start(session)


def _returned(value: object) -> Finished:
    """What a learner returned, as plain data (``InvalidInput`` if it may not return that)."""
    metadata = "{}"
    if isinstance(value, Finding):
        value, metadata = value.output, _metadata(value.metadata)
    if value is None:
        return Finished(metadata=metadata)
    if not isinstance(value, (Prefix, tuple, list)):
        raise InvalidInput(f"the learner returned {value!r}, expected a Prefix, a Finding or None")
    return Finished(Prefix(as_tokens(value)), metadata)  # pyright: ignore[reportUnknownArgumentType]


def _metadata(metadata: object) -> str:
    if not isinstance(metadata, Mapping):
        raise InvalidInput(
            f"the metadata of a Finding must map names to JSON values, got {metadata!r}"
        )
    try:
        text = json.dumps(dict(metadata))  # pyright: ignore[reportUnknownArgumentType]
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"the metadata of a Finding must be JSON values: {error}") from None
    return metadata_from_text(text)


def _is_budget(error: BaseException) -> bool:
    """Whether all that went wrong is that the budget did not suffice (in a task group, too)."""
    return all(isinstance(leaf, BudgetExceeded) for leaf in leaves(error))


def take_turn(task: LearnerTask, answers: Sequence[tuple[int, Answer]]) -> Turn:
    """Let a learner have its turn, whatever it does: what came out of it."""
    started = time.monotonic()
    try:
        result = task.step(answers)
        if isinstance(result, Finished):
            return Turn(finished=result, seconds=time.monotonic() - started)
        sent = [(number, sanitize(message)) for number, message in result]
        parked = None if sent else task.park()
        return Turn(sent, parked, seconds=time.monotonic() - started)
    except BaseException as error:  # SystemExit and the like, or something forged in the box
        return Turn(finished=task.failed(error), seconds=time.monotonic() - started)


def _close(task: LearnerTask) -> bool:
    quietly(task.close)
    return True


_Call = tuple[Callable[..., Any], *tuple[Any, ...]]

_CLOSING = 5 * CLEANUP  # seconds that the clean-up of a learner may keep the thread
_DIED = Turn(finished=Finished(error=Failure("stalled", "the thread that it ran on died")))
_STUCK = Turn(seconds=math.inf)


def _threads() -> dict[int, Any]:
    """Every thread there is: one that waits in C has no Python frame, and is in no list of frames."""
    return sys._current_exceptions()  # pyright: ignore[reportPrivateUsage]


class Stage(Protocol):
    """Where the learners of a run take turns."""

    def begin(self, learner: BoundLearner, facts: Facts, keep: bool) -> Any:
        """A learner on its session, to be stepped; ``keep``: the exception that ends it."""
        ...

    def step_all(
        self, work: Sequence[tuple[Any, Sequence[tuple[int, Answer]], float]]
    ) -> list[Turn]:
        """Step every task with its answers; what came out of each turn, in order.

        The third of each is how many seconds it may take; a turn of infinitely many is that of one
        that did not end in time.
        """
        ...

    def close(self, tasks: Sequence[Any]) -> None:
        """End these learners."""
        ...

    def end(self, tasks: Sequence[Any]) -> None:
        """End the stage after closing ``tasks``."""
        ...


class LearnerThread:
    """The thread on which all learners of a run take turns.

    It is a chain of iterators, not a Python loop: below the frames of a learner there is none that
    holds the queues, where other learners' turns wait. A thread that dies, or to which a learner
    does not give control back in time, is left behind for a new one.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._calls: SimpleQueue[list[_Call] | None] = SimpleQueue()
        self._results: deque[Turn | bool | None] = deque()
        self._begun: list[bool] = []
        self._over = _thread.allocate_lock()
        self._over.acquire()
        calls = itertools.chain.from_iterable(iter(self._calls.get, None))
        made = cast("Iterator[Any]", itertools.starmap(operator.call, calls))
        results = map(self._results.append, made)
        self._calls.put([(self._begun.append, True)])
        self._ident = _thread.start_new_thread(deque, (results, 0))

    def begin(self, learner: BoundLearner, facts: Facts, keep: bool) -> LearnerTask:
        """A learner on its session."""
        return LearnerTask(learner.start, facts, keep)

    def step_all(
        self, work: Sequence[tuple[LearnerTask, Sequence[tuple[int, Answer]], float]]
    ) -> list[Turn]:
        """Step every task with its answers; what came out of each turn, in order.

        The third of each is how many seconds it may keep the thread; a turn of infinitely many is
        that of one that did not give it back.
        """
        calls = [(take_turn, task, answers) for task, answers, _ in work]
        return self._call(calls, [limit for _, _, limit in work])

    def close(self, tasks: Sequence[LearnerTask]) -> None:
        """End these learners."""
        self._call([(_close, task) for task in tasks], [_CLOSING] * len(tasks))

    def end(self, tasks: Sequence[LearnerTask]) -> None:
        """End the thread after closing ``tasks``; a learner that never pauses is left behind."""
        over = _thread.allocate_lock()  # of its own: Ctrl-C may have cut a batch short
        over.acquire()
        self._calls.put([*((_close, task) for task in tasks), (over.release,)])
        self._calls.put(None)
        over.acquire(timeout=2 * _CLOSING)

    def _call(self, calls: Sequence[_Call], limits: Sequence[float]) -> list[Any]:
        """What each call returned, or ``_STUCK``, or ``_DIED``."""
        results: list[Any] = []
        while len(results) < len(calls):
            left = slice(len(results), None)
            batch = [*calls[left], (self._over.release,)]
            self._calls.put(batch)
            lost = self._wait(batch, limits[left])
            results += filter(None, [*self._results])  # None: what releasing the lock returned
            self._results.clear()
            if lost is not None:
                self._begin()
                if len(results) < len(calls):
                    results.append(lost)
        return results

    def _wait(self, batch: list[_Call], limits: Sequence[float]) -> Turn | None:
        """Wait for the end of a batch; how the call in progress failed, if the thread is lost."""
        seen, since, pause = 0, time.monotonic(), 0.5
        while not self._over.acquire(timeout=min(pause, 0.5)):
            done, now = len([*filter(None, [*self._results])]), time.monotonic()
            if done > seen:
                seen, since = done, now
            pause = max(0.01, since + limits[done] - now) if done < len(limits) else 0.5
            died = bool(self._begun) and self._ident not in _threads()
            if died or pause <= 0.01:
                batch.clear()  # nothing more of it is begun
                self._calls.put(None)
                if died:
                    return _DIED
                stop = ctypes.py_object(SystemExit)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._ident), stop)
                return _STUCK
        return None
