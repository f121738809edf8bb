"""The runner: many learners, one generator; what they ask at the same moment is one batch.

A run proceeds in waves. All learners in flight run until each waits for the generator (oracles
answer at once); everything they asked becomes one call of the generator; all get their answers; and
so on. Learners never share anything, and every random number is keyed by what it is for, so results
do not depend on how many are in flight, on their order, or on the batches.
"""

from __future__ import annotations

import itertools
import json
import resource
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..contract import Contract
from ..errors import InvalidInput, RerootError
from ..generators.base import Generator, Request
from ..tasks.base import score
from ..types import Budget, Cost, Prefix
from .batches import Pending, answer_all, replies
from .episode import Episode
from .failures import Failure, backend_error, failure_of, readable
from .gate import Admitted, Gate
from .hidden_states import Inspected
from .learner import BoundLearner
from .learner_thread import Finished, LearnerTask, LearnerThread
from .session import Answer, Ask, AskHiddenStates, Message
from .transcript import (
    array_from_json,
    error_from_text,
    message_to_json,
    messages,
    replies_from_json,
    same_message,
    value_to_json,
)

MOST_IDLE = 20_000
"""Messages that a learner may send in a row without paying for one; then it is given up."""

_ROUNDS = 100  # turns in one wave, so that no learner holds up the others


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt to be made: a learner on a problem, under a contract, within a budget.

    ``key`` is unique in the run and stable across runs of the same configuration.
    """

    key: str
    learner: BoundLearner
    episode: Episode
    contract: Contract
    budget: Budget
    seed: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """What became of a job.

    Attributes:
        key: the job's key.
        problem: problem id.
        learner: learner label.
        contract: granted contract, as text.
        seed: run seed.
        output: what the learner returned (``None``: no answer).
        text: its text, cut before the stop text.
        complete: whether the output ended by itself or by the horizon.
        reward: its outcome reward (0 without an output; ``None`` when judging it failed).
        passed: whether the reward reaches the problem's ``pass_at``.
        surprisal: −log P(output) in nats under the generator's own law; ``None`` if unknown.
        cost: logical cost in every currency.
        error: why it failed, if it did.
        stopped: ``"budget"`` if the learner was ended by its budget.
        metadata: what the learner found out besides (see ``types.Finding``).
    """

    key: str
    problem: str
    learner: str
    contract: str
    seed: int
    output: Prefix | None
    text: str
    complete: bool
    reward: float | None
    passed: bool
    surprisal: float | None
    cost: Cost
    error: Failure | None
    stopped: str | None
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])


class Log(Protocol):
    """Where an attempt's messages are written while it runs (see ``runs.py``)."""

    def recorded(self) -> list[dict[str, Any]]:
        """Lines left by an interrupted run of the same attempt."""
        ...

    def append(self, line: dict[str, Any]) -> None:
        """Add a line, on disk when this returns."""
        ...

    def finish(self) -> None:
        """The attempt has ended."""
        ...


@dataclass(slots=True, eq=False)
class _Flight:
    """An attempt in flight."""

    job: Job
    gate: Gate
    task: LearnerTask
    log: Log | None
    recorded: dict[int, dict[str, Any]]
    answers: list[tuple[int, Answer]] = field(default_factory=list[tuple[int, Answer]])
    sent: int = 0
    idle_since: int = 0  # messages sent when it last paid for one
    spent: Cost = Cost()
    finished: Finished | None = None
    raised: BaseException | None = None  # for ``on_error``


@dataclass(slots=True)
class _Waiting:
    """A message of this wave and, when the generator must answer it, what was admitted."""

    flight: _Flight
    ticket: int
    number: int
    message: Message
    admitted: Admitted | Inspected | None = None
    answer: Answer | None = None
    recorded: bool = False


