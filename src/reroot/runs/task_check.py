"""``reroot check``: the self-check of a task alone, with or without the model that is meant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from ..access.episode import bind
from ..checks import check_int
from ..generators.base import Generator
from ..tasks.base import Problem, Task
from ..tasks.data.task import DataTask
from ..tasks.registry import get_task
from ..tasks.self_check import Fault, self_check
from .models import Load, load_text_generator

HORIZON = 4
"""Size of problems of tasks that have a knob, unless it is said."""
COUNT = 32
"""Problems of tasks that make as many as they are asked for."""


@dataclass(frozen=True, slots=True)
class TaskCheck:
    """What a self-check has found.

    Attributes:
        task: the specification.
        notes: what was recognized and decided as the task was read.
        checked: problems looked at.
        faults: what is wrong with which.
        lengths: whether lengths were checked, for which a model is needed.
    """

    task: str
    notes: tuple[str, ...]
    checked: int
    faults: tuple[Fault, ...]
    lengths: bool

    @property
    def bad(self) -> tuple[str, ...]:
        """Ids of the problems that cannot be used."""
        return tuple(dict.fromkeys(f.problem for f in self.faults if f.bad))


def check(
    task: str | Task,
    *,
    model: str | Generator | None = None,
    against: str | Task | None = None,
    horizon: int | None = None,
    problems: int | None = None,
    seed: int = 0,
    judge_timeout: float | None = None,
    load: Load | None = None,
    on_start: Callable[[int, int], None] | None = None,
    on_problem: Callable[[str], None] | None = None,
) -> TaskCheck:
    """Check a task before any token is paid: every problem of a data set, some of others.

    Args:
        task: the task or its name.
        model: whose tokens prompts and outputs must fit; ``None``: lengths are not checked.
        against: a task to evaluate on, whose prompts must not be in this one.
        horizon: size of problems, where there is a knob (default 4).
        problems: at most how many (default: all of a data set, 32 of other tasks).
        seed: of the problems.
        judge_timeout: seconds that one call of a judge may take.
        load: how to load the model.
        on_start, on_problem: are told the number of problems, and when one is done.

    Raises:
        InvalidInput: the task, the model or a value is not what is expected.
    """
    made = get_task(task) if isinstance(task, str) else task
    found = _problems(made, horizon, problems, seed)
    generator = load_text_generator(model, load or Load(), {}) if isinstance(model, str) else model
    others: Sequence[Problem] = ()
    if against is not None:
        other = get_task(against) if isinstance(against, str) else against
        others = _problems(other, horizon, None, seed)
    if on_start is not None:
        on_start(len(found), 0)

    def told():
        for problem in found:
            yield problem
            if on_problem is not None:
                on_problem("")

    fit = None if generator is None else partial(bind, generator=generator)
    faults = tuple(self_check(told(), fit=fit, against=others, limit=judge_timeout))
    notes = tuple(getattr(made, "notes", ()))
    return TaskCheck(made.name, notes, len(found), faults, generator is not None)


def _problems(task: Task, horizon: int | None, count: int | None, seed: int) -> Sequence[Problem]:
    data = isinstance(task, DataTask)
    count = (len(task.kept) if data else COUNT) if count is None else count
    return task.problems(
        HORIZON if horizon is None else horizon, check_int("problems", count, 1), seed
    )
