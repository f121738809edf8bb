"""The meter: reserve the worst case, then charge what was used. Never overspent."""

from __future__ import annotations

import operator

from ..errors import BudgetExceeded
from ..types import Budget, Cost


class Meter:
    """Accounts of one session.

    A request first reserves its worst case; what other requests have reserved counts as spent, so
    that any number of concurrent requests stay within the budget together.
    """

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.spent = Cost()
        self._reserved = Cost()
        self._limited = tuple(budget.to_dict())

    def remaining(self, currency: str) -> int | None:
        """What can still be reserved; ``None``: unlimited."""
        limit = getattr(self.budget, currency)
        if limit is None:
            return None
        return limit - getattr(self.spent, currency) - getattr(self._reserved, currency)

    def reserve(self, worst: Cost) -> None:
        """Set ``worst`` aside, all of it or nothing.

        Raises:
            BudgetExceeded: it does not fit; names the first currency that is short.
        """
        if not self._limited:
            return
        for currency in self._limited:
            left, needed = self.remaining(currency), getattr(worst, currency)
            if left is not None and needed > left:
                raise BudgetExceeded(currency, needed, left)
        self._reserved += worst

    def settle(self, worst: Cost, actual: Cost) -> None:
        """Give a reservation back and charge what was used, which never exceeds it."""
        if actual != worst and any(map(operator.gt, actual, worst)):
            raise AssertionError(f"used {actual} where {worst} was reserved: a worst case is wrong")
        if self._limited:
            self._reserved -= worst
        self.spent += actual
