"""Attempts of a comparison in other processes, each with the generator rebuilt from its spec."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from ..access.failures import Failure
from ..access.runner import Attempt, Job, execute
from ..contract import Contract, Sampling
from ..errors import InvalidInput
from ..generators.base import ConcurrentGenerator, Generator
from ..types import Cost, Physical
from .attempts import JUDGE_DOWN, Execution, RunFolder
from .executors.base import Batch, Pool, Work
from .isolated import Place, place_of
from .models import Load, is_family
from .plan import Plan, learners_of
from .workload import build_workload

_PARTS = 4
"""Batches that each worker gets of a whole run, so that none is left with much at the end."""

Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What another process makes the same plan from.

    Attributes:
        identity: digest of the plan's configuration: what is made from the recipe must have it too.
        limits: how its attempts are made: concurrency, and seconds of attempts and judges.
        transcripts: messages are wanted.
        isolation: what walls learners have, as the configuration says; nothing: they have none.
    """

    model: str
    tasks: tuple[str, ...]
    horizons: tuple[int, ...]
    seeds: int
    problems: int
    load: Load
    budgets: dict[str, float]
    value: str
    grants: tuple[str, ...]
    learners: tuple[str, ...]
    beta: float
    limits: tuple[int, float | None, float | None]
    transcripts: bool
    isolation: dict[str, Any]
    identity: str

    def place(self) -> AbstractContextManager[Place]:
        """Where learners run in this process (``InvalidInput`` on entering: their walls are others here)."""
        return _as_isolated(self.isolation, self.learners)

    def plan(self, place: Place) -> Plan:
        """The plan, of learners in their place.

        Raises:
            InvalidInput: it is another one here: a file or a package differs between the machines.
        """
        family = is_family(self.model)
        workload = build_workload(
            self.model,
            () if family else self.tasks,
            self.horizons,
            self.seeds,
            self.problems,
            self.load,
            self.budgets,
            self.value or None,
            self.limits[2],
        )
        contracts = tuple(map(Contract.parse, self.grants))
        learners = learners_of(self.learners, place.learner)
        plan = Plan(workload, contracts, learners, self.budgets, self.seeds, self.beta, self.load)
        if (here := _identity(plan)) != self.identity:
            raise InvalidInput(
                f"a worker makes another comparison of the same settings ({here}, expected "
                f"{self.identity}): files, packages or versions differ between it and this process"
            )
        return plan


def recipe_of(plan: Plan, how: Execution) -> Recipe:
    """The recipe of a plan.

    Raises:
        InvalidInput: a part of it was given as an object, or its generator answers many at once by itself, or
            judges are to have processes of their own.
    """
    work = plan.workload
    objects = [*work.objects, *(x.label for x in plan.learners if x.is_object)]
    if objects:
        raise InvalidInput(
            f"workers rebuild everything from its name; given as objects: {', '.join(objects)}"
        )
    if isinstance(work.generator, ConcurrentGenerator):
        raise InvalidInput(f"{work.model} answers many at once by itself: concurrency, not workers")
    if how.judge_workers:
        raise InvalidInput("judges are called by the workers: leave judge_workers out")
    return Recipe(
        work.model,
        work.tasks,
        tuple(h for h in work.horizons if h),
        plan.seeds,
        work.count,
        plan.load,
        dict(plan.budgets),
        work.value,
        tuple(map(str, plan.grants)),
        tuple(x.spec for x in plan.learners),
        plan.beta,
        (how.concurrency, how.attempt_timeout, how.judge_timeout),
        how.transcripts,
        how.place.config.get("isolation", {}),
        _identity(plan),
    )


def _identity(plan: Plan) -> str:
    told = json.dumps(plan.config(), sort_keys=True, default=str)
    return hashlib.blake2b(told.encode("utf-8", "backslashreplace"), digest_size=8).hexdigest()


