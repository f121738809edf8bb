"""What calls cost in US dollars, and a limit that is never passed."""

from __future__ import annotations

from ...checks import check_float
from ...errors import BackendError
from ...types.account import Prices
from .dialects import Call
from .replies import Read


class Purse:
    """Reserve the worst case of a call, then charge what the server says it has read and written.

    Cached prompt tokens are charged in full: what providers take off for them differs.

    Args:
        price_in, price_out: US dollars per million prompt and generated tokens.
        most: US dollars; ``None``: no limit.

    Raises:
        InvalidInput: an amount is negative or not finite.

    Attributes:
        prices: those given, if any was.
    """

    def __init__(self, price_in: float, price_out: float, most: float | None) -> None:
        self._in = check_float("price_in", price_in, 0.0) / 1e6
        self._out = check_float("price_out", price_out, 0.0) / 1e6
        self.prices = Prices(price_in, price_out) if price_in or price_out else None
        self._most = None if most is None else check_float("most_usd", most, 0.0)
        self.spent = 0.0
        self._reserved = 0.0

    def reserve(self, call: Call) -> float:
        """Set the worst case of a call aside (``BackendError``: it may pass the limit)."""
        worst = self._in * len(call.prompt) + self._out * call.n * call.length
        if self._most is not None and self.spent + self._reserved + worst > self._most:
            raise BackendError(
                f"a call may cost ${worst:.6f}, and ${self._most - self.spent - self._reserved:.6f} are "
                f"left of ${self._most:g}: nothing more is asked of the server"
            )
        self._reserved += worst
        return worst

    def settle(self, worst: float, found: Read | None) -> None:
        """Charge a call; one without an answer in full, as nobody knows what was billed."""
        self._reserved -= worst
        cost = worst if found is None else self._in * found.prompt + self._out * found.generated
        self.spent += cost
