"""Attempts of a diagnosis in other processes, each with the generator and the problems rebuilt from their names."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from ...access.attempt import Job
from ...access.episode import Episode, bind
from ...contract import Contract
from ...errors import InvalidInput
from ...generators.base import ConcurrentGenerator
from ...types import Budget
from ..attempts import Execution, Maker, make_attempts
from ..elsewhere import Elsewhere, JobMaker
from ..executors.base import Executor, Work
from ..models import Load, is_family
from ..workload import Workload, build_workload


@dataclass(frozen=True, slots=True)
class Recipe:
    """What another process makes the same problems from; ``digest`` is theirs."""

    model: str
    tasks: tuple[str, ...]
    horizons: tuple[int, ...]
    count: int
    load: Load
    limits: tuple[int, float | None, float | None]
    digest: str

    def workload(self) -> Workload:
        """The generator and the problems.

        Raises:
            InvalidInput: they are others here: a file or a package differs between the machines.
        """
        found = build_workload(
            self.model, self.tasks, self.horizons, 1, self.count, self.load, checked=False
        )
        if (here := digest_of(found)) != self.digest:
            raise InvalidInput(
                f"a worker makes other problems of the same settings ({here}, expected {self.digest}): "
                "files, packages or versions differ between it and this process"
            )
        return found


class Asked(NamedTuple):
    """A job as values: which problem in which form, and which learner of reroot."""

    key: str
    problem: str
    max_tokens: int
    demonstration: Any
    learner: tuple[str, str, Mapping[str, Any]]
    contract: str
    tokens: int
    seed: int


def asked(job: Job) -> Asked:
    """A job of an examination, for a worker."""
    problem, learner, tokens = job.episode.problem, job.learner, job.budget.tokens
    assert tokens is not None
    given = {name: learner.params[name] for name in learner.explicit}
    return Asked(
        job.key,
        problem.id,
        problem.max_tokens,
        problem.demonstration,
        (learner.function.__module__, learner.name, given),
        str(job.contract),
        tokens,
        job.seed,
    )


def digest_of(work: Workload) -> str:
    """The digest of the problems."""
    return work.digest()


@contextlib.contextmanager
def maker_of(
    executor: Executor | None, work: Workload, count: int | None, load: Load, how: Execution
) -> Iterator[Maker]:
    """Makes attempts in this process, or in the workers of an executor.

    Raises:
        InvalidInput: a part of it was given as an object, or its generator answers many at once by itself, or
            judges are to have processes of their own.
    """
    if executor is None or executor.here:
        yield make_attempts
        return
    if work.objects or count is None:
        objects = ", ".join(work.objects) or "problems"
        raise InvalidInput(f"workers rebuild everything from its name; given as objects: {objects}")
    if isinstance(work.generator, ConcurrentGenerator):
        raise InvalidInput(f"{work.model} answers many at once by itself: concurrency, not workers")
    if how.judge_workers:
        raise InvalidInput("judges are called by the workers: leave judge_workers out")
    recipe = Recipe(
        work.model,
        () if is_family(work.model) else work.tasks,
        tuple(h for h in work.horizons if h),
        count,
        load,
        (how.concurrency, how.attempt_timeout, how.judge_timeout),
        digest_of(work),
    )
    with executor.pool(partial(_begin, recipe)) as pool:
        yield Elsewhere(pool, executor.workers, asked)


# ---- in a worker ---------------------------------------------------------------------------------


def _begin(recipe: Recipe) -> Work:
    work = recipe.workload()
    episodes = {e.problem.id: e for cell in work.cells for e in cell.episodes}
    return JobMaker(work.generator, partial(_job, episodes), recipe.limits, False).work


def _job(episodes: Mapping[str, Episode], told: Asked) -> Job:
    episode = episodes[told.problem]
    problem = episode.problem
    if (problem.max_tokens, problem.demonstration) != (told.max_tokens, told.demonstration):
        changed = {"max_tokens": told.max_tokens, "demonstration": told.demonstration}
        episode = bind(replace(problem, **changed), episode.generator)
    module, name, params = told.learner
    factory: Callable[..., Any] = getattr(importlib.import_module(module), name)
    contract = Contract.parse(told.contract)
    budget = Budget(tokens=told.tokens)
    return Job(told.key, factory(**params), episode, contract, budget, told.seed)
