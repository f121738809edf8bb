"""What a learner is: an async function over a session, with the contract it requires."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec

from ..contract import Contract
from ..errors import InvalidInput
from ..specs import Spec, check_names, fingerprint
from ..types import Finding, Prefix

if TYPE_CHECKING:
    from .session import Session

P = ParamSpec("P")
Answer = Awaitable[Prefix | Finding | None]
"""What a learner function gives: an output, a finding, or nothing."""
Params = Mapping[str, Any]
"""Every parameter of a learner by name, defaults included."""
Requirement = Contract | str | Callable[[Params], Contract | str]


@dataclass(frozen=True, slots=True)
class BoundLearner:
    """A learner with its parameters filled in, ready to be run on sessions.

    Attributes:
        name: name of the function.
        params: every keyword argument, defaults included.
        requires: the weakest contract it needs.
        explicit: the parameters that were given, the others being defaults.
        origin: the name that stands for it in a spec.
        code: fingerprint of its code, where ``function`` stands for one of another process.
    """

    name: str
    params: Mapping[str, Any]
    requires: Contract
    function: Callable[..., Answer]
    explicit: tuple[str, ...] = ()
    origin: str = ""
    code: str = ""

    def start(self, session: Session) -> Answer:
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
        given = {name: self.params[name] for name in self.explicit}
        return str(Spec(self.origin or self.name, given))

    @property
    def is_object(self) -> bool:
        """Whether no spec names it: it is neither reroot's own nor found by name."""
        return not self.origin and self.function.__module__.partition(".")[0] != "reroot"

    def identity(self) -> dict[str, Any]:
        """JSON-able: same identity, same learner; its code where it is not reroot's own."""
        told = {"name": self.name, "params": {k: str(v) for k, v in self.params.items()}}
        code = self.code or fingerprint(self.function)
        return {**told, "code": code} if code else told

    def __str__(self) -> str:
        return self.label


class LearnerFactory(Generic[P]):
    """Made by ``@learner``: called with parameters it gives a ``BoundLearner``."""

    def __init__(
        self,
        function: Callable[Concatenate[Session, P], Answer],
        requires: Requirement,
        origin: str = "",
    ) -> None:
        if not inspect.iscoroutinefunction(function):
            raise InvalidInput(f"a learner is an 'async def' over a session, got {function!r}")
        parameters = list(inspect.signature(function).parameters.values())
        if not parameters:
            raise InvalidInput(f"learner {function.__name__!r} must take a session")
        self.name = function.__name__
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__
        self.function = function
        self.origin = origin
        self._requires = requires
        self.parameters = {p.name: p for p in parameters[1:]}

    @property
    def summary(self) -> str:
        """First line of the docstring, without marks of code."""
        return (self.__doc__ or "").strip().partition("\n")[0].replace("``", "")

    def named(self, origin: str) -> LearnerFactory[P]:
        """The same learner, whose specs say ``origin`` for it."""
        return LearnerFactory(self.function, self._requires, origin)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> BoundLearner:
        """Fill in the parameters, by name.

        Raises:
            InvalidInput: an unknown parameter, one without a default is missing, or one without
                its name.
        """
        what = f"learner {self.name!r}"
        if args:
            raise InvalidInput(f"{what} takes parameters by name, got {args[0]!r}")
        check_names(what, self.parameters.values(), kwargs)
        params: dict[str, Any] = {
            name: kwargs.get(name, parameter.default) for name, parameter in self.parameters.items()
        }
        requires = self._requires(params) if callable(self._requires) else self._requires
        explicit = tuple(name for name in params if name in kwargs)
        return BoundLearner(
            self.name, params, Contract.parse(requires), self.function, explicit, self.origin
        )

    def __repr__(self) -> str:
        return f"<learner {self.name}({', '.join(self.parameters)})>"


def learner(
    *, requires: Requirement
) -> Callable[[Callable[Concatenate[Session, P], Answer]], LearnerFactory[P]]:
    """Turn an ``async def learner(session, *, …) -> Prefix | Finding | None`` into a learner.

    Args:
        requires: the weakest contract it needs, as an object or as text, or a function of its
            parameters giving one.

    Raises:
        InvalidInput: no contract, or the function is no ``async def`` over a session.

    Example::

        @learner(requires="root/sample")
        async def one_rollout(session):
            return (await session.rollouts(1)).outputs()[0]
    """
    weakest = requires if callable(requires) else Contract.parse(requires)
    return lambda function: LearnerFactory(function, weakest)
