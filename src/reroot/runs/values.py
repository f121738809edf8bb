"""Value functions for problems that have none of their own, or another: ``--value prm:FOLDER``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import overload

from ..errors import InvalidInput
from ..generators.reward_models import RewardModel
from ..tasks.base import Problem, Task, ValueFunction
from ..tasks.files import OwnTask
from ..tasks.registry import get_task
from .inputs import name_of, problems_of

Values = RewardModel | Callable[[Problem], ValueFunction]
"""What gives each problem its value function."""


@dataclass(frozen=True, slots=True)
class ValuedTask:
    """A task whose problems have another value function.

    Attributes:
        task: makes the problems.
        values: gives each its value function.
    """

    task: Task
    values: Values

    @property
    def name(self) -> str:
        """The task's."""
        return self.task.name

    def problems(self, horizon: int, count: int, seed: int) -> list[Problem]:
        """The task's problems, valued."""
        return valued(self.task.problems(horizon, count, seed), self.values)


@overload
def with_value(of: Sequence[Problem], value: Values | str) -> list[Problem]: ...
@overload
def with_value(of: Task | str, value: Values | str) -> ValuedTask: ...
def with_value(
    of: Task | str | Sequence[Problem], value: Values | str
) -> ValuedTask | list[Problem]:
    """Problems, or a task, whose value oracle (``+value``) is ``value``.

    Args:
        of: a list of problems; or a task, as an object or by name.
        value: ``prm:FOLDER[:key=value,…]`` (see ``reroot.generators.RewardModel``), a ``RewardModel``,
            or a function that gives each problem its value function.

    Raises:
        InvalidInput: no such model, or a problem that it cannot value.
    """
    values = values_of(value)
    if isinstance(of, str):
        return ValuedTask(get_task(of), values)
    if isinstance(of, Sequence):
        return valued(problems_of(of), values)
    return ValuedTask(OwnTask.of(name_of(of), of, {}), values)


def values_of(value: Values | str) -> Values:
    """``value``, loaded where it is text (``InvalidInput`` for what gives no value functions)."""
    if isinstance(value, str):
        return RewardModel.read(value)
    if not callable(value):
        raise InvalidInput(
            f"a value is prm:FOLDER, a RewardModel or a function of a problem, got {value!r}"
        )
    return value


def valued(problems: Sequence[Problem], values: Values) -> list[Problem]:
    """The problems with the value functions that ``values`` gives them."""
    return [replace(problem, value=values(problem)) for problem in problems]
