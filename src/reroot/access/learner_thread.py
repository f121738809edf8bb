"""Where learners run: one thread, one small event loop per learner, no way back to the desk.

Learners of one run take turns on one thread that holds sessions and loops only. Each has its own
event loop, so ``asyncio`` works inside a learner (``gather``, task groups), one learner cannot see
another's tasks, and what a learner does depends on its own answers alone.
"""

from __future__ import annotations

import asyncio
import threading
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from ..errors import BudgetExceeded, RerootError
from .session import Answer, Envelope, Facts, Session

PATIENCE = 600.0
"""Seconds a learner may await something other than its session before it is given up."""

Start = Callable[[Session], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Finished:
    """How a learner ended: with a value, or with an error told as text."""

    value: object = None
    error: str | None = None
    out_of_budget: bool = False


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

    def run_until_idle(self) -> None:
        """Run every callback that is ready, and those they make ready."""
        while True:
            super().call_soon(self.stop)
            before = self._scheduled_calls
            self.run_forever()
            if self._scheduled_calls == before:
                return

    def wait(self, seconds: float) -> bool:
        """Sleep until something becomes ready (a timer, a thread); whether it did."""
        self._waiting = True
        expiry = self.call_later(seconds, self.stop)
        self.run_forever()
        expiry.cancel()
        happened, self._waiting = not self._waiting, False
        return happened


class LearnerTask:
    """One learner on its session; steps in the learner thread."""

    def __init__(self, start: Start, facts: Facts) -> None:
        self._start = start
        self._facts = facts
        self._box: list[Envelope] = []
        self._loop: _Loop | None = None
        self._task: asyncio.Task[Any] | None = None
        self.finished: Finished | None = None

    def step(self, answers: Sequence[tuple[Envelope, Answer]]) -> list[Envelope]:
        """Deliver answers, run until the learner waits for its session or ends; its new messages."""
        if self._loop is None:
            self._loop = _Loop()
            session = Session(self._facts, self._loop, self._box)
            self._task = self._loop.create_task(_run(self._start, session))
        for envelope, answer in answers:
            if not envelope.future.done():
                envelope.future.set_result(answer)
        loop, task = self._loop, self._task
        assert task is not None
        loop.run_until_idle()
        while not task.done() and not self._box:
            if not loop.wait(PATIENCE):
                self._end(
                    Finished(error=f"stalled: awaited something else than its session for {PATIENCE:g} s")
                )
                return []
            loop.run_until_idle()
        if task.done():
            self._end(_outcome(task))
            return []
        sent = list(self._box)
        self._box.clear()
        return sent

    def close(self) -> None:
        """Cancel what is left; safe to call twice."""
        if self._loop is not None and not self._loop.is_closed():
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._loop.run_until_idle()
            self._loop.close()

    def _end(self, finished: Finished) -> None:
        self.finished = finished
        self.close()


async def _run(start: Start, session: Session) -> object:
    return await start(session)


def _outcome(task: asyncio.Task[Any]) -> Finished:
    if task.cancelled():
        return Finished(error="CancelledError: the learner cancelled itself")
    error = task.exception()
    if error is None:
        return Finished(value=task.result())
    return Finished(error=describe_error(error), out_of_budget=isinstance(error, BudgetExceeded))


def describe_error(error: BaseException) -> str:
    """Type and message; for errors that are not reroot's own, also the line that raised."""
    text = "".join(traceback.format_exception_only(error)).strip()
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, RerootError) or not frames:
        return text.removeprefix("reroot.errors.")
    return f"{text} (line {frames[-1].lineno} of {frames[-1].filename})"


class LearnerThread:
    """The thread on which all learners of a run take turns."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._done: SimpleQueue[object] = SimpleQueue()
        self._thread = threading.Thread(
            target=_take_turns, args=(self._jobs, self._done), name="reroot-learners", daemon=True
        )
        self._thread.start()

    def step_all(
        self, work: Sequence[tuple[LearnerTask, list[tuple[Envelope, Answer]]]]
    ) -> list[list[Envelope]]:
        """Step every task; the new messages of each, in order."""
        for task, answers in work:
            self._jobs.put(_Step(task, answers))
        results: list[list[Envelope]] = []
        for _ in work:
            result = self._done.get()
            if isinstance(result, BaseException):
                raise result
            assert isinstance(result, list)
            results.append(result)
        return results

    def close(self, tasks: Sequence[LearnerTask]) -> None:
        """End the thread after closing ``tasks``."""
        for task in tasks:
            self._jobs.put(task.close)
        self._jobs.put(None)
        self._thread.join(timeout=10)


class _Step:
    """One turn of one task, as a call without arguments."""

    __slots__ = ("_answers", "_task")

    def __init__(self, task: LearnerTask, answers: list[tuple[Envelope, Answer]]) -> None:
        self._task, self._answers = task, answers

    def __call__(self) -> list[Envelope]:
        return self._task.step(self._answers)


def _take_turns(jobs: SimpleQueue[Callable[[], object] | None], done: SimpleQueue[object]) -> None:
    while (job := jobs.get()) is not None:
        try:
            done.put(job())
        except BaseException as error:  # a bug here must not hang the runner
            done.put(error)
        del job
