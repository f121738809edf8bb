"""The meter: reserve the worst case, then charge what was used. Never overspent."""

from __future__ import annotations

import operator
from fractions import Fraction

from ..errors import BudgetExceeded
from ..types import Budget, Cost
from ..types.account import Prices, amount, check_priced, left


class Meter:
    """Accounts of one session.

    A request first reserves its worst case; what other requests have reserved counts as spent, so
    that any number of concurrent requests stay within the budget together.

    Raises:
        InvalidInput: a budget in US dollars, and no prices.
    """

    def __init__(self, budget: Budget, prices: Prices | None = None) -> None:
        check_priced(budget, prices)
        self.budget, self.prices = budget, prices
        self.spent = Cost()
        self._reserved = Cost()
        self._limited = tuple(budget.to_dict())

    def remaining(self, currency: str) -> int | Fraction | None:
        """What can still be reserved; ``None``: unlimited."""
        return left(self.budget, currency, self.prices, self.spent, self._reserved)

    def reserve(self, worst: Cost) -> None:
        """Set ``worst`` aside, all of it or nothing.

        Raises:
            BudgetExceeded: it does not fit; names the first currency that is short.
        """
        if not self._limited:
            return
        for currency in self._limited:
            free, needed = self.remaining(currency), amount(worst, currency, self.prices)
            if free is not None and needed > free:
                raise BudgetExceeded(currency, *_shown(needed, free))
        self._reserved += worst

    def settle(self, worst: Cost, actual: Cost) -> None:
        """Give a reservation back and charge what was used, which never exceeds it."""
        if actual != worst and any(map(operator.gt, actual, worst)):
            raise AssertionError(f"used {actual} where {worst} was reserved: a worst case is wrong")
        if self._limited:
            self._reserved -= worst
        self.spent += actual


def _shown(*amounts: int | Fraction) -> tuple[float, ...]:
    """Amounts as they are shown: fractions as decimal numbers."""
    return tuple(x if isinstance(x, int) else float(x) for x in amounts)
