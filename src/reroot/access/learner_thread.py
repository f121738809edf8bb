"""Where learners run: one thread, one small event loop per learner, no way back to the gate.

Learners of one run take turns on one thread that holds sessions and loops only. Each has its own
event loop, so ``asyncio`` works inside a learner (``gather``, task groups), one learner cannot see
another's tasks, and what a learner does depends on its own answers alone. What comes out of a turn
is plain data: no object that a learner made is ever touched by the runner's thread.
"""

from __future__ import annotations

import _thread
import asyncio
import itertools
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from ..errors import BudgetExceeded, InvalidInput
from ..types import Finding, Prefix, as_tokens
from .failures import Failure, failure_of, leaves
from .session import Answer, Envelope, Facts, Message, Session, plain

PATIENCE = 600.0
"""Seconds a learner may go on without asking its session before it is given up."""

_ROUNDS = 1000  # a task that spins on sleep(0) cannot hold back what was asked for longer

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
    """What comes out of a learner's turn: numbered messages, or how it ended."""

    sent: tuple[tuple[int, Message], ...] = ()
    finished: Finished | None = None


class _Loop(asyncio.SelectorEventLoop):
    """An event loop that can be run until nothing is left to do at this moment."""

    def __init__(self) -> None:
        self._scheduled_calls = 0
        self._waiting = False
        super().__init__()

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Any = None):  # type: ignore[override]
        self._scheduled_calls += 1
        if self._waiting:
            self._waiting = False
            self.stop()
        return super().call_soon(callback, *args, context=context)

    def run_until_idle(self, box: Sequence[Envelope], deadline: float) -> None:
        """Run every callback that is ready, and those they make ready.

        Callbacks that make each other ready for ever are left after a number of rounds if there is
        something in the box, or at the deadline.
        """
        for rounds in itertools.count():
            super().call_soon(self.stop)
            before = self._scheduled_calls
            self.run_forever()
            idle = self._scheduled_calls == before
            if idle or (box and rounds >= _ROUNDS) or time.monotonic() > deadline:
                return

    def wait(self, deadline: float) -> None:
        """Sleep until something becomes ready (a timer, a thread), or the deadline has come."""
        self._waiting = True
        expiry = self.call_later(max(0.0, deadline - time.monotonic()), self.stop)
        self.run_forever()
        expiry.cancel()
        self._waiting = False


class LearnerTask:
    """One learner on its session; steps in the learner thread."""

    __slots__ = ("_box", "_facts", "_keep", "_loop", "_numbers", "_start", "_task", "_unanswered")

    def __init__(self, start: Start, facts: Facts, keep: bool = False) -> None:
        self._start = start
        self._keep = keep
        self._facts = facts
        self._box: list[Envelope] = []
        self._loop: _Loop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._numbers = itertools.count()
        self._unanswered: dict[int, asyncio.Future[Answer]] = {}

    def step(self, answers: Sequence[tuple[int, Answer]]) -> Finished | list[tuple[int, object]]:
        """Deliver answers, run until the learner waits for its session or ends; its new messages.

        Raises:
            BaseException: whatever a task of the learner raised that stops an event loop.
        """
        if self._loop is None:
            self._loop = _Loop()
            session = Session(self._facts, self._loop, self._box)
            self._task = self._loop.create_task(_run(self._start, session))
        for number, answer in answers:
            future = self._unanswered.pop(number)
            if not future.done():
                future.set_result(answer)
        loop, task, deadline = self._loop, self._task, time.monotonic() + PATIENCE
        assert task is not None
        loop.run_until_idle(self._box, deadline)
        while not (task.done() or self._box or self._unanswered):
            if time.monotonic() > deadline:
                why = f"went on for {PATIENCE:g} s without asking its session"
                return Finished(error=Failure("stalled", why))
            loop.wait(deadline)
            loop.run_until_idle(self._box, deadline)
        if task.done():
            return self._outcome(task)
        sent: list[tuple[int, object]] = []
        for envelope in self._box:
            number = next(self._numbers)
            self._unanswered[number] = envelope.future
            sent.append((number, envelope.message))
        self._box.clear()
        return sent

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
        raised = error if self._keep else None
        return Finished(error=failure_of(error), out_of_budget=_is_budget(error), raised=raised)

    def close(self) -> None:
        """Cancel what is left and let go of all that the learner made; safe to call twice."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            for task in asyncio.all_tasks(loop):
                task.cancel()
            with suppress(BaseException):  # whatever a cancelled task may raise
                loop.run_until_idle((), time.monotonic() + 1.0)
            loop.close()
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
        return json.dumps(dict(metadata))  # pyright: ignore[reportUnknownArgumentType]
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"the metadata of a Finding must be JSON values: {error}") from None


def _is_budget(error: BaseException) -> bool:
    """Whether all that went wrong is that the budget did not suffice (in a task group, too)."""
    return all(isinstance(leaf, BudgetExceeded) for leaf in leaves(error))


Work = tuple[LearnerTask, Sequence[tuple[int, Answer]] | None]
"""A task and the answers to step it with (``None``: close it)."""


def _take_turn(work: Work) -> Turn:
    task, answers = work
    try:
        result: Finished | list[tuple[int, object]] = Finished()
        if answers is not None:
            result = task.step(answers)
        if not isinstance(result, Finished):
            return Turn(tuple((number, plain(message)) for number, message in result))
    except BaseException as error:  # SystemExit and the like, or something forged in the box
        result = task.failed(error)
    task.close()
    return Turn(finished=result)


class LearnerThread:
    """The thread on which all learners of a run take turns.

    It is a chain of iterators, not a Python loop: below the frames of a learner there is none that
    holds the queues, where other learners' turns wait.
    """

    def __init__(self) -> None:
        self._work: SimpleQueue[Work | None] = SimpleQueue()
        self._turns: SimpleQueue[Turn | None] = SimpleQueue()
        turns = itertools.chain(map(_take_turn, iter(self._work.get, None)), (None,))
        _thread.start_new_thread(deque, (map(self._turns.put, turns), 0))

    def step_all(self, work: Sequence[tuple[LearnerTask, list[tuple[int, Answer]]]]) -> list[Turn]:
        """Step every task with its answers; what came out of each turn, in order."""
        for item in work:
            self._work.put(item)
        turns = [self._turns.get() for _ in work]
        return [turn for turn in turns if turn is not None]

    def drop(self, task: LearnerTask) -> None:
        """End one learner."""
        self._work.put((task, None))
        self._turns.get()

    def close(self, tasks: Sequence[LearnerTask]) -> None:
        """End the thread after closing ``tasks``; a learner that never pauses is left behind."""
        for task in tasks:
            self._work.put((task, None))
        self._work.put(None)
        with suppress(Empty):
            while self._turns.get(timeout=10.0) is not None:
                pass
