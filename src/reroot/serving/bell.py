"""From the desk's thread to the event loop: one call for all that a round has answered."""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import Future
from typing import Any


class Bell:
    """Wakes those who wait for futures of another thread: once for many, where ``asyncio`` wakes for each."""

    def __init__(self) -> None:
        self._rung: deque[tuple[asyncio.Future[Any], Future[Any]]] = deque()

    async def waits(self, future: Future[Any]) -> Any:
        """What a future is told. It goes on if its waiter is cancelled."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Any] = loop.create_future()

        def ring(told: Future[Any]) -> None:
            first = not self._rung
            self._rung.append((waiter, told))
            if first:
                loop.call_soon_threadsafe(self._answer)

        future.add_done_callback(ring)
        return await waiter

    def _answer(self) -> None:
        while self._rung:
            waiter, told = self._rung.popleft()
            if waiter.done():
                continue
            error = told.exception()
            if error is None:
                waiter.set_result(told.result())
            else:
                waiter.set_exception(error)
