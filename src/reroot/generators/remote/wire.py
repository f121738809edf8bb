"""The wire: one thread with one event loop and one pool of connections; repeats what may be repeated.

A call that failed before anything of it was returned may be repeated: whatever a server had drawn for it, nobody
has seen, and whether it failed has nothing to do with what it drew. A call whose answer takes too long may not:
long answers would be drawn again until they are short.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from ...errors import BackendError, InvalidInput, need, visible
from .limits import Pace
from .replies import shortened

_T = TypeVar("_T")
_log = logging.getLogger("reroot.remote")
_AGAIN = {408, 409, 425, 500, 502, 503, 504}
"""States in which nothing was returned and the next try may succeed."""
_BACKOFF = 0.25
"""Seconds before the second try; doubled, up to ``_MOST_BACKOFF``, and between half and all of it."""
_MOST_BACKOFF = 8.0

IDLE = 2.0
"""Seconds after which an idle connection is not used again: servers close theirs (uvicorn and llama.cpp after 5),
and a request that meets that is lost."""


class Fault(BackendError):
    """A call that has no answer: the server failed, was busy, late or down. What it would say, nobody knows."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long what fails is tried.

    Attributes:
        connect, read: seconds until a connection, and an answer, must be there.
        tries: most tries of one call.
        down: seconds that a server may be down before it is given up.
        busy: seconds that a call may wait because the server says that it is busy (429).
    """

    connect: float = 10.0
    read: float = 600.0
    tries: int = 6
    down: float = 60.0
    busy: float = 600.0


class Loop:
    """An event loop in a thread of its own, which a forked process does not have."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._pid = os.getpid()
        threading.Thread(target=self._loop.run_forever, name=name, daemon=True).start()

    @property
    def is_mine(self) -> bool:
        """Whether this is the process that made it, and it has not been stopped."""
        return self._pid == os.getpid() and self._loop.is_running()

    def begin(self, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def call(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call ``function`` in the loop's thread (``BackendError``: there is none in this process)."""
        if not self.is_mine:
            raise BackendError(
                "the connection to the server was closed, or made before this process was forked"
            )
        self._loop.call_soon_threadsafe(function, *arguments)

    def stop(self) -> None:
        if self.is_mine:
            self._loop.call_soon_threadsafe(self._loop.stop)


class Wire:
    """Connections to one server.

    Args:
        url: scheme, host, port and what is before the dialect's paths.
        key: of the API; sent as a bearer token and shown nowhere.
        health: a path that answers 200 when the server is up.
        pace: how fast it may be asked.
        patience: how long what fails is tried.
    """

    def __init__(
        self, url: str, key: str | None, health: str, pace: Pace, patience: Patience
    ) -> None:
        need("remote", "httpx2")
        import httpx2

        self.url, self.pace, self.health = url, pace, health
        self._key, self._patience = key, patience
        self._transient = (
            httpx2.ConnectError,
            httpx2.ConnectTimeout,
            httpx2.ReadError,
            httpx2.WriteError,
            httpx2.RemoteProtocolError,
            httpx2.CloseError,
        )
        self._late, self._any = httpx2.TimeoutException, httpx2.HTTPError
        self._jitter = random.Random(0)
        self.loop = Loop("reroot-remote")
        weakref.finalize(self, self.loop.stop)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        timeout = httpx2.Timeout(patience.read, connect=patience.connect, pool=None)
        limits = httpx2.Limits(
            max_connections=None, max_keepalive_connections=None, keepalive_expiry=IDLE
        )
        self._transport = httpx2.AsyncHTTPTransport(limits=limits, trust_env=False)
        self._client = httpx2.AsyncClient(
            base_url=url,
            headers={**headers, "Content-Type": "application/json"},
            timeout=timeout,
            transport=self._transport,
            trust_env=False,  # no credentials of a .netrc, no proxy
        )
        # calls go to the transport itself: redirects, cookies and events of a client take time
        self._request = partial(
            httpx2.Request,
            "POST",
            headers=self._client.headers,
            extensions={"timeout": timeout.as_dict()},
        )
        self._addresses: dict[str, Any] = {}
        self._parse = httpx2.URL
        self._up: asyncio.Task[None] | None = None
        self.repeated = 0

    def wait(self, work: Coroutine[Any, Any, _T]) -> _T:
        """The result of ``work`` on the loop, waited for in this thread."""
        return self.loop.begin(work).result()

    def hidden(self, text: str) -> str:
        """``text`` without the key, safe to show."""
        return visible(text.replace(self._key, "…") if self._key else text)

    async def get(self, path: str) -> Any:
        """The JSON that a path answers; ``None`` where there is no such path, or nothing of the kind."""
        try:
            reply = await self._client.get(path, timeout=self._patience.connect)
            return reply.json() if reply.status_code == 200 else None
        except ValueError:
            return None
        except self._any as error:
            raise Fault(f"{self.url} cannot be reached: {self._told(error)}") from None

    async def post(self, path: str, body: Any, tokens: int) -> Any:
        """The JSON that a server answers to ``body``, repeated as ``Patience`` says.

        Args:
            tokens: that it may cost, for the limits per minute.

        Raises:
            BackendError: it was refused, or failed as often as it may; says with what.
        """
        begun, tries, content = time.monotonic(), 0, json.dumps(body).encode()
        while True:
            await self.pace.admit(tokens)
            answer, why, wait = await self._try(path, content)
            if not why:
                self.pace.succeeded()
                return answer
            tries += wait is None
            waited = time.monotonic() - begun
            pause = self._pause(tries) if wait is None else wait
            if tries >= self._patience.tries:
                raise Fault(f"{self.url}{path} failed {tries} times, the last time: {why}")
            if wait is not None and waited + wait > self._patience.busy:
                raise Fault(
                    f"{self.url}{path} is busy for more than {self._patience.busy:g} s: {why}"
                )
            self.repeated += 1
            _log.warning("%s%s: %s; it is asked again in %.2g s", self.url, path, why, pause)
            if wait is not None:
                self.pace.refused(pause)
            else:
                await asyncio.sleep(pause)

    async def _try(self, path: str, content: bytes) -> tuple[Any, str, float | None]:
        """(answer, why there is none, seconds to wait where the server says that it is busy)."""
        try:
            reply = await self._sent(path, content)
        except self._transient as error:
            await self._wait_until_up(self._told(error))
            return None, self._told(error), None
        except self._late:
            raise Fault(
                f"{self.url}{path} has not answered within {self._patience.read:g} s; it is not asked "
                f"again, as short answers would be preferred to long ones"
            ) from None
        except self._any as error:
            raise Fault(f"{self.url}{path}: {self._told(error)}") from None
        self._note_limits(reply.headers)
        if reply.status_code == 200:
            try:
                return json.loads(reply.content), "", None
            except ValueError:
                return None, f"half an answer, or no JSON: {self._excerpt(reply.text)}", None
        why = f"HTTP {reply.status_code}: {self._excerpt(_message(reply.text))}"
        if reply.status_code == 429:
            return None, why, _seconds(reply.headers.get("Retry-After"))
        if reply.status_code in _AGAIN:
            return None, why, None
        kind = InvalidInput if reply.status_code in (400, 413, 422) else BackendError
        raise kind(f"{self.url}{path} refuses: {why}")

    async def _sent(self, path: str, content: bytes) -> Any:
        """The whole reply."""
        request = self._request(url=self._address(path), content=content)
        reply = await self._transport.handle_async_request(request)
        try:
            await reply.aread()
        finally:
            await reply.aclose()
        return reply

    def _address(self, path: str) -> Any:
        """The whole address of a path, parsed once: that takes a fifth of a call's time."""
        if path not in self._addresses:
            self._addresses[path] = self._parse(self.url + path)
        return self._addresses[path]

    async def _wait_until_up(self, why: str) -> None:
        """Wait for a server that is down; all calls wait together."""
        if self._up is None or self._up.done():
            self._up = asyncio.get_running_loop().create_task(self._until_up(why))
        await asyncio.shield(self._up)

    async def _until_up(self, why: str) -> None:
        begun, tries = time.monotonic(), 0
        while True:
            try:
                reply = await self._client.get(self.health, timeout=self._patience.connect)
                if reply.status_code < 500:
                    return
                why = f"HTTP {reply.status_code}"
            except self._any as error:
                why = self._told(error)
            if time.monotonic() - begun > self._patience.down:
                raise Fault(
                    f"{self.url} has been down for {self._patience.down:g} s ({why}): calls in flight "
                    f"have no answer, what was answered before is kept"
                )
            if not tries:
                _log.warning("%s is down (%s); waiting for it", self.url, why)
            tries += 1
            await asyncio.sleep(self._pause(tries))

    def _pause(self, tries: int) -> float:
        return min(_MOST_BACKOFF, _BACKOFF * 2 ** (tries - 1)) * (0.5 + self._jitter.random() / 2)

    def _note_limits(self, headers: Any) -> None:
        said = [headers.get(f"x-ratelimit-limit-{what}") for what in ("requests", "tokens")]
        if any(said):
            self.pace.limit(*(int(value) if value and value.isdigit() else None for value in said))

    def _told(self, error: Exception) -> str:
        return self.hidden(f"{type(error).__name__}: {error}".rstrip(": "))

    def _excerpt(self, text: str) -> str:
        return self.hidden(shortened(text))

    def close(self) -> None:
        """Close the connections and end the thread."""
        if self.loop.is_mine:
            self.wait(self._end())
            self.loop.stop()

    async def _end(self) -> None:
        """End what is still asked for, and every connection."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.aclose()


def _message(text: str) -> str:
    """What an error reply says, whatever its shape."""
    try:
        said = json.loads(text)
        said = said.get("error", said)
        return str(said.get("message", said) if isinstance(said, dict) else said)
    except (ValueError, AttributeError):
        return text


def _seconds(said: str | None) -> float:
    """``Retry-After`` in seconds; a date counts as one second, as clocks differ."""
    try:
        return max(0.0, float(said)) if said is not None else 1.0
    except ValueError:
        return 1.0
