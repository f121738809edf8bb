"""What learners share: checks of their parameters, made when they are bound, and drawing what the
budget allows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress

from ..access.learner import Params
from ..access.session import Session
from ..contract import Oracle
from ..errors import BudgetExceeded, InvalidInput
from ..types import Prefix

JUDGES = {"reward": Oracle.REWARD, "verifier": Oracle.VERIFIER}
_PLENTY = 1 << 30
SPENT_ON = {"reward": "rewards", "verifier": "verifications"}
"""The currency in which a judge is paid."""


def int_param(params: Params, *names: str, least: int = 1, optional: bool = False) -> None:
    """Refuse parameters that are not integers >= ``least`` (``InvalidInput``)."""
    for name in names:
        value = params[name]
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= least
        if not whole and not (optional and value is None):
            none = " or None" if optional else ""
            raise InvalidInput(f"{name} must be an integer >= {least}{none}, got {value!r}")


def float_param(
    params: Params, name: str, low: float, high: float, *, optional: bool = False
) -> None:
    """Refuse a parameter that is not a number strictly between the bounds (``InvalidInput``)."""
    value = params[name]
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low < value < high:
        none = " or None" if optional else ""
        raise InvalidInput(
            f"{name} must lie strictly between {low} and {high}{none}, got {value!r}"
        )


def growth_param(params: Params) -> None:
    """Refuse a batch growth that is not a finite number >= 1 (``InvalidInput``)."""
    value = params["growth"]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 1 <= value < math.inf:
        raise InvalidInput(f"growth must be a finite number >= 1, got {value!r}")


def bool_param(params: Params, name: str) -> None:
    """Refuse a parameter that is not ``True`` or ``False`` (``InvalidInput``)."""
    if not isinstance(params[name], bool):
        raise InvalidInput(f"{name} must be True or False, got {params[name]!r}")


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
    return max(0, wanted)


def unbounded(session: Session, **each: int) -> bool:
    """Whether no budget limits what costs ``each``."""
    paid = _with_calls(each)
    return all(session.remaining(c) is None for c, amount in paid.items() if amount)


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
