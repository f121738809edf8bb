"""Exact laws: a learner run once for every sequence of draws that its generator can make.

    runs = enumerate_runs(my_learner(n=2), problem, tree, grants="root/sample")
    law = output_law(runs)               # output → probability, exact up to rounding

Every run goes through a real session; the probability of a run is the product of the probabilities
of the draws that it saw. A learner's own ``session.rng`` is keyed by seed and problem, so it is held
fixed: for a learner that uses it, the laws are those given its numbers. With ``choices=True`` what it
decides by ``session.rng.choice`` and ``session.rng.integers`` is enumerated too.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar, cast

import numpy as np

from ..access.episode import bind, check_oracles
from ..access.learner import BoundLearner, LearnerFactory
from ..access.runner import Attempt, Job, execute
from ..access.session import Session
from ..checks import check_int
from ..contract import Contract
from ..errors import InvalidInput
from ..generators.base import Generator, Request
from ..generators.stepping import SteppingGenerator
from ..generators.stops import Stop
from ..learners import get_learner
from ..tasks.base import Problem
from ..types import Budget, FloatArray, IntArray, Reply
from .run import check_run

_T = TypeVar("_T", bound=Hashable)

_IN_FLIGHT = 64


@dataclass(frozen=True, slots=True)
class EnumeratedRun:
    """One run of a learner.

    Attributes:
        probability: of the draws that it saw, in (0, 1].
        attempt: what became of it.
        transcript: its lines, as recorded; empty unless they were asked for.
    """

    probability: float
    attempt: Attempt
    transcript: list[dict[str, Any]]


def enumerate_runs(
    learner: BoundLearner | LearnerFactory[...] | str,
    problem: Problem,
    generator: Generator,
    *,
    grants: Contract | str,
    budget: Budget | None = None,
    seed: int = 0,
    choices: bool = False,
    transcripts: bool = False,
    limit: int = 20_000,
) -> list[EnumeratedRun]:
    """Every run of positive probability, in the order of its draws; probabilities sum to 1.

    A run takes about a millisecond, and there are as many as sequences of draws: K^(N·H) for N
    rollouts of H tokens.

    Args:
        learner, problem, grants, budget, seed: as for ``reroot.run``.
        generator: tabular, or another one whose draws all go through ``SteppingGenerator._draw``.
        choices: enumerate the learner's own random choices as well; then ``choice`` and ``integers``
            are all that its ``session.rng`` offers.
        transcripts: keep the lines of every run.
        limit: most runs.

    Raises:
        AccessDenied: the learner requires more than is granted.
        InvalidInput: it takes more than ``limit`` runs; after the same replies the learner did not
            do the same; the generator is no ``SteppingGenerator``; or see ``reroot.run``.
    """
    if not isinstance(generator, SteppingGenerator):
        raise InvalidInput(f"enumeration needs a SteppingGenerator, got {generator!r}")
    check_int("limit", limit, 1)
    bound, contract = get_learner(learner), Contract.parse(grants).resolved
    check_run(bound, contract, generator, seed)
    check_oracles(problem, contract)
    episode = bind(problem, generator)
    job = Job(problem.id, bound, episode, contract, budget or Budget(), seed)
    play = partial(_play, job=job, generator=generator, choices=choices, transcripts=transcripts)
    found: list[tuple[_Script, EnumeratedRun]] = []
    scripts = [_Script(())]
    while scripts:  # each run shows the draws at which others part from it
        if len(found) + len(scripts) > limit:
            raise InvalidInput(f"{bound} on {problem.id!r} takes more than {limit:,} runs")
        done = list(zip(scripts, play(scripts), strict=True))
        scripts = [other for script, _ in done for other in script.others()]
        found += done
    return [run for _, run in sorted(found, key=lambda pair: pair[0].order())]


def law_of(runs: Sequence[EnumeratedRun], what: Callable[[EnumeratedRun], _T]) -> dict[_T, float]:
    """The law of ``what`` of a run: value → probability."""
    found: dict[_T, list[float]] = {}
    for run in runs:
        found.setdefault(what(run), []).append(run.probability)
    return {value: math.fsum(parts) for value, parts in found.items()}


def output_law(runs: Sequence[EnumeratedRun]) -> dict[tuple[int, ...] | None, float]:
    """Output tokens → probability; ``None``: no output.

    Raises:
        InvalidInput: a run failed; an error of the learner is no output.
    """
    for run in runs:
        if run.attempt.error is not None:
            raise InvalidInput(f"{run.attempt.learner} failed in a run: {run.attempt.error}")
    return law_of(runs, lambda r: None if r.attempt.output is None else r.attempt.output.tokens)


def total_variation(law: Mapping[_T, float], other: Mapping[_T, float]) -> float:
    """½ Σ |difference| of two laws given as value → probability."""
    return math.fsum(map(abs, _differences(law, other))) / 2


def largest_difference(law: Mapping[_T, float], other: Mapping[_T, float]) -> float:
    """The largest difference of the probabilities that two laws give to the same value."""
    return max(map(abs, _differences(law, other)), default=0.0)


def _differences(law: Mapping[_T, float], other: Mapping[_T, float]) -> list[float]:
    return [law.get(value, 0.0) - other.get(value, 0.0) for value in {**law, **other}]


@dataclass(frozen=True, slots=True)
class _Choice:
    """One draw: the probabilities of the tokens that are possible, and which of them it is."""

    law: tuple[float, ...]
    at: int


class _Script:
    """The draws of one run: those that are prescribed, then always the first possible token."""

    def __init__(self, prescribed: tuple[_Choice, ...]) -> None:
        self.made: list[_Choice] = []
        self._prescribed = prescribed
        self._strayed = False

    def choose(self, law: tuple[float, ...]) -> int:
        """Which of the possible tokens is drawn next."""
        place, at = len(self.made), 0
        if place < len(self._prescribed):
            at = self._prescribed[place].at
            self._strayed |= self._prescribed[place].law != law
        self.made.append(_Choice(law, 0 if self._strayed else at))
        return self.made[-1].at

    def probability(self) -> float:
        """Of the run that has ended.

        Raises:
            InvalidInput: it did not make the draws that were prescribed.
        """
        if self._strayed or len(self.made) < len(self._prescribed):
            raise InvalidInput("after the same replies the learner did not do the same again")
        return math.prod(choice.law[choice.at] for choice in self.made)

    def others(self) -> Iterator[_Script]:
        """The runs that part from this one where nothing was prescribed, at their first new draw."""
        for place in range(len(self._prescribed), len(self.made)):
            law = self.made[place].law
            for at in range(1, len(law)):
                yield _Script((*self.made[:place], _Choice(law, at)))

    def order(self) -> tuple[int, ...]:
        return tuple(choice.at for choice in self.made)


@dataclass(frozen=True, slots=True)
class _Stop(Stop):
    """The stop rule in the requests of one run; it says whose requests they are."""

    script: _Script = field(default_factory=lambda: _Script(()), compare=False)


class _Log:
    """Transcripts in memory."""

    def __init__(self, key: str) -> None:
        self.lines = defaultdict[str, list[dict[str, Any]]](list)
        self._key = key

    def recorded(self, key: str) -> list[dict[str, Any]]:
        return []

    def append(self, key: str, line: dict[str, Any]) -> None:
        self.lines[key].append({**line, "key": self._key} if "key" in line else line)

    def finish(self, key: str) -> None:
        pass


class _Choices:
    """In place of ``session.rng``: the learner's own choices, made by the script of its run."""

    def __init__(self, script: _Script) -> None:
        self._script = script

    def choice(self, a: Any, size: int | tuple[int, ...] | None = None, p: Any = None) -> Any:
        """As ``numpy.random.Generator.choice``, with replacement."""
        values = np.arange(a) if isinstance(a, (int, np.integer)) else np.asarray(a)
        weights = np.ones(len(values)) if p is None else np.asarray(p, dtype=np.float64)
        possible = np.flatnonzero(weights)
        law = tuple((weights[possible] / weights.sum()).tolist())
        if size is None:
            return values[possible[self._script.choose(law)]]
        made = [
            int(possible[self._script.choose(law)]) for _ in range(math.prod(np.atleast_1d(size)))
        ]
        return values[made].reshape(size)

    def integers(self, low: int, high: int | None = None) -> int:
        """As ``numpy.random.Generator.integers``."""
        low, high = (0, low) if high is None else (low, high)
        return low + int(self.choice(high - low))

    def __getattr__(self, name: str) -> Any:
        raise InvalidInput(
            f"session.rng.{name} cannot be enumerated; choose by session.rng.choice(n, p=…)"
        )


