"""Judging: what a learner returned, its reward and its surprisal, as an attempt."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence

from ..errors import RerootError
from ..generators.base import Generator, Request
from ..tasks.judges import Begun, begin, check
from ..types import Output, Prefix
from .attempt import Attempt
from .batches import replies
from .failures import Failure, backend_error, failure_of, readable
from .running import Running


def judge(
    generator: Generator, done: Sequence[Running], timeout: float | None = None
) -> Iterator[Attempt]:
    """Begin to judge finished attempts; the attempts, one by one as they are asked for. Outputs are
    scored under the generator in one call.

    Args:
        generator: whose law the surprisal is under.
        done: what has finished.
        timeout: seconds that each reward may take.
    """
    outputs = [_output(running) for running in done]
    begun = [
        _begin(running, output, timeout) for running, (output, _) in zip(done, outputs, strict=True)
    ]
    return _attempts(generator, done, outputs, begun, timeout)


def _attempts(
    generator: Generator,
    done: Sequence[Running],
    outputs: Sequence[tuple[Prefix | None, Failure | None]],
    begun: Sequence[tuple[Output | None, Begun | Exception | None]],
    timeout: float | None,
) -> Iterator[Attempt]:
    scored = [
        running.job.episode.scoring(output.tokens)
        for running, (output, _) in zip(done, outputs, strict=True)
        if output is not None and len(output)
    ]
    surprisals = iter(_surprisals(generator, scored))
    for running, (output, error), asked in zip(done, outputs, begun, strict=True):
        surprisal = _surprisal(output, surprisals)
        yield _attempt(running, output, error, surprisal, asked, timeout)


def _begin(
    running: Running, output: Prefix | None, timeout: float | None
) -> tuple[Output | None, Begun | Exception | None]:
    """What the judge sees, and its call; or why there is none."""
    seen = None
    try:
        if output is None:
            return None, None
        seen = running.job.episode.output(output.tokens)
        return seen, begin(running.job.episode.problem, "reward", [seen], timeout)
    except Exception as error:
        return seen, error


def _surprisal(output: Prefix | None, scored: Iterator[float | None]) -> float | None:
    if output is None:
        return None
    return next(scored) if len(output) else 0.0


def _output(running: Running) -> tuple[Prefix | None, Failure | None]:
    """The learner's output, checked; or why there is none."""
    finished = running.finished
    assert finished is not None
    running.raised = finished.raised
    if finished.output is None:
        if finished.error is None:
            return None, None
        failure, cause = running.gate.cause(finished.error)
        running.raised = cause or running.raised
        return None, failure
    try:
        running.job.episode.check_tokens(finished.output.tokens)
    except RerootError as error:
        running.raised = error
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
    running: Running,
    output: Prefix | None,
    error: Failure | None,
    surprisal: float | None,
    asked: tuple[Output | None, Begun | Exception | None],
    timeout: float | None,
) -> Attempt:
    job, problem = running.job, running.job.episode.problem
    finished, (seen, begun), reward = running.finished, asked, None
    assert finished is not None
    try:
        if isinstance(begun, Exception):
            raise begun
        reward = 0.0 if begun is None else begun.results()[0]
    except Exception as raised:
        raised = raised if isinstance(raised, RerootError) else backend_error(raised)
        running.raised = running.raised or raised
        error = error or failure_of(raised)
    complete = seen is not None and seen.complete
    passed = complete and reward is not None and reward >= problem.pass_at
    accepted = None
    if seen and complete and not passed and reward is not None and problem.verifier is not None:
        with contextlib.suppress(Exception):  # a verifier that fails says nothing
            accepted = check(problem, seen, timeout)
    return Attempt(
        key=job.key,
        problem=problem.id,
        learner=job.learner.label,
        contract=str(running.gate.contract),
        seed=job.seed,
        output=output,
        text="" if seen is None else readable(seen.text),
        complete=complete,
        reward=reward,
        passed=passed,
        surprisal=surprisal,
        cost=running.gate.meter.spent,
        error=None if finished.out_of_budget else error,
        stopped="budget" if finished.out_of_budget else None,
        metadata=json.loads(finished.metadata),
        accepted=accepted,
    )