class Made(NamedTuple):
    """An attempt that a worker has made.

    Attributes:
        lines: its messages since those that were recorded, where they are wanted.
        physical: what the generator computed for its batch; of the first of a batch alone.
    """

    attempt: Attempt
    lines: list[Line]
    physical: Physical


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Makes attempts in the workers of a pool, as ``make_attempts`` does here.

    Args:
        pool: its workers have begun with a ``JobMaker``.
        workers: most of them.
        told: job → what a worker makes it from.
    """

    pool: Pool
    workers: int
    told: Callable[[Job], Any]

    def __call__(
        self, jobs: Sequence[Job], generator: Generator, how: Execution, folder: RunFolder
    ) -> Mapping[str, Attempt]:
        """Make the attempts that are left, and record each as its batch is done; all, by key.

        After ``how.seconds`` no batch is begun, and none after ``JUDGE_DOWN`` failures of the judge in a row.
        """
        left = folder.left(jobs)
        folder.texts.know(jobs, generator)
        folder.begin_usage()
        started, physical, failed_judges = time.perf_counter(), Physical(), 0

        def batches() -> Iterator[Batch]:
            size = max(1, min(how.concurrency, len(left) // (_PARTS * self.workers)))
            for at in range(0, len(left), size):
                over = how.seconds is not None and time.perf_counter() - started >= how.seconds
                if over or failed_judges >= JUDGE_DOWN:
                    return
                yield [
                    (job.key, (self.told(job), folder.messages.recorded(job.key)))
                    for job in left[at : at + size]
                ]

        for done in self.pool.results(batches()):
            made = done.value
            if done.lost:
                made = _lost(next(job for job in left if job.key == done.key), done.lost)
            for line in made.lines:
                folder.messages.append(done.key, line)
            folder.messages.finish(done.key)
            folder.record(made.attempt, done.key)
            physical += made.physical
            folder.note_usage(physical, time.perf_counter() - started)
            error = made.attempt.error
            failed_judges = failed_judges + 1 if error is not None and error.who == "task" else 0
            how.on_attempt(made.attempt)
            folder.on_round(0)
        folder.flush()
        return folder.attempts


def _lost(job: Job, how: str) -> Made:
    """What is known of an attempt whose workers died: nothing, its cost neither."""
    attempt = Attempt.lost(job, Cost(), Failure("WorkerDied", how))
    return Made(attempt, [], Physical())


# ---- in a worker ---------------------------------------------------------------------------------


def told(job: Job) -> tuple[str, str, Sampling]:
    """What ``Plan.finder`` finds a job by."""
    assert job.contract.sampling is not None
    return job.episode.problem.id, job.learner.label, job.contract.sampling


def begin(recipe: Recipe) -> Callable[[], Work]:
    """What a pool of the recipe's workers begins with."""
    return partial(_begin, recipe)


def _begin(recipe: Recipe) -> Work:
    walls = ExitStack()  # they stand until this process ends
    place = walls.enter_context(recipe.place())
    plan = recipe.plan(place)
    generator = plan.workload.generator
    return JobMaker(generator, plan.finder(), recipe.limits, recipe.transcripts, place, walls).work


@contextmanager
def _as_isolated(told: dict[str, Any], learners: Sequence[str]) -> Iterator[Place]:
    """A place with the walls that the configuration tells of."""
    with place_of(told.get("kind", "none"), learners, lambda said: None) as place:
        if place.config.get("isolation", {}) != told:
            raise InvalidInput(
                f"learners have other walls in a worker ({place.config}) than where the run was begun ({told})"
            )
        yield place


@dataclass(frozen=True, slots=True)
class JobMaker:
    """Makes attempts in a worker.

    Args:
        generator: what is behind the door.
        job: what ``Elsewhere.told`` tells → the job.
        limits: concurrency, and seconds of attempts and judges.
        transcripts: messages are wanted.
        place: where learners run.
        walls: what stands around them, while this is there.
    """

    generator: Generator
    job: Callable[[Any], Job]
    limits: tuple[int, float | None, float | None]
    transcripts: bool
    place: Place = field(default_factory=Place)
    walls: ExitStack = field(default_factory=ExitStack)

    def work(self, payloads: Sequence[tuple[Any, list[Line]]]) -> list[Made]:
        """The attempts, in their order."""
        jobs = [self.job(told) for told, _ in payloads]
        recorded = {job.key: lines for job, (_, lines) in zip(jobs, payloads, strict=True)}
        log, found, before = _Lines(recorded), dict[str, Attempt](), self.generator.physical()
        concurrency, attempt_timeout, judge_timeout = self.limits
        execute(
            jobs,
            self.generator,
            concurrency=concurrency,
            on_attempt=lambda attempt: found.update({attempt.key: attempt}),
            log=log if self.transcripts or any(log.before.values()) else None,
            attempt_timeout=attempt_timeout,
            judge_timeout=judge_timeout,
            stage=self.place.stage(attempt_timeout),
        )
        used = [self.generator.physical() - before, *[Physical()] * (len(payloads) - 1)]
        return [
            Made(found[job.key], log.after.get(job.key, []), mine)
            for job, mine in zip(jobs, used, strict=True)
        ]


@dataclass(slots=True)
class _Lines:
    """Messages in memory: they are written by who keeps the folder."""

    before: dict[str, list[Line]]
    after: dict[str, list[Line]] = field(default_factory=dict[str, list[Line]])

    def recorded(self, key: str) -> list[Line]:
        return self.before[key]

    def append(self, key: str, line: Line) -> None:
        self.after.setdefault(key, []).append(line)

    def finish(self, key: str) -> None:
        """It is finished where the folder is."""
