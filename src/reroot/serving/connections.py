"""Connections of clients that do not do their part: what is not sent or not taken in time ends them."""

from __future__ import annotations

import asyncio
from typing import Any, cast

PATIENCE = 60.0
"""Seconds in which a request must have come whole, and in which what is sent must be taken."""

MOST_HEADERS = 1 << 16
"""Bytes of a request's line and headers."""


def protocol(patience: float = PATIENCE, headers: int = MOST_HEADERS) -> type[asyncio.Protocol]:
    """uvicorn's protocol of HTTP, with an end to its patience: it has none of its own.

    Args:
        patience: seconds in which a request must have come whole, from when it is waited for at a new
            connection, else from its first byte; and in which a client must take what it was sent.
        headers: bytes of a request's line and headers.
    """
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    base = cast("Any", AutoHTTPProtocol)

    class Patient(base):
        _due: asyncio.TimerHandle | None = None  # a request
        _taken: asyncio.TimerHandle | None = None  # what was sent
        _headers = _answers = 0

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self._await_request()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.transport.is_closing():
                self._watch()
                return
            in_headers, whole = _state(self.cycle, self.scope)
            if whole:
                self._headers = 0
                if self._due is not None:
                    self._due.cancel()
                    self._due = None
                return
            self._headers = self._headers + len(data) if in_headers else 0
            if self._headers > headers:
                self.transport.abort()
            else:
                self._await_request()

        def connection_lost(self, exc: Exception | None) -> None:
            for timer in (self._due, self._taken):
                if timer is not None:
                    timer.cancel()
            super().connection_lost(exc)

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._answers += 1
            self._watch()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._watch()

        def _await_request(self) -> None:
            if self._due is None:
                self._due = self.loop.call_later(patience, self.transport.abort)

        def _watch(self) -> None:
            if self._taken is None:
                self._taken = self.loop.call_later(patience, self._look, self._answers)

        def _look(self, answers: int) -> None:
            """End it if it waited all the time for its client to take the same answer."""
            self._taken = None
            if not self.transport.get_write_buffer_size():
                return
            if answers == self._answers:
                self.transport.abort()
            else:
                self._watch()

    return Patient


def _state(cycle: Any, scope: Any) -> tuple[bool, bool]:
    """Whether a request's headers are still to come; whether all of it has come, and it is being answered."""
    if cycle is None or cycle.scope is not scope:
        return True, False
    return False, not (cycle.more_body or cycle.response_complete)
