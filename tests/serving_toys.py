"""A server in a thread, at a free port of loopback, for as long as a test asks it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from reroot.access.episode import bind
from reroot.families import HiddenPath
from reroot.generators.base import Generator, Request
from reroot.serving.app import BEAT, application
from reroot.serving.catalogue import Catalogue, Offer
from reroot.serving.client import Served, connect
from reroot.serving.desk import Desk
from reroot.serving.keys import KeyFile, add_key
from reroot.serving.ledger import Ledger
from reroot.serving.server import configuration, listen
from reroot.serving.sessions import Sessions
from reroot.tasks.base import Problem
from reroot.types import Budget, Reply


def catalogue(generator: Generator, problems: Sequence[Problem]) -> Catalogue:
    return Catalogue("toy", generator, [Offer(bind(p, generator)) for p in problems])


def unwritten() -> Sessions:
    """Sessions of nobody, for desks at which nobody works."""
    from toys import problems, tree

    return Sessions(catalogue(tree(), problems(1)), ledger=None)  # type: ignore[arg-type]


class Held(HiddenPath):
    """A family whose passes wait while they may not answer; at first they may.

    Attributes:
        asked: somebody has asked since ``hold``.
        may: it answers.
    """

    def __init__(self) -> None:
        super().__init__(3, 4, 0.6, seed=1)
        self.asked, self.may = threading.Event(), threading.Event()
        self.may.set()

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        self.asked.set()
        assert self.may.wait(30)
        return super().answer(requests)

    def hold(self) -> Held:
        """From now on nobody is answered."""
        self.asked.clear()
        self.may.clear()
        return self


class Server:
    """One that is running.

    Attributes:
        url: its address.
        folder: of its files.
        desk: what answers.
    """

    def __init__(
        self,
        served: Catalogue,
        folder: Path,
        db: str | None = None,
        patience: float = 60.0,
        beat: float = BEAT,
    ) -> None:
        self.folder = folder
        self.keys, self.db = folder / "keys.toml", db or folder / "serve.sqlite"
        self.keys.touch()
        self.desk = Desk(Sessions(served, Ledger(self.db)))
        self._socket = listen("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        app = application(self.desk, KeyFile(self.keys), beat)
        self._server = uvicorn.Server(configuration(app, patience))
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],))
        self._thread.start()

    def key(self, name: str, grants: str, budget: Budget | None = None, **more: Any) -> str:
        more = {"results": True, **more}
        return add_key(self.keys, name, grants, budget or Budget(), **more)

    def connect(self, name: str, grants: str, budget: Budget | None = None, **more: Any) -> Served:
        return connect(self.url, self.key(name, grants, budget, **more))

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._server.server_state.connections)

    def end(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()


@contextmanager
def serving(
    generator: Generator,
    problems: Sequence[Problem],
    folder: Path,
    db: str | None = None,
    patience: float = 60.0,
    beat: float = BEAT,
) -> Iterator[Server]:
    server = Server(catalogue(generator, problems), folder, db, patience, beat)
    try:
        yield server
    finally:
        server.end()