def _choosing(learner: BoundLearner, script: _Script) -> BoundLearner:
    """``learner`` with its own choices made by a script."""

    async def function(session: Session, **params: Any) -> Any:
        session.rng = cast("np.random.Generator", _Choices(script))
        return await learner.function(session, **params)

    return replace(learner, function=function)


def _play(
    scripts: Sequence[_Script],
    job: Job,
    generator: Generator,
    choices: bool,
    transcripts: bool,
) -> list[EnumeratedRun]:
    """One run per script, many in flight."""
    attempts: dict[str, Attempt] = {}
    log = _Log(job.key)
    jobs: list[Job] = []
    for i, script in enumerate(scripts):
        rule = job.episode.stop
        stop = _Stop(rule.tokens, rule.texts, rule.closing, rule.writing, rule.gap, script)
        learner = _choosing(job.learner, script) if choices else job.learner
        episode = replace(job.episode, stop=stop)
        jobs.append(replace(job, key=str(i), learner=learner, episode=episode))
    with _scripted(generator):
        execute(
            jobs,
            generator,
            concurrency=_IN_FLIGHT,
            on_attempt=lambda attempt: attempts.update({attempt.key: attempt}),
            log=log if transcripts else None,
        )
    return [
        EnumeratedRun(
            script.probability(), replace(attempts[one.key], key=job.key), log.lines[one.key]
        )
        for one, script in zip(jobs, scripts, strict=True)
    ]


