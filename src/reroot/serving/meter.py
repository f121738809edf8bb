"""The account of a served session: its own budget, and behind it that of its key."""

from __future__ import annotations

from ..access.meter import Meter
from ..errors import AccountExceeded
from ..types import Budget, Cost
from ..types.account import Prices, limited, total
from .ledger import OPEN, Ledger, Place

Refusals = dict[str, tuple[str, float, float]]
"""Which reservations of a turn the key's account refused: number → (currency, requested, remaining)."""


class KeyMeter(Meter):
    """A meter whose reservations must fit into the account of the key, too.

    Args:
        budget: of the session.
        prices: of the generator.
        limits: of the key.
        ledger: where the key's account is.

    Attributes:
        charged: in the turn under way.
        backed: whether all that this turn may charge is set aside in the ledger.
        held: the worst case of all that is open, over turns.
        refused: in the turn under way.
    """

    def __init__(
        self, budget: Budget, prices: Prices | None, limits: Budget, ledger: Ledger
    ) -> None:
        super().__init__(budget, prices)
        self._limits, self._ledger = limits, ledger
        self._place: Place | None = None
        self._part = 0
        self._told: Refusals = {}
        self.charged, self.held, self.refused = Cost(), Cost(), Refusals()
        self.backed = False

    def begin(self, place: Place, limits: Budget) -> None:
        """A turn begins; ``limits`` are those of the key now.

        Raises:
            AccountExceeded: what is open was freed, as the session was idle, and no longer fits.
            Superseded: the turn is answered already.
        """
        self._limits, self.backed = limits, bool(limited(limits))
        self._place, self._part, self._told = place, 0, {}
        self.charged, self.refused = Cost(), Refusals()
        if self.backed and any(self.held):
            self._ledger.reserve(place, OPEN, self.held, limits, self.prices)

    def again(self, refused: Refusals) -> None:
        """A turn that costs its key nothing: one that is written down is gone through once more, or the
        session is closed."""
        self._place, self._part, self._told = None, 0, refused
        self.charged, self.refused = Cost(), Refusals()

    def reserve(self, worst: Cost) -> None:
        super().reserve(worst)
        part, self._part = self._part, self._part + 1
        try:
            if self._place is not None and self.backed:
                self._ledger.reserve(self._place, part, worst, self._limits, self.prices)
            elif (told := self._told.get(str(part))) is not None:
                raise AccountExceeded(*told)
        except BaseException as error:
            self._reserved -= worst if self._limited else Cost()
            if isinstance(error, AccountExceeded):
                self.refused[str(part)] = (error.currency, error.requested, error.remaining)
            raise
        self.held = total((self.held, worst))

    def settle(self, worst: Cost, actual: Cost) -> None:
        super().settle(worst, actual)
        self.held = Cost() if self.held == worst else self.held - worst
        self.charged = total((self.charged, actual))
