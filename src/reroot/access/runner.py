"""The runner: many learners, one generator; what they ask at the same moment is one batch.

A run proceeds in waves. All learners in flight run until each waits for an answer; everything they
asked becomes one call of the generator; all get their answers; and so on. Learners never share
anything, and every random number is keyed by what it is for, so results do not depend on how many
are in flight, on their order, or on the batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..errors import BackendError, RerootError
from ..generators.base import Generator, Request
from ..learners.base import BoundLearner
from ..tasks.base import judge
from ..types import Budget, Cost, Prefix, Reply, as_tokens
from .contract import Contract
from .desk import Admitted, Desk, refusal
from .episode import Episode
from .learner_thread import Finished, LearnerTask, LearnerThread, describe_error
from .session import Answer, Ask, Envelope
from .transcript import check_kind, message_to_json, replies_from_json, same_message, value_to_json


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
    error: str | None
    stopped: str | None


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
    desk: Desk
    task: LearnerTask
    log: Log | None
    replay: Iterator[dict[str, Any]]
    answers: list[tuple[Envelope, Answer]] = field(default_factory=list)
    sent: int = 0


@dataclass(slots=True)
class _Waiting:
    """A message of this wave and, when the generator must answer it, what was admitted."""

    flight: _Flight
    envelope: Envelope
    admitted: Admitted | None = None
    answer: Answer | None = None
    recorded: bool = False


def execute(
    jobs: Iterable[Job],
    generator: Generator,
    *,
    concurrency: int,
    on_attempt: Callable[[Attempt], None],
    log_of: Callable[[Job], Log | None] = lambda job: None,
    on_wave: Callable[[int], None] = lambda waiting: None,
) -> None:
    """Run every job; ``on_attempt`` gets each result as soon as its wave is over.

    ``on_wave`` is told the number of attempts in flight before each wave.
    """
    queue, flights = iter(jobs), list[_Flight]()
    thread = LearnerThread()
    try:
        while True:
            for job in queue:
                flights.append(_launch(job, log_of(job)))
                if len(flights) >= concurrency:
                    break
            if not flights:
                return
            on_wave(len(flights))
            mail = thread.step_all([(f.task, f.answers) for f in flights])
            waiting: list[_Waiting] = []
            for flight, envelopes in zip(flights, mail, strict=True):
                flight.answers = []
                waiting += [_open(flight, envelope) for envelope in envelopes]
            _answer(generator, waiting)
            for item in waiting:
                _deliver(item)
            done = [f for f in flights if f.task.finished is not None]
            flights = [f for f in flights if f.task.finished is None]
            for flight, attempt in zip(done, _judge(generator, done), strict=True):
                on_attempt(attempt)
                if flight.log is not None:
                    flight.log.finish()
    finally:
        thread.close([f.task for f in flights])


def _launch(job: Job, log: Log | None) -> _Flight:
    desk = Desk(job.episode, job.contract, job.budget, job.seed)
    task = LearnerTask(job.learner.start, desk.facts())
    recorded = [] if log is None else log.recorded()
    if log is not None and not recorded:
        log.append(
            {
                "key": job.key,
                "learner": job.learner.label,
                "contract": str(desk.contract),
                "horizon": job.episode.horizon,
                "budget": job.budget.to_dict(),
                "seed": job.seed,
            }
        )
    return _Flight(job, desk, task, log, iter(recorded[1:]))


def _open(flight: _Flight, envelope: Envelope) -> _Waiting:
    """Check and pay for a message; answer it here if no generator is needed."""
    item = _Waiting(flight, envelope)
    line = next(flight.replay, None)
    try:
        message = check_kind(envelope.message)
        if line is not None and (line["error"] is not None or not same_message(line["message"], message)):
            line = None
        if isinstance(message, Ask):
            item.admitted = flight.desk.admit(message)
            if line is not None:
                item.answer = flight.desk.complete(item.admitted, replies_from_json(line["value"]))
        else:
            item.answer = flight.desk.serve(message, None if line is None else line["value"])
        item.recorded = line is not None
    except RerootError as error:
        item.answer = Answer(None, refusal(error), flight.desk.meter.spent)
    return item


def _answer(generator: Generator, waiting: Sequence[_Waiting]) -> None:
    """One generator call for all that is waiting; if it fails, each attempt is asked by itself."""
    todo = [(item, item.admitted) for item in waiting if item.admitted and item.answer is None]
    requests = [request for _, admitted in todo for request in admitted.requests]
    if not requests:
        return
    replies: list[Reply] | None = None
    try:
        replies = _replies(generator, requests)
    except Exception as error:
        if len(todo) == 1:
            _fail(*todo[0], error)
            return
    start = 0
    for item, admitted in todo:
        stop = start + len(admitted.requests)
        try:
            own = replies[start:stop] if replies else _replies(generator, admitted.requests)
            item.answer = item.flight.desk.complete(admitted, own)
        except Exception as error:
            _fail(item, admitted, error)
        start = stop


def _replies(generator: Generator, requests: Sequence[Request]) -> list[Reply]:
    replies = generator.answer(requests)
    if len(replies) != len(requests):
        raise BackendError(f"{len(requests)} requests got {len(replies)} replies")
    return replies


def _fail(item: _Waiting, admitted: Admitted, error: Exception) -> None:
    if not isinstance(error, RerootError):
        error = BackendError(f"the generator failed: {describe_error(error)}")
    item.answer = item.flight.desk.cancel(admitted, refusal(error))


def _deliver(item: _Waiting) -> None:
    """Write the message and its answer down, then queue the answer for the learner."""
    flight, answer = item.flight, item.answer
    assert answer is not None
    if flight.log is not None and not item.recorded:
        message = item.envelope.message
        flight.log.append(
            {
                "i": flight.sent,
                "message": message_to_json(message),
                "error": None if answer.error is None else describe_error(answer.error),
                "value": None if answer.error is not None else value_to_json(answer.value),
            }
        )
    flight.sent += 1
    flight.answers.append((item.envelope, answer))


def _judge(generator: Generator, done: Sequence[_Flight]) -> list[Attempt]:
    """Judge finished attempts; their outputs are scored under the generator in one call."""
    outputs: list[tuple[Prefix | None, str | None]] = []
    for flight in done:
        assert flight.task.finished is not None
        outputs.append(_output(flight.job.episode, flight.task.finished))
    scored = [
        flight.job.episode.scoring(output.tokens)
        for flight, (output, _) in zip(done, outputs, strict=True)
        if output is not None and len(output)
    ]
    surprisals = iter(_surprisals(generator, scored))
    return [
        _attempt(flight, output, error, next(surprisals) if output else None)
        for flight, (output, error) in zip(done, outputs, strict=True)
    ]


def _output(episode: Episode, finished: Finished) -> tuple[Prefix | None, str | None]:
    """The learner's output, checked; or why there is none."""
    if finished.value is None or finished.error is not None:
        return None, finished.error
    try:
        if not isinstance(finished.value, (Prefix, tuple, list)):
            raise BackendError(f"the learner returned {finished.value!r}, expected a Prefix or None")
        output = Prefix(as_tokens(finished.value))  # type: ignore[arg-type]
        episode.check_tokens(output.tokens)
    except RerootError as error:
        return None, describe_error(error)
    return output, None


