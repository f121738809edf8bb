"""A user's tasks: a Python file with a function.

``path/to/file.py:function`` (``file.py`` alone: the function ``problems``) is called by keyword as
``function(horizon=…, count=…, seed=…)`` and returns a list of at most ``count`` ``Problem``. It may
be an object whose method ``problems`` does that. Settings (``file.py:function:digits=3``) are passed
as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .. import specs
from ..checks import check_int
from ..errors import InvalidInput
from .base import Problem
from .lines import content_of


@dataclass(frozen=True, slots=True)
class OwnTask:
    """Problems made by a user's function, checked.

    Attributes:
        name: the specification.
        function: called by keyword with horizon, count, seed and the settings.
        settings: further keyword arguments.
    """

    name: str
    function: Callable[..., Any]
    settings: Mapping[str, specs.Value] = field(default_factory=dict[str, specs.Value])

    @classmethod
    def of(cls, name: str, found: Any, settings: Mapping[str, specs.Value]) -> OwnTask:
        """The task that ``found`` is: a function, or an object with a method ``problems``.

        Raises:
            InvalidInput: it is neither.
        """
        function = getattr(found, "problems", found)
        if not callable(function) or isinstance(found, type):
            raise InvalidInput(
                f"task {name!r} must be a function (horizon, count, seed) or have a method "
                f"'problems', got {found!r}"
            )
        return cls(name, function, settings)

    def problems(self, horizon: int, count: int, seed: int) -> list[Problem]:
        """What the function returns, checked; problems of the same content are one cluster.

        Raises:
            InvalidInput: the function raises, or returns something else than a list of at least 1
                and at most ``count`` problems with distinct ids.
        """
        asked = {
            "horizon": check_int("horizon", horizon),
            "count": check_int("count", count, 1),
            "seed": check_int("seed", seed),
        }
        at = f"task {self.name!r}"
        made = specs.call(at, self.function, {**asked, **self.settings})
        if not isinstance(made, (list, tuple)):
            raise InvalidInput(
                f"{at} must return a list of Problem, got {type(made).__name__}: {made!r}"
            )
        for index, problem in enumerate(made):
            if not isinstance(problem, Problem):
                raise InvalidInput(
                    f"{at} must return a list of Problem; item {index} is {problem!r}"
                )
        if not 1 <= len(made) <= count:
            raise InvalidInput(f"{at} must return 1…{count} problems (count), got {len(made)}")
        distinct_ids(made, at)
        return [replace(problem, cluster=content_of(problem)) for problem in made]


def distinct_ids(problems: Sequence[Problem], at: str) -> None:
    """Refuse two problems of one id (``InvalidInput``)."""
    seen: set[str] = set()
    for problem in problems:
        if problem.id in seen:
            raise InvalidInput(f"{at}: two problems have the id {problem.id!r}")
        seen.add(problem.id)
