"""What a learner is: an async function over a session, with the contract it requires."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..contract import Contract
from ..errors import InvalidInput, nearest
from ..types import Finding, Prefix

if TYPE_CHECKING:
    from .session import Session

LearnerFunction = Callable[..., Awaitable[Prefix | Finding | None]]
Requirement = Contract | Callable[[Mapping[str, Any]], Contract]


@dataclass(frozen=True, slots=True)
class BoundLearner:
    """A learner with its parameters filled in, ready to be run on sessions.

    Attributes:
        name: name of the function.
        params: every keyword argument, defaults included.
        requires: the weakest contract it needs.
        explicit: the parameters that were given, the others being defaults.
    """

    name: str
    params: Mapping[str, Any]
    requires: Contract
    function: LearnerFunction
    explicit: tuple[str, ...] = ()

    def start(self, session: Session) -> Awaitable[Prefix | Finding | None]:
        """The coroutine of one attempt."""
        return self.function(session, **self.params)

    @property
    def label(self) -> str:
        """``name(param=value, …)`` with the parameters that were given."""
        shown = ", ".join(f"{name}={self.params[name]}" for name in self.explicit)
        return f"{self.name}({shown})" if shown else self.name

    @property
    def spec(self) -> str:
        """The text from which ``get_learner`` makes this learner again."""
        shown = ",".join(f"{name}={self.params[name]}" for name in self.explicit)
        return f"{self.name}:{shown}" if shown else self.name

    def __str__(self) -> str:
        return self.label


class LearnerFactory:
    """Made by ``@learner``: called with parameters it gives a ``BoundLearner``."""

    def __init__(self, function: LearnerFunction, requires: Requirement) -> None:
        if not inspect.iscoroutinefunction(function):
            raise InvalidInput(f"a learner is an 'async def' over a session, got {function!r}")
        parameters = list(inspect.signature(function).parameters.values())
        if not parameters:
            raise InvalidInput(f"learner {function.__name__!r} must take a session")
        self.name = function.__name__
        self.__doc__ = function.__doc__
        self.function = function
        self._requires = requires
        self.parameters = {p.name: p for p in parameters[1:]}

    @property
    def summary(self) -> str:
        """First line of the docstring, without marks of code."""
        return (self.__doc__ or "").strip().partition("\n")[0].replace("``", "")

    def __call__(self, **params: Any) -> BoundLearner:
        """Fill in the parameters.

        Raises:
            InvalidInput: an unknown parameter, or one without a default is missing.
        """
        for name in params:
            if name not in self.parameters:
                raise InvalidInput(
                    f"learner {self.name!r} has no parameter {name!r}.{nearest(name, self.parameters)}"
                )
        filled = dict(params)
        for name, parameter in self.parameters.items():
            if name in filled:
                continue
            if parameter.default is inspect.Parameter.empty:
                raise InvalidInput(f"learner {self.name!r} needs the parameter {name!r}")
            filled[name] = parameter.default
        ordered = {name: filled[name] for name in self.parameters}
        requires = (
            self._requires if isinstance(self._requires, Contract) else self._requires(ordered)
        )
        explicit = tuple(name for name in ordered if name in params)
        return BoundLearner(self.name, ordered, requires, self.function, explicit)

    def __repr__(self) -> str:
        return f"<learner {self.name}({', '.join(self.parameters)})>"


def learner(*, requires: Requirement) -> Callable[[LearnerFunction], LearnerFactory]:
    """Turn an ``async def learner(session, *, …) -> Prefix | Finding | None`` into a learner.

    Args:
        requires: the weakest contract it needs, or a function of its parameters giving one.

    Example::

        @learner(requires=Contract(Control.ROOT, Report.SAMPLE))
        async def one_rollout(session):
            return (await session.rollouts(1)).outputs()[0]
    """
    if not isinstance(requires, Contract) and not callable(requires):
        raise InvalidInput(
            f"requires must be a Contract or a function giving one, got {requires!r}"
        )
    return lambda function: LearnerFactory(function, requires)
