"""What users hand to runs and comparisons: taken as what it must be, or refused with what it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .. import specs
from ..errors import InvalidInput, nearest
from ..generators.base import Generator
from ..tasks.base import Problem
from ..tasks.files import distinct_ids
from ..tasks.lines import content_of
from ..types import Budget
from ..types.account import share


def budget_of(budget: Budget | str | None) -> Budget:
    """A budget, or one written as ``tokens=5000,calls=20``; ``None``: unlimited.

    Raises:
        InvalidInput: something else, an unknown currency, or an amount that is no integer >= 0 (US dollars: no number).
    """
    if budget is None or isinstance(budget, Budget):
        return budget or Budget()
    if not isinstance(budget, str):
        raise InvalidInput(
            f"a budget is a Budget, None, or text as in 'tokens=5000', got {budget!r}"
        )
    limits: dict[str, Any] = specs.parse_settings(budget, "budget")
    for name in limits:
        if name not in Budget.__dataclass_fields__:
            known = list(Budget.__dataclass_fields__)
            raise InvalidInput(f"a budget limits no {name!r}.{nearest(name, known)}")
    return Budget(**limits)


def check_shares(budgets: Mapping[str, float], count: int) -> None:
    """Refuse budgets of a cell of which ``count`` problems have no share (``InvalidInput``)."""
    for currency, amount in budgets.items():
        if (not share(amount, count)) if currency == "usd" else amount < count:
            raise InvalidInput(
                f"budget_{currency}={amount} leaves no {currency.removesuffix('s')} for each "
                f"of {count} problems"
            )


def generator_of(generator: Any, what: str = "generator") -> Generator:
    """``generator``, if it is one (``InvalidInput`` says what it lacks)."""
    if isinstance(generator, Generator) and not isinstance(generator, type):
        return generator
    if isinstance(generator, type):
        raise InvalidInput(f"{what} is the class {generator.__name__}; make an instance of it")
    names = [n for n in vars(Generator) if not n.startswith("_")]
    lacking = [n for n in names if not hasattr(generator, n)]
    raise InvalidInput(f"{what} must be a Generator; {generator!r} has no {', '.join(lacking)}")


@dataclass(frozen=True, slots=True)
class Given:
    """Problems that are there already, as a task; its horizons are theirs."""

    all: list[Problem]
    name: str = "problems"

    def problems(self, horizon: int, count: int, seed: int) -> list[Problem]:
        """Those of this horizon."""
        return [replace(p, cluster=content_of(p)) for p in self.all if p.horizon == horizon]


def name_of(task: Any) -> str:
    """The name of a task that is given as an object: its own, a function's, or that of its class."""
    name = getattr(task, "name", None) or getattr(task, "__name__", None)
    return name if isinstance(name, str) else type(task).__name__


def problems_of(problems: Any) -> list[Problem]:
    """A sequence of problems with distinct ids, else ``InvalidInput``."""
    if isinstance(problems, (str, bytes)) or not isinstance(problems, Sequence):
        raise InvalidInput(
            f"problems must be a list of Problem (or a number of them), got {problems!r}"
        )
    for index, problem in enumerate(problems):
        if not isinstance(problem, Problem):
            raise InvalidInput(f"problems must be a list of Problem; item {index} is {problem!r}")
    distinct_ids(problems, "problems")
    return list(problems)
