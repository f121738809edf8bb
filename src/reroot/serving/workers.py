"""Processes that take requests, beside the one that answers them.

One process has the generator, the ledger and the desk; its children take connections, check keys and
bodies and write answers, so that HTTP and JSON are another core's work. Children are made by forking:
what is served is there already, and of it they use texts, tokens and names alone. A child that loses its
parent ends; a parent that loses a child ends the others.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import pickle
import signal
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any

from ..errors import BackendError
from .catalogue import Catalogue
from .database import Unavailable
from .desk import Desk, State
from .jsontext import json_of
from .keys import Key
from .tasks import Account, Close, Complete, Open, TakeTurn, Task
from .wire import pack_messages, unpack_messages

_LENGTH = struct.Struct("<I")
_PART = 1 << 20
_KINDS: dict[str, type[Task]] = {
    kind.__name__: kind for kind in (Open, TakeTurn, Close, Account, Complete)
}
_STATE = "state"  # in place of a task: how the desk stands


class Far:
    """A desk in another process, for one event loop.

    Args:
        line: to that process.
        catalogue: what is served.
        secret: of the ledger.
    """

    def __init__(self, line: socket.socket, catalogue: Catalogue, secret: bytes) -> None:
        self.catalogue, self.secret = catalogue, secret
        self._line, self._numbers = line, itertools.count()
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._out: list[tuple[int, str, int, Key | None, Any]] = []
        self._keys: dict[int, Key] = {}
        self._in = bytearray()
        self.alive = True

    async def do(self, task: Task) -> dict[str, Any]:
        """See ``Desk.do``."""
        return json.loads(await self.told(task))

    async def told(self, task: Task) -> bytes:
        """See ``Desk.told``."""
        name = type(task).__name__
        new = id(task.key) not in self._keys
        if new:
            self._keys[id(task.key)] = task.key  # which stays, so that its number does
        return await self._ask(name, id(task.key), task.key if new else None, _fields(task))

    async def state(self) -> State:
        """See ``Desk.state``."""
        return await self._ask(_STATE, 0, None, None)

    def attend(self) -> None:
        """See ``Desk.attend``."""
        asyncio.get_running_loop().add_reader(self._line, self._read)

    def drain(self) -> None:
        """The desk is drained where it is."""

    async def _ask(self, kind: str, key: int, new: Key | None, fields: Any) -> Any:
        loop = asyncio.get_running_loop()
        if not self.alive:
            raise Unavailable("the server is going down; try again")
        number = next(self._numbers)
        answer = self._asked[number] = loop.create_future()
        self._out.append((number, kind, key, new, fields))
        if len(self._out) == 1:
            loop.call_soon(self._send)
        return await answer

    def _send(self) -> None:
        out, self._out = self._out, []
        try:
            _put(self._line, out)
        except OSError:
            self._gone()

    def _read(self) -> None:
        try:
            part = self._line.recv(_PART)
        except OSError:
            part = b""
        if not part:
            self._gone()
            return
        self._in += part
        for told in _whole(self._in):
            for number, error, result in told:
                answer = self._asked.pop(number)
                if answer.done():
                    continue
                if error is None:
                    answer.set_result(result)
                else:
                    answer.set_exception(error)

    def _gone(self) -> None:
        if not self.alive:
            return
        self.alive = False
        asyncio.get_running_loop().remove_reader(self._line)
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(Unavailable("the server is going down; try again"))
        self._asked.clear()
        os.kill(os.getpid(), signal.SIGTERM)


class Worker:
    """A child, as its parent knows it: what it asks is given to the desk, and told round by round.

    Args:
        desk: what answers.
        line: to the child.
    """

    def __init__(self, desk: Desk, line: socket.socket) -> None:
        self._desk, self._line = desk, line
        self._keys: dict[int, Key] = {}
        self._out: deque[tuple[int, Exception | None, Any]] = deque()
        self._lock = threading.Lock()
        desk.after_rounds.append(self._tell)
        self._thread = threading.Thread(target=self._work, name="worker", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        read = bytearray()
        while part := self._receive():
            read += part
            for asked in _whole(read):
                tasks = [self._task(*one) for one in asked]
                with self._desk.at_once():
                    for number, task in tasks:
                        self._take(number, task)
                self._tell()

    def _receive(self) -> bytes:
        try:
            return self._line.recv(_PART)
        except OSError:
            return b""

    def _task(
        self, number: int, kind: str, key: int, new: Key | None, fields: Any
    ) -> tuple[int, Task | None]:
        """What is asked; ``None``: it is answered already."""
        if new is not None:
            self._keys[key] = new
        try:
            if kind != _STATE:
                return number, _task(kind, self._keys[key], fields, self._desk.catalogue)
            self._out.append((number, None, self._desk.now()))
        except Exception as error:
            self._out.append((number, _plain(error), None))
        return number, None

    def _take(self, number: int, task: Task | None) -> None:
        if task is None:
            return
        try:
            self._desk.submit(task).add_done_callback(partial(self._told, number))
        except Exception as error:
            self._out.append((number, _plain(error), None))

    def _told(self, number: int, future: Future[dict[str, Any]]) -> None:
        """What a task is told crosses as JSON, which most of those who ask pass on as it is."""
        error = future.exception()
        if error is None:
            self._out.append((number, None, json_of(future.result())))
        else:
            self._out.append((number, _plain(error), None))

    def _tell(self) -> None:
        with self._lock:
            out: list[Any] = []
            while self._out:
                out.append(self._out.popleft())
            if out:
                with suppress(OSError):  # the child is gone, which its parent sees
                    _put(self._line, out)


def _plain(error: BaseException) -> Exception:
    """An error that crosses."""
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:
        return BackendError(f"{type(error).__name__} at the desk")


def _fields(task: Task) -> dict[str, Any]:
    told = {name: getattr(task, name) for name in _ASKED[type(task).__name__]}
    if "messages" in told:
        told["messages"] = pack_messages(told["messages"])
    if told.get("episode") is not None:
        told["episode"] = told["episode"].problem
    return told


_ASKED = {
    "Open": ("session", "terms"),
    "TakeTurn": ("session", "number", "messages"),
    "Close": ("session", "ended"),
    "Account": ("session",),
    "Complete": ("session", "number", "messages", "terms", "episode"),
}


def _task(kind: str, key: Key, fields: dict[str, Any], catalogue: Catalogue) -> Task:
    from ..access.episode import bind

    if "messages" in fields:
        fields["said"] = fields["messages"]
        fields["messages"] = unpack_messages(fields["said"])
    if fields.get("episode") is not None:
        fields["episode"] = bind(fields["episode"], catalogue.generator)
    return _KINDS[kind](key, **fields)


def _put(line: socket.socket, content: object) -> None:
    data = pickle.dumps(content, pickle.HIGHEST_PROTOCOL)
    line.sendall(_LENGTH.pack(len(data)) + data)


def _whole(read: bytearray) -> Iterator[Any]:
    """What has come whole; it is taken out of ``read``."""
    while len(read) >= _LENGTH.size:
        end = _LENGTH.size + _LENGTH.unpack_from(read)[0]
        if len(read) < end:
            return
        content = pickle.loads(bytes(read[_LENGTH.size : end]))
        del read[:end]
        yield content


def serve_by(
    count: int,
    catalogue: Catalogue,
    secret: bytes,
    begin: Callable[[], Desk],
    run: Callable[[Far], None],
    on_start: Callable[[], None],
) -> None:
    """Serve by so many children until this process is told to end, or one of them ends.

    Args:
        count: of children.
        catalogue, secret: what is served, and the secret of the ledger.
        begin: makes the desk; it is called when the children are made.
        run: what a child does.
        on_start: called when there is somebody who takes requests.

    Raises:
        BackendError: a child has ended by itself.
    """
    lines = [socket.socketpair() for _ in range(count)]
    children: list[int] = []
    for i in range(count):
        child = os.fork()
        if child == 0:
            _child(lines, i, partial(run, Far(lines[i][1], catalogue, secret)))
        children.append(child)
    for _, theirs in lines:
        theirs.close()
    try:
        desk = begin()
        for ours, _ in lines:
            Worker(desk, ours)
        try:
            on_start()
            ended, how = os.waitpid(-1, 0)
            children.remove(ended)
            raise BackendError(f"a worker has ended ({os.waitstatus_to_exitcode(how)})")
        finally:
            _end(children)
            desk.drain()
    finally:
        _end(children)
        for ours, _ in lines:
            ours.close()


def _child(
    lines: list[tuple[socket.socket, socket.socket]], number: int, run: Callable[[], None]
) -> None:
    """What a child does in place of all that its parent has begun."""
    status = 1
    try:
        for i, (ours, theirs) in enumerate(lines):
            ours.close()
            if i != number:
                theirs.close()
        run()
        status = 0
    finally:
        os._exit(status)


def _end(children: list[int]) -> None:
    """Have them answer what they were asked, and end."""
    for child in children:
        os.kill(child, signal.SIGTERM)
    while children:
        os.waitpid(children.pop(), 0)
