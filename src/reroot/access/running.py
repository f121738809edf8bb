"""An attempt while it runs: its messages are opened, answered or replayed, and written down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from ..errors import BackendError, RerootError, RunFolderError
from ..tasks.judges import Begun
from ..types import Cost, Reply
from ..types.account import Prices, noted
from .attempt import Job, Log
from .failures import Failure, backend_error, failure_of
from .gate import Admitted, Gate
from .learner import BoundLearner
from .learner_loop import Parked
from .learner_thread import Finished
from .meter import Meter
from .session import Answer, Ask, AskHiddenStates, Consult, Facts, Message
from .transcript import (
    DAMAGED,
    message_to_json,
    messages,
    recorded_answer,
    recorded_error,
    same_message,
    value_to_json,
)

MOST_IDLE = 20_000
"""Messages that a learner may send in a row without paying for one; then it is given up."""


@dataclass(slots=True, eq=False)
class Running:
    """An attempt that is running.

    ``clock`` counts the seconds of its own: of its turns, and those in which it was parked.
    """

    job: Job
    gate: Gate
    task: Any  # of its stage
    log: Log | None
    recorded: dict[int, dict[str, Any]]
    answers: list[tuple[int, Answer]] = field(default_factory=list[tuple[int, Answer]])
    sent: int = 0
    settled: int = 0  # all messages before this one are answered, and of the later ones ...
    answered: set[int] = field(default_factory=set[int])  # ... these
    idle_since: int = 0  # messages sent when it last paid for one
    spent: Cost = Cost()
    clock: float = 0.0
    parked: Parked | None = None
    parked_at: float = 0.0
    finished: Finished | None = None
    raised: BaseException | None = None  # for ``on_error``

    def fail(self, kind: str, why: str) -> None:
        """Give the learner up."""
        self.answers, self.parked = [], None
        self.finished = Finished(error=Failure(kind, why))

    def fail_if_idle(self) -> None:
        """Give a learner up that sends message after message without paying for any."""
        if self.gate.meter.spent != self.spent:
            self.spent, self.idle_since = self.gate.meter.spent, self.sent
        if self.finished is None and self.sent - self.idle_since > MOST_IDLE:
            why = f"sent {MOST_IDLE:,} messages in a row that were refused or cost nothing"
            self.fail("stalled", why)


@dataclass(slots=True, eq=False)
class Waiting:
    """A message and what has become of it.

    Admitted, if the generator must answer it; begun, if a judge is at it. It is settled when what
    its learner will be shown is there, or the error. Then it is concluded, which is where it is
    charged, and delivered. Messages of a learner that wait at the same time are concluded together,
    in an order that does not depend on which of them was settled first.
    """

    running: Running
    ticket: int
    number: int
    message: Message
    after: int  # when it was sent, all messages before this one had been answered
    admitted: Admitted | None = None
    begun: Begun | None = None  # verdicts that a judge is asked for
    futures: Sequence[Future[Reply]] = ()  # of a generator that answers each request when it can
    come: int = 0  # how many of these, in order, were seen to be answered
    shown: object = None
    error: RerootError | None = None
    failure: Failure | None = None  # the error as it is recorded
    answer: Answer | None = None
    recorded: bool = False
    said: dict[str, Any] | None = None  # the message as JSON values, where it came as such

    @property
    def settled(self) -> bool:
        """Whether nothing more is waited for."""
        return self.shown is not None or self.error is not None or self.answer is not None

    def show(self, found: Any) -> None:
        """Settle it with what the generator has answered."""
        assert self.admitted is not None
        try:
            self.shown = self.running.gate.shown(self.admitted, found)
        except Exception as error:
            self.lose(error)

    def lose(self, error: Exception, failure: Failure | None = None) -> None:
        """Settle it with an error; ``failure`` is what was recorded of it."""
        if self.admitted is not None or not isinstance(error, RerootError):
            error = backend_error(error)
        self.error = error
        self.failure = failure or failure_of(error)

    def collect(self) -> None:
        """Settle it if all of its replies are there.

        It fails by the first, in order, that failed, whichever did so first: those before it are
        waited for, and those after it are cancelled.
        """
        try:
            while self.come < len(self.futures):
                if not self.futures[self.come].done():
                    return
                self.futures[self.come].result(0)
                self.come += 1
        except (Exception, asyncio.CancelledError) as error:
            self.cancel(self.come)
            self.lose(error if isinstance(error, Exception) else RuntimeError("it was cancelled"))
        else:
            self.show([future.result(0) for future in self.futures])
        self.futures = ()

    def cancel(self, after: int = -1) -> None:
        """Let the generator stop working on the requests after this one."""
        for future in self.futures[after + 1 :]:
            future.cancel()

    def judged(self, wait: float | None = None) -> None:
        """Settle it with the verdicts, waiting for them if need be (see ``Begun``)."""
        if self.begun is None or self.settled:
            return
        try:
            self.shown = [0.0 if v is None else v for v in self.begun.results(wait)]
        except RerootError as error:
            self.lose(error)

    def conclude(self) -> None:
        """Charge a settled message.

        Nothing is charged or built that was not answered. That holds for tokens, too, whose answer
        was lost on the way: the learner has nothing of them. What was computed for them is in the
        generator's own account, ``physical``.
        """
        gate = self.running.gate
        if self.answer is not None or not self.settled:
            return
        if self.error is None and self.admitted is None:
            self.answer = gate.answer(self.shown)
            return
        if self.error is None and self.admitted is not None:
            try:
                self.answer = gate.charge(self.admitted, self.shown)
                return
            except Exception as error:
                self.lose(error)
        if self.admitted is not None:
            gate.cancel(self.admitted)
        assert self.error is not None
        self.refuse(self.error, self.failure)

    def refuse(self, error: RerootError, failure: Failure | None = None) -> None:
        """Answer with an error; ``failure`` is what was recorded of it."""
        self.failure = failure or failure_of(error)
        self.answer = self.running.gate.refuse(error, self.failure)

    def deliver(self) -> None:
        """Write the message and its answer down, then queue the answer for the learner."""
        running, answer = self.running, self.answer
        if answer is None:  # its learner has returned without waiting for it: it was never asked
            return
        self._write(answer.value)
        running.answered.add(self.number)
        while running.settled in running.answered:
            running.answered.remove(running.settled)
            running.settled += 1
        running.answers.append((self.ticket, answer))

    def keep(self) -> None:
        """Write a settled message down that is concluded later, with others (see ``Log``)."""
        self._write(self.shown, early=True)

    def _write(self, value: object, **more: bool) -> None:
        if self.running.log is None or self.recorded:
            return
        line = {
            "i": self.number,
            "after": self.after,
            "message": message_to_json(self.message) if self.said is None else self.said,
            "error": None if self.failure is None else self.failure.to_json(),
            "value": None if self.failure is not None else value_to_json(value),
        }
        self.running.log.append(self.running.job.key, line | more if more else line)


def start(
    job: Job,
    begin: Callable[[BoundLearner, Facts, bool], Any] | None,
    log: Log | None,
    keep: bool,
    judge_timeout: float | None,
    meter: Meter | None = None,
) -> Running:
    """Begin an attempt, or take an interrupted one up again.

    Args:
        job: what to run.
        begin: a learner on its session, where it runs (``Stage.begin``); ``None``: at a client.
        log: where its messages are written.
        keep: keep the exception that ends the learner.
        judge_timeout: seconds that a call of the task's functions may take.
        meter: its account, where it is not one of its own.

    Raises:
        RunFolderError: what an interrupted run has left is damaged.
    """
    gate = Gate(job.episode, job.contract, job.budget, job.seed, judge_timeout, meter)
    task = None if begin is None else begin(job.learner, gate.facts(), keep)
    recorded = [] if log is None else log.recorded(job.key)
    if log is not None and not recorded:
        log.append(job.key, head_of(job, gate.meter.prices))
    try:
        known = {line["i"]: line for line in messages(recorded[1:])}
    except DAMAGED as error:
        raise RunFolderError(
            f"attempt {job.key!r}: what an interrupted run has recorded is damaged: {error}"
        ) from None
    return Running(job, gate, task, log, known)


def head_of(job: Job, prices: Prices | None) -> dict[str, Any]:
    """The first line of a transcript."""
    return {
        "key": job.key,
        "learner": job.learner.label,
        "contract": str(job.contract.resolved),
        "horizon": job.episode.horizon,
        "budget": job.budget.to_dict(),
        **noted(prices),
        "seed": job.seed,
    }


def open_message(
    running: Running, ticket: int, message: Message, said: dict[str, Any] | None = None
) -> Waiting:
    """Check and pay for a message; answer it here if neither generator nor a slow judge is needed.

    ``said``: the message as ``message_to_json`` gives it, where it came as such.
    """
    item = Waiting(running, ticket, running.sent, message, running.settled, said=said)
    running.sent += 1
    line = _recorded(item) if running.recorded else None
    try:
        if isinstance(message, (Ask, AskHiddenStates)):
            item.admitted = running.gate.admit(message)
        if line is not None:
            _replay(item, line)
        elif isinstance(message, Consult):
            item.begun = running.gate.consult(message)
            if not item.begun.elsewhere:
                item.judged()
                item.conclude()
        elif item.admitted is None:
            item.answer = running.gate.serve(message)
    except RunFolderError:
        raise
    except RerootError as error:
        item.refuse(error)
    return item


def _replay(item: Waiting, line: dict[str, Any]) -> None:
    """Give the recorded answer once more, at the same price."""
    gate, message = item.running.gate, item.message
    try:
        found, failure = recorded_answer(message, line)
        begun = None
        if isinstance(message, Consult):
            begun = gate.consult(message, [] if failure else found)
        elif item.admitted is None:
            item.answer = gate.serve(message)
        if failure is not None:
            item.answer = None
            item.lose(recorded_error(failure), failure)
        elif begun is not None:
            item.shown = begun.results()
        elif item.admitted is not None:
            item.shown = gate.shown(item.admitted, found)
        # else it comes once more with all that waited at the same time
        if item.admitted is None and not (begun and begun.elsewhere):
            item.conclude()
    except (BackendError, *DAMAGED) as error:
        key = item.running.job.key
        raise RunFolderError(
            f"attempt {key!r}: the recorded message {item.number} is damaged: {error}"
        ) from None


def _recorded(item: Waiting) -> dict[str, Any] | None:
    """What an interrupted run of this attempt recorded for this very message."""
    running = item.running
    line = running.recorded.pop(item.number, None)
    if line is not None and not same_message(line["message"], item.message):
        # the learner goes another way now: what was recorded from here on has no meaning
        running.recorded.clear()
        if running.log is not None:
            running.log.append(running.job.key, {"forget": item.number})
        return None
    # an early one is written down once more, where it comes to the learner
    item.recorded = line is not None and not line.get("early")
    return line
