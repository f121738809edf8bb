"""Judging: what a learner returned, its reward and its surprisal, as an attempt."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence

from ..errors import RerootError
from ..generators.base import Generator, Request
from ..tasks.judges import Begun, begin
from ..types import Output, Prefix, Reply
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
    return _attempts(generator, [Judgement(running, timeout) for running in done])


def _attempts(generator: Generator, judgements: Sequence[Judgement]) -> Iterator[Attempt]:
    scored = [one.request for one in judgements if one.request is not None]
    surprisals = iter(_surprisals(generator, scored))
    for one in judgements:
        if one.request is not None:
            one.surprisal = next(surprisals)
        while one.begun is not None:
            one.take()
        yield one.attempt()


class Judgement:
    """A finished attempt while it is judged.

    Args:
        running: what has finished; its reward is asked for at once.
        timeout: seconds that each call of a judge may take.

    Attributes:
        begun: the call of a judge that is to be taken next, if any.
        request: whose reply tells the surprisal of the output, if any does.
        surprisal: see ``Attempt``.
    """

    def __init__(self, running: Running, timeout: float | None) -> None:
        self.running, self._timeout = running, timeout
        self._output, self._error = _output(running)
        self._seen: Output | None = None
        self._reward: float | None = 0.0 if self._output is None else None
        self._accepted: bool | None = None
        self._checking = False  # it is the verifier that is asked
        self.begun: Begun | None = None
        self.request: Request | None = None
        self.surprisal: float | None = None
        if self._output is None:
            return
        tokens, episode = self._output.tokens, running.job.episode
        self.surprisal = None if tokens else 0.0
        self.request = episode.scoring(tokens) if tokens else None
        try:
            self._seen = episode.output(tokens)
            self.begun = begin(episode.problem, "reward", [self._seen], timeout)
        except Exception as error:
            self._fail(error)

    def take(self, wait: float | None = None) -> None:
        """Take what a judge says, waiting for it if need be (see ``Begun``); a verifier may be next."""
        begun, self.begun = self.begun, None
        assert begun is not None
        if self._checking:
            with contextlib.suppress(Exception):  # a verifier that fails says nothing
                self._accepted = begun.results(wait)[0]
            return
        try:
            self._reward = begun.results(wait)[0]
        except Exception as error:
            self._fail(error)
        problem = self.running.job.episode.problem
        if self._seen and self._seen.complete and self._reward is not None and not self._passed:
            self._checking = problem.verifier is not None
            if self._checking:
                with contextlib.suppress(Exception):
                    self.begun = begin(problem, "verifier", [self._seen], self._timeout)

    def _fail(self, raised: Exception) -> None:
        raised = raised if isinstance(raised, RerootError) else backend_error(raised)
        self.running.raised = self.running.raised or raised
        self._error = self._error or failure_of(raised)

    @property
    def _passed(self) -> bool:
        complete = self._seen is not None and self._seen.complete
        least = self.running.job.episode.problem.pass_at
        return complete and self._reward is not None and self._reward >= least

    def attempt(self) -> Attempt:
        """What became of it."""
        job, finished, seen = self.running.job, self.running.finished, self._seen
        assert finished is not None
        return Attempt(
            key=job.key,
            problem=job.episode.problem.id,
            learner=job.learner.label,
            contract=str(self.running.gate.contract),
            seed=job.seed,
            output=self._output,
            text="" if seen is None else readable(seen.text),
            complete=seen is not None and seen.complete,
            reward=self._reward,
            passed=self._passed,
            surprisal=self.surprisal,
            cost=self.running.gate.meter.spent,
            error=None if finished.out_of_budget else self._error,
            stopped="budget" if finished.out_of_budget else None,
            metadata=json.loads(finished.metadata),
            accepted=self._accepted,
        )


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
        return [surprisal_of(reply) for reply in found]
    except Exception:  # one by one, as a failure must not depend on what is asked beside it
        if len(requests) == 1:
            return [None]
        return [_surprisals(generator, [request])[0] for request in requests]


def surprisal_of(reply: Reply) -> float:
    """−log P of the output that was scored, in nats."""
    return float(0.0 - reply.total_logprobs()[0])
