"""How fast a server may be asked: places in flight, pauses, requests and tokens per minute."""

from __future__ import annotations

import asyncio
import time
from collections import deque


class Pace:
    """Adapts to a server that says 429: it halves what is in flight, and grows it again by successes.

    Args:
        window: most calls in flight.
        requests, tokens: most per minute; ``None``: as many as the server takes.
    """

    def __init__(self, window: int, requests: int | None, tokens: int | None) -> None:
        self.most = window
        self.window = float(window)
        self._limits = (requests, tokens)
        self._until = 0.0
        self._spent: deque[tuple[float, int, int]] = deque()  # (when, requests, tokens)

    @property
    def places(self) -> int:
        """Calls that may be in flight now."""
        return max(1, int(self.window))

    def limit(self, requests: int | None, tokens: int | None) -> None:
        """What the server says that it takes per minute; stricter limits of the user stay."""
        pairs = zip(self._limits, (requests, tokens), strict=True)
        self._limits = tuple(  # type: ignore[assignment]
            min((v for v in pair if v), default=None) for pair in pairs
        )

    def succeeded(self) -> None:
        self.window = min(self.most, self.window + 1 / self.window)

    def refused(self, seconds: float) -> None:
        """The server is busy: nothing is sent for so long."""
        now = time.monotonic()
        if now >= self._until:  # many answers to one burst halve once
            self.window = max(1.0, self.window / 2)
        self._until = max(self._until, now + seconds)

    async def admit(self, tokens: int) -> None:
        """Wait until a call of so many tokens may be sent."""
        while (wait := self._wait(tokens)) > 0:
            await asyncio.sleep(wait)
        self._spent.append((time.monotonic(), 1, tokens))

    def _wait(self, tokens: int) -> float:
        now = time.monotonic()
        while self._spent and self._spent[0][0] <= now - 60:
            self._spent.popleft()
        wait = self._until - now
        if any(self._limits) and self._spent:
            most_requests, most_tokens = self._limits
            full = most_requests is not None and len(self._spent) >= most_requests
            sent = sum(spent for _, _, spent in self._spent)
            full |= most_tokens is not None and sent + tokens > most_tokens
            if full:
                wait = max(wait, self._spent[0][0] + 60 - now)
        return wait