def execute(
    jobs: Iterable[Job],
    generator: Generator,
    *,
    concurrency: int,
    on_attempt: Callable[[Attempt], None],
    log_of: Callable[[Job], Log | None] = lambda job: None,
    on_round: Callable[[int], None] = lambda running: None,
    on_error: Callable[[Attempt, BaseException], None] | None = None,
    attempt_timeout: float | None = None,
    judge_timeout: float | None = None,
) -> None:
    """Run every job.

    Args:
        jobs: what to run.
        generator: what is behind the door.
        concurrency: most attempts that run at the same time.
        on_attempt: gets each result as soon as its round is over.
        log_of: where the messages of a job are written, if anywhere.
        on_round: is told before each round how many attempts are running.
        on_error: gets, before ``on_attempt``, an attempt that failed and the exception itself: what
            the learner, the generator or the task raised. Without it, no object of a learner
            leaves the learners' thread.
        attempt_timeout: seconds of its own that an attempt may take (``None``: no limit).
        judge_timeout: seconds that a call of a reward, verifier or value function may take.
    """
    queue, flights = iter(jobs), list[_Flight]()
    at_once, thread = _affordable_loops(concurrency), LearnerThread()
    try:
        while True:
            for job in itertools.islice(queue, at_once - len(flights)):
                flights.append(_launch(job, log_of(job), keep=on_error is not None))
            if not flights:
                return
            on_round(len(flights))
            waiting = _turn(thread, flights)
            done = [f for f in flights if f.finished is not None]
            flights = [f for f in flights if f.finished is None]
            _answer(generator, [item for item in waiting if item.flight.finished is None])
            for item in waiting:
                _deliver(item)
            for flight, attempt in zip(done, _judge(generator, done), strict=True):
                if on_error is not None and attempt.error is not None:
                    on_error(attempt, flight.raised or RerootError(str(attempt.error)))
                on_attempt(attempt)
                if flight.log is not None:
                    flight.log.finish()
    finally:
        thread.close([f.task for f in flights])


def check_concurrency(concurrency: int) -> None:
    """Refuse anything but a positive number of attempts in flight (``InvalidInput``)."""
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInput(f"concurrency must be an integer >= 1, got {concurrency!r}")


def _affordable_loops(concurrency: int) -> int:
    """Attempts in flight that the open-file limit allows: an event loop takes three files."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return concurrency
    return max(1, min(concurrency, (limit - 128) // 3))


def _turn(thread: LearnerThread, flights: Sequence[_Flight]) -> list[_Waiting]:
    """Let every learner run until all it waits for is the generator; what they wait for.

    A learner that goes on and on with what needs no generator does so in the waves to come.
    """
    waiting: list[_Waiting] = []
    for _ in range(_ROUNDS):
        if not flights:
            break
        turns = thread.step_all([(f.task, f.answers) for f in flights])
        for flight, turn in zip(flights, turns, strict=True):
            flight.answers, flight.finished = [], turn.finished
            for item in [_open(flight, ticket, message) for ticket, message in turn.sent]:
                if item.answer is None:
                    waiting.append(item)
                else:
                    _deliver(item)
            _end_if_idle(thread, flight)
        flights = [f for f in flights if f.answers]
    return waiting


def _end_if_idle(thread: LearnerThread, flight: _Flight) -> None:
    """Give a learner up that sends message after message without paying for any."""
    if flight.gate.meter.spent != flight.spent:
        flight.spent, flight.idle_since = flight.gate.meter.spent, flight.sent
    if flight.finished is None and flight.sent - flight.idle_since > MOST_IDLE:
        thread.drop(flight.task)
        why = f"sent {MOST_IDLE:,} messages in a row that were refused or cost nothing"
        flight.answers, flight.finished = [], Finished(error=Failure("stalled", why))


def _launch(job: Job, log: Log | None, keep: bool) -> _Flight:
    gate = Gate(job.episode, job.contract, job.budget, job.seed)
    task = LearnerTask(job.learner.start, gate.facts(), keep)
    recorded = [] if log is None else log.recorded()
    if log is not None and not recorded:
        log.append(
            {
                "key": job.key,
                "learner": job.learner.label,
                "contract": str(gate.contract),
                "horizon": job.episode.horizon,
                "budget": job.budget.to_dict(),
                "seed": job.seed,
            }
        )
    return _Flight(job, gate, task, log, {line["i"]: line for line in messages(recorded[1:])})


def _open(flight: _Flight, ticket: int, message: Message) -> _Waiting:
    """Check and pay for a message; answer it here if no generator is needed."""
    item, gate = _Waiting(flight, ticket, flight.sent, message), flight.gate
    flight.sent += 1
    line = _recorded(item)
    try:
        if not isinstance(message, (Ask, AskHiddenStates)):
            item.answer = _serve(gate, message, line)
        else:
            admits = gate.admit if isinstance(message, Ask) else gate.admit_hidden_states
            item.admitted = admits(message)  # pyright: ignore[reportArgumentType]
            item.answer = None if line is None else _replay(gate, item.admitted, line)
            item.recorded = item.answer is not None
    except RerootError as error:
        item.answer = gate.answer(None, error)
    except Exception as error:
        item.answer = gate.answer(None, backend_error(error))
    return item


def _serve(gate: Gate, message: Message, line: dict[str, Any] | None) -> Answer:
    """The answer of an oracle, or the recorded one at the same price."""
    if line is None:
        return gate.serve(message)
    if line["error"] is None:
        return gate.serve(message, line["value"])
    gate.serve(message, [])
    return gate.answer(None, error_from_text(line["error"]))


def _replay(gate: Gate, admitted: Admitted | Inspected, line: dict[str, Any]) -> Answer | None:
    """The recorded answer once more; ``None`` if the record is damaged."""
    if line["error"] is not None:
        return gate.cancel(admitted, error_from_text(line["error"]))
    try:
        if isinstance(admitted, Inspected):
            return gate.complete_hidden_states(admitted, array_from_json(line["value"]))
        return gate.complete(admitted, replies_from_json(line["value"]))
    except Exception:
        return None


def _recorded(item: _Waiting) -> dict[str, Any] | None:
    """What an interrupted run of this attempt recorded for this very message."""
    flight = item.flight
    line = flight.recorded.pop(item.number, None)
    if line is not None and not same_message(line["message"], item.message):
        # the learner goes another way now: what was recorded from here on has no meaning
        flight.recorded.clear()
        if flight.log is not None:
            flight.log.append({"forget": item.number})
        return None
    item.recorded = line is not None
    return line


def _answer(generator: Generator, waiting: Sequence[_Waiting]) -> None:
    """Ask the generator for all that is waiting."""
    todo = [
        (item, Pending(item.flight.gate, item.admitted))
        for item in waiting
        if item.admitted is not None and item.answer is None
    ]
    answer_all(generator, [pending for _, pending in todo])
    for item, pending in todo:
        item.answer = pending.answer


def _deliver(item: _Waiting) -> None:
    """Write the message and its answer down, then queue the answer for the learner."""
    flight, answer = item.flight, item.answer
    if answer is None:  # its learner has returned without waiting for it: it was never asked
        return
    if flight.log is not None and not item.recorded:
        flight.log.append(
            {
                "i": item.number,
                "message": message_to_json(item.message),
                "error": None if answer.error is None else str(failure_of(answer.error)),
                "value": None if answer.error is not None else value_to_json(answer.value),
            }
        )
    flight.answers.append((item.ticket, answer))


def _judge(generator: Generator, done: Sequence[_Flight]) -> list[Attempt]:
    """Judge finished attempts; their outputs are scored under the generator in one call."""
    outputs = [_output(flight) for flight in done]
    scored = [
        flight.job.episode.scoring(output.tokens)
        for flight, (output, _) in zip(done, outputs, strict=True)
        if output is not None and len(output)
    ]
    surprisals = iter(_surprisals(generator, scored))
    return [
        _attempt(flight, output, error, _surprisal(output, surprisals))
        for flight, (output, error) in zip(done, outputs, strict=True)
    ]


def _surprisal(output: Prefix | None, scored: Iterator[float | None]) -> float | None:
    if output is None:
        return None
    return next(scored) if len(output) else 0.0


def _output(flight: _Flight) -> tuple[Prefix | None, Failure | None]:
    """The learner's output, checked; or why there is none."""
    finished = flight.finished
    assert finished is not None
    flight.raised = finished.raised
    if finished.output is None:
        return None, finished.error
    try:
        flight.job.episode.check_tokens(finished.output.tokens)
    except RerootError as error:
        flight.raised = error
        return None, failure_of(error)
    return finished.output, None