@contextmanager
def _scripted(generator: Generator) -> Iterator[None]:
    """Let scripts decide what ``generator`` draws: ``_draw`` is its single point of randomness."""
    mine = vars(generator)
    before = {name: mine[name] for name in ("answer", "_draw") if name in mine}
    batch = _Batch(generator.answer)
    mine.update(answer=batch.answer, _draw=batch.draw)
    try:
        yield
    finally:
        del mine["answer"], mine["_draw"]
        mine.update(before)


class _Batch:
    """What is asked at one moment: whose row each draw is for."""

    def __init__(self, answer: Callable[[Sequence[Request]], list[Reply]]) -> None:
        self._answer = answer
        self._rows: list[tuple[_Script, Request, tuple[int, ...]]] = []  # … and all its tokens

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        """In place of ``SteppingGenerator.answer``."""
        drawing = [r for r in requests if r.forced is None and r.report.draws]
        self._rows = [
            (cast("_Stop", r.stop).script, r, r.prefix) for r in drawing for _ in range(r.n)
        ]
        before = {script: len(script.made) for script, _, _ in self._rows}
        try:
            return self._answer(requests)
        except Exception:
            if len(before) > 1:  # they will be asked one by one: none has seen a draw
                for script, made in before.items():
                    del script.made[made:]
            raise

    def draw(self, laws: FloatArray, rows: IntArray, u: FloatArray) -> IntArray:
        """In place of ``SteppingGenerator._draw``: (n,) tokens; ``u`` has no say."""
        p = np.exp(np.asarray(laws, dtype=np.float64))
        p /= p.sum(axis=1, keepdims=True)
        possible = [np.flatnonzero(law) for law in p]
        values = [tuple(law[some].tolist()) for law, some in zip(p, possible, strict=True)]
        tokens = [
            int(possible[row][script.choose(values[row])])
            for (script, _, _), row in zip(self._rows, rows.tolist(), strict=True)
        ]
        longer = [
            (script, request, (*output, token))
            for (script, request, output), token in zip(self._rows, tokens, strict=True)
        ]
        self._rows = [
            row
            for row in longer
            if len(row[2]) < len(row[1].prefix) + row[1].length and not row[1].stop.ends(row[2])
        ]
        return np.array(tokens, dtype=np.int64)
