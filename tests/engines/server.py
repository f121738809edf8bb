"""An engine on a free port of 127.0.0.1, in a thread: it can be killed and come back."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import uvicorn

from .app import application
from .behaviour import MISBEHAVIOURS, Behaviour, behaviour
from .engine import Counts, Engine


class Server:
    """A running engine.

    Attributes:
        engine: its counts, what it was asked (``asked``: path and body) and with which headers.
        port, url: where it listens.
    """

    def __init__(self, does: Behaviour, seed: int = 0, port: int = 0) -> None:
        self.engine = Engine(does, seed)
        self._socket = _listening(port)
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        config = uvicorn.Config(
            application(self.engine), log_level="critical", lifespan="off", ws="none"
        )
        self._uvicorn = uvicorn.Server(config)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def counts(self) -> Counts:
        return self.engine.counts

    def misbehave(self, *misbehaviours: str, **changes: Any) -> None:
        """From now on; what it does otherwise stays."""
        for name in misbehaviours:
            changes = {**MISBEHAVIOURS[name], **changes}
        self.engine.behaviour = replace(self.engine.behaviour, **changes)

    def start(self) -> Server:
        self._thread.start()
        while not self._uvicorn.started:
            if not self._thread.is_alive():
                raise RuntimeError("the server did not start")
            time.sleep(0.005)
        return self

    def stop(self) -> None:
        self._uvicorn.should_exit = self._uvicorn.force_exit = True
        self._thread.join(10)

    def die(self) -> None:
        """Close every connection in the middle, and listen no more."""
        self._call(self._die)

    def revive(self) -> None:
        """Listen again, with what it knew."""
        self._call(self._revive)

    def run(self) -> None:
        """Serve in this thread until interrupted."""
        self._uvicorn.run(sockets=[self._socket])

    def _run(self) -> None:
        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            await self._uvicorn.serve(sockets=[self._socket])

        asyncio.run(serve())

    def _call(self, what: Any) -> None:
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(what(), self._loop).result(10)

    async def _die(self) -> None:
        for listener in self._uvicorn.servers:
            listener.close()
        for connection in list(self._uvicorn.server_state.connections):
            connection.transport.abort()  # type: ignore[union-attr]

    async def _revive(self) -> None:
        config, state = self._uvicorn.config, self._uvicorn.server_state

        def protocol() -> asyncio.Protocol:
            made: Any = config.http_protocol_class
            return made(config=config, server_state=state, app_state={})

        self._socket = _listening(self.port)
        loop = asyncio.get_running_loop()
        self._uvicorn.servers.append(await loop.create_server(protocol, sock=self._socket))


def _listening(port: int) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("127.0.0.1", port))
    made.listen(2048)
    return made


@contextmanager
def serve(dialect: str, *misbehaviours: str, seed: int = 0, **changes: Any) -> Iterator[Server]:
    """A server of ``dialect`` with named misbehaviours and changed flags; ended at exit."""
    server = Server(behaviour(dialect, *misbehaviours, **changes), seed).start()
    try:
        yield server
    finally:
        server.stop()
