"""What learners share: checks of their parameters, made when they are bound, and drawing what the
budget allows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from fractions import Fraction
from typing import Any, NamedTuple

from ..access.learner import Params, Requirement
from ..access.session import Session
from ..contract import Contract, Oracle
from ..errors import BudgetExceeded, InvalidInput
from ..types import Cost, Prefix

JUDGES = {"reward": Oracle.REWARD, "verifier": Oracle.VERIFIER}
_PLENTY = 1 << 30
SPENT_ON = {"reward": "rewards", "verifier": "verifications"}
"""The currency in which a judge is paid."""


class Rule(NamedTuple):
    """What a parameter must be, or do: in words, and as a test."""

    words: str
    holds: Callable[[Any], bool]

    @property
    def or_none(self) -> Rule:
        """The same, where the parameter may be left out."""
        return Rule(f"{self.words} or None", lambda value: value is None or self.holds(value))


def integer(least: int) -> Rule:
    """An integer >= ``least``."""
    words = f"be an integer >= {least}"
    return Rule(words, lambda x: isinstance(x, int) and not isinstance(x, bool) and x >= least)


def between(low: float, high: float) -> Rule:
    """A number strictly between the bounds."""
    words = f"lie strictly between {low} and {high}"
    return Rule(words, lambda x: _is_number(x) and low < x < high)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


COUNT = integer(1)
POSITIVE = between(0.0, math.inf)
REAL = between(-math.inf, math.inf)
FLAG = Rule("be True or False", lambda x: isinstance(x, bool))
GROWTH = Rule("be a finite number >= 1", lambda x: _is_number(x) and 1 <= x < math.inf)
"""Of batches: each is so many times the one before."""


def check(params: Params, **rules: Rule) -> None:
    """Refuse parameters that are not as their rules say (``InvalidInput``)."""
    for name, rule in rules.items():
        if not rule.holds(params[name]):
            raise InvalidInput(f"{name} must {rule.words}, got {params[name]!r}")


def checked(contract: Requirement, **rules: Rule) -> Requirement:
    """A contract, or a function of the parameters that gives one, once they are as their rules say."""

    def requires(params: Params) -> Contract | str:
        check(params, **rules)
        return contract(params) if callable(contract) else contract

    return requires


def oracle_of(params: Params) -> Oracle:
    """The oracle named by the parameter ``oracle``: reward or verifier (else ``InvalidInput``)."""
    name = params["oracle"]
    if name not in JUDGES:
        raise InvalidInput(f"oracle must be 'reward' or 'verifier', got {name!r}")
    return JUDGES[name]


def affordable(session: Session, wanted: int, **each: int) -> int:
    """How many of ``wanted`` units fit when one costs at most ``each`` (currency → amount).

    Rollouts and queries are calls too, where calls are limited.
    """
    for currency, amount in _with_calls(each).items():
        left = session.remaining(currency)
        if left is not None and amount:
            wanted = min(wanted, left // amount)
    if (unit := _usd(session, each)) and (left := session.remaining("usd")) is not None:
        once = _usd(session, {"prefill": len(session.prompt)})  # a query submits its prompt once
        wanted = min(wanted, (left - once) // unit)
    return max(0, wanted)


def unbounded(session: Session, **each: int) -> bool:
    """Whether no budget limits what costs ``each``."""
    paid = {**_with_calls(each), "usd": _usd(session, each)}
    return all(session.remaining(c) is None for c, amount in paid.items() if amount)


def _usd(session: Session, each: Mapping[str, int]) -> Fraction:
    """US dollars that the tokens of a unit cost; 0 without prices."""
    tokens, prefill = each.get("tokens", 0), each.get("prefill", 0)
    prices = session.prices
    return prices.usd(Cost(tokens=tokens, prefill=prefill)) if prices else Fraction(0)


def _with_calls(each: Mapping[str, int]) -> dict[str, int]:
    return {**each, "calls": each.get("rollouts", 0) + each.get("queries", 0)}


def as_many(session: Session, wanted: int | None, name: str, **each: int) -> int:
    """``wanted``, or without it as many units as the budget allows, at ``each`` a unit; at least 1.

    Raises:
        InvalidInput: neither ``wanted`` nor a budget in one of the currencies says how many.
    """
    if wanted is not None:
        return wanted
    if unbounded(session, **each):
        raise InvalidInput(f"give {name}, or a budget in {' or '.join(each)} that says how many")
    return max(1, affordable(session, _PLENTY, **each))


async def collect(session: Session, start: Prefix, n: int) -> list[Prefix]:
    """``n`` outputs drawn from ``start``, or as many as the budget allows."""
    draw = "queries" if len(start) else "rollouts"
    each = {draw: 1, "tokens": session.horizon - len(start)}
    outputs: list[Prefix] = []
    with suppress(BudgetExceeded):
        while fits := affordable(session, n - len(outputs), **each):
            outputs += (await session.continuations(start, fits)).outputs()
    return outputs


async def finished(session: Session, prefix: Prefix) -> Prefix:
    """An output below ``prefix``, or the prefix itself where the budget does not allow one."""
    if session.is_complete(prefix):
        return prefix
    return (await collect(session, prefix, 1) or [prefix])[0]


async def best_rewarded(session: Session, outputs: list[Prefix]) -> Prefix:
    """The output with the highest outcome reward, the first on ties, of those the budget can judge."""
    rewards = await session.rewards(outputs[: affordable(session, len(outputs), rewards=1)])
    return outputs[rewards.index(max(rewards))] if rewards else outputs[0]