def _surprisals(generator: Generator, requests: Sequence[Request]) -> list[float | None]:
    if not requests or not generator.capabilities.given:
        return [None] * len(requests)
    try:
        replies = _replies(generator, requests)
    except Exception:  # the generator is down: attempts are kept, without this column
        return [None] * len(requests)
    return [float(0.0 - reply.total_logprobs()[0]) for reply in replies]


def _attempt(
    flight: _Flight, output: Prefix | None, error: str | None, surprisal: float | None
) -> Attempt:
    job, problem = flight.job, flight.job.episode.problem
    finished = flight.task.finished
    assert finished is not None
    seen = None if output is None else job.episode.output(output.tokens)
    reward: float | None = None
    try:
        reward = 0.0 if seen is None else judge(problem, seen)
    except RerootError as failure:
        error = error or describe_error(failure)
    return Attempt(
        key=job.key,
        problem=problem.id,
        learner=job.learner.label,
        contract=str(flight.desk.contract),
        seed=job.seed,
        output=output,
        text="" if seen is None else seen.text,
        complete=seen is not None and seen.complete,
        reward=reward,
        passed=reward is not None and reward >= problem.pass_at,
        surprisal=surprisal,
        cost=flight.desk.meter.spent,
        error=None if finished.out_of_budget else error,
        stopped="budget" if finished.out_of_budget else None,
    )