def _surprisals(generator: Generator, requests: Sequence[Request]) -> list[float | None]:
    if not requests or not generator.capabilities.forced:
        return [None] * len(requests)
    try:
        found = replies(generator, requests)
        return [float(0.0 - reply.total_logprobs()[0]) for reply in found]
    except Exception:  # one by one, as a failure must not depend on what is asked beside it
        if len(requests) == 1:
            return [None]
        return [_surprisals(generator, [request])[0] for request in requests]


def _attempt(
    flight: _Flight, output: Prefix | None, error: Failure | None, surprisal: float | None
) -> Attempt:
    job, problem = flight.job, flight.job.episode.problem
    finished, seen, reward = flight.finished, None, None
    assert finished is not None
    try:
        seen = None if output is None else job.episode.output(output.tokens)
        reward = 0.0 if seen is None else score(problem, seen)
    except Exception as raised:
        raised = raised if isinstance(raised, RerootError) else backend_error(raised)
        flight.raised = flight.raised or raised
        error = error or failure_of(raised)
    return Attempt(
        key=job.key,
        problem=problem.id,
        learner=job.learner.label,
        contract=str(flight.gate.contract),
        seed=job.seed,
        output=output,
        text="" if seen is None else readable(seen.text),
        complete=seen is not None and seen.complete,
        reward=reward,
        passed=seen is not None and reward is not None and reward >= problem.pass_at,
        surprisal=surprisal,
        cost=flight.gate.meter.spent,
        error=None if finished.out_of_budget else error,
        stopped="budget" if finished.out_of_budget else None,
        metadata=json.loads(finished.metadata),
    )
