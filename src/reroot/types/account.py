"""The account: what a session is charged, what it may spend, what tokens cost, and what was really computed.

US dollars are no currency of ``Cost``: at given prices they follow from its prompt and generated tokens, as
calls follow from rollouts and queries. So they are limited by the same meter, in exact fractions.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple, cast

from ..checks import check_float
from ..errors import InvalidInput

_PER = 10**6


class Cost(NamedTuple):
    """Logical cost in every currency: what the interface charges, whatever the backend reuses.

    A tuple, as it is made several times per request; ``+`` and ``-`` work currency by currency.

    Attributes:
        rollouts: complete outputs drawn from the empty prefix.
        queries: prefix queries: draws, top-k lists, laws or scored tokens at a chosen start.
        tokens: generated tokens.
        prefill: prompt and prefix tokens submitted with the queries (once per query, not per draw).
        rewards: outcome-reward calls.
        verifications: process-verifier calls.
        demonstrations: demonstration tokens revealed.
        values: prefixes whose value was estimated.
        hidden_states: prefixes and outputs whose hidden states were shown.
    """

    rollouts: int = 0
    queries: int = 0
    tokens: int = 0
    prefill: int = 0
    rewards: int = 0
    verifications: int = 0
    demonstrations: int = 0
    values: int = 0
    hidden_states: int = 0

    def __add__(self, other: Cost) -> Cost:  # type: ignore[override]
        return _cost(Cost, map(operator.add, self, other))

    def __sub__(self, other: Cost) -> Cost:
        return _cost(Cost, map(operator.sub, self, other))

    @property
    def calls(self) -> int:
        """Questions put to the generator: each rollout, draw, list, law and scored token is one."""
        return self.rollouts + self.queries

    def to_dict(self) -> dict[str, int]:
        """Currency → amount."""
        return self._asdict()


# past the names of its arguments, as several are made per request
_cost = cast("Callable[[type[Cost], Iterable[int]], Cost]", tuple.__new__)  # pyright: ignore[reportUnknownMemberType]

CURRENCIES: tuple[str, ...] = Cost._fields
LIMITS: tuple[str, ...] = (*CURRENCIES, "calls")
"""What a budget can count: every currency, and rollouts and queries together."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The most a session may spend, per currency of ``Cost``; ``None`` means unlimited.

    Attributes:
        calls: rollouts and queries together.
        usd: US dollars, at the prices that the generator declares (``Prices``).

    Raises:
        InvalidInput: an amount is negative or, but for ``usd``, not an integer.
    """

    rollouts: int | None = None
    queries: int | None = None
    tokens: int | None = None
    prefill: int | None = None
    rewards: int | None = None
    verifications: int | None = None
    demonstrations: int | None = None
    values: int | None = None
    hidden_states: int | None = None
    calls: int | None = None
    usd: float | None = None

    def __post_init__(self) -> None:
        for currency, value in self.to_dict().items():
            kind, name = ((int, float), "a number") if currency == "usd" else (int, "an integer")
            if (
                isinstance(value, bool)
                or not isinstance(value, kind)
                or not 0 <= value < float("inf")
            ):
                raise InvalidInput(f"budget {currency} must be {name} >= 0 or None, got {value!r}")

    def to_dict(self) -> dict[str, Any]:
        """The limited currencies and their limits."""
        return {c: v for c in (*LIMITS, "usd") if (v := getattr(self, c)) is not None}


@functools.lru_cache(maxsize=1024)
def limited(budget: Budget) -> tuple[str, ...]:
    """The currencies that a budget limits."""
    return tuple(budget.to_dict())


def total(costs: Iterable[Cost]) -> Cost:
    """The sum of costs that for the most part are nothing."""
    found = Cost()
    for cost in costs:
        if any(cost):
            found = found + cost if any(found) else cost
    return found


@dataclass(frozen=True, slots=True)
class Physical:
    """What a backend really computed, apart from the logical ``Cost``.

    Attributes:
        forwards: model (or table) evaluations, batched: one per call whatever its width.
        computed: token positions computed.
        cached: token positions that a cache answered instead.
        recomputed: token positions computed again after eviction (part of ``computed``).
        peak_bytes: most memory that keys, values and laws have taken at a time.
    """

    forwards: int = 0
    computed: int = 0
    cached: int = 0
    recomputed: int = 0
    peak_bytes: int = 0

    def __sub__(self, other: Physical) -> Physical:
        """Counters since ``other``; the peak stays."""
        counts = {f: getattr(self, f) - getattr(other, f) for f in _FIELDS[:-1]}
        return Physical(**counts, peak_bytes=self.peak_bytes)

    def __add__(self, other: Physical) -> Physical:
        """Both together; the higher peak."""
        counts = {f: getattr(self, f) + getattr(other, f) for f in _FIELDS[:-1]}
        return Physical(**counts, peak_bytes=max(self.peak_bytes, other.peak_bytes))

    def to_dict(self) -> dict[str, int]:
        """Counter → amount."""
        return {f: getattr(self, f) for f in _FIELDS}


_FIELDS: tuple[str, ...] = tuple(Physical.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars per million tokens.

    Attributes:
        prompt: of prompt and prefix tokens submitted, once per query (``Cost.prefill``).
        generated: of tokens generated (``Cost.tokens``).

    Raises:
        InvalidInput: a price is negative or not finite.
    """

    prompt: float
    generated: float

    def __post_init__(self) -> None:
        for name in ("prompt", "generated"):
            check_float(f"the price of {name} tokens", getattr(self, name), 0.0)

    def usd(self, cost: Cost) -> Fraction:
        """US dollars, exact for prices as they are written in decimals."""
        paid = exact(self.prompt) * cost.prefill + exact(self.generated) * cost.tokens
        return paid / _PER

    def to_dict(self) -> dict[str, float]:
        """Kind of token → US dollars per million."""
        return {"prompt": self.prompt, "generated": self.generated}


def exact(amount: float) -> Fraction:
    """The decimal number that ``amount`` is written as: 0.1 is a tenth."""
    return Fraction(str(amount))


def share(amount: float, count: int) -> float:
    """The part of US dollars that each of ``count`` gets, rounded down to a billionth."""
    return exact(amount) * 10**9 / count // 1 / 10**9


def check_priced(budget: Budget, prices: Prices | None) -> None:
    """Refuse a budget in US dollars for a generator without prices (``InvalidInput``)."""
    if budget.usd is not None and prices is None:
        raise InvalidInput(
            f"a budget of {budget.usd} usd needs a generator that declares prices "
            "(Capabilities.prices; of a server: price_in and price_out); this one declares none"
        )


def noted(prices: Prices | None) -> dict[str, dict[str, float]]:
    """The entry ``prices`` of configurations and transcripts, where there are some."""
    return {} if prices is None else {"prices": prices.to_dict()}


def left(
    budget: Budget, currency: str, prices: Prices | None, *used: Cost
) -> int | Fraction | None:
    """What is left of a budget after what was ``used``; ``None``: unlimited.

    Args:
        prices: of the generator, which a budget in US dollars needs.
    """
    limit = getattr(budget, currency)
    if limit is None:
        return None
    if currency == "usd":
        return exact(limit) - sum(amount(cost, currency, prices) for cost in used)
    for cost in used:
        limit -= getattr(cost, currency)
    return limit


def amount(cost: Cost, currency: str, prices: Prices | None) -> int | Fraction:
    """What ``cost`` comes to in a currency of ``Budget``."""
    if currency == "usd":
        assert prices is not None, "checked where the account was opened"
        return prices.usd(cost)
    return getattr(cost, currency)
