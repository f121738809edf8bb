"""The launcher: a process that starts one process for each attempt, by forking itself.

It is started anew (nothing of the run's process is in its memory), has imported reroot and no code of
anybody else's, holds one socket, to the run's process, and never looks at what an attempt says: that
goes over a socket of the attempt's own, which is handed through. So every attempt begins in the same
clean state, and starting one takes milliseconds.

To it come packets ``START`` (with a socket), ``END`` and ``KILL`` and the number of an attempt; from it
first the walls, as JSON, then (number, wait status) of each process that has ended.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from ...randomness import keyed_rng
from ..learner import BoundLearner
from . import namespaces, walls
from .attending import attend
from .frames import Line
from .settings import Isolation

START, END, KILL = 1, 2, 3
ORDER, ENDED = struct.Struct("<BQI"), struct.Struct("<QI")
"""(what, attempt, seconds of processor time or 0); (attempt, wait status)."""

GRACE = 2.0
"""Seconds between the end of an attempt and the end of its process."""


def main(control: int, find: Callable[[str], BoundLearner]) -> None:
    """Serve the process at the other end of ``control`` until it goes.

    Args:
        find: spec → learner; reroot's own are known to it already.
    """
    end = socket.socket(fileno=control)
    told = json.loads(end.recv(1 << 16))
    settings = Isolation(**told["settings"])
    keyed_rng((0, 0)).random()  # what every learner uses is loaded once, here
    baseline, package = walls.address_space(), Path(__file__).parents[2]
    paths = walls.readable(settings, package, told["files"])
    standing = walls.outer(paths)
    namespaces.bound_capabilities()
    ground = walls.Ground(settings, paths, baseline, standing["files"] == walls.STANDS)
    tried = _try(ground)
    if "files" in tried and not ground.housed:
        tried["files"] = _told(standing["files"], tried["files"])
    standing = {"process": walls.STANDS, **standing, **tried}
    end.send(json.dumps(standing).encode("utf-8"))
    gc.collect()
    gc.freeze()  # what is here stays shared with every process that is started
    _Launcher(end, ground, find).serve()


def _told(house: str, landlock: str) -> str:
    """What is said of files where there is no file system of its own."""
    return landlock if landlock == walls.STANDS else f"{house}; {landlock}"


def _try(ground: walls.Ground) -> dict[str, str]:
    """What of the inner walls stands, as a process tells that puts itself behind them."""
    reading, writing = os.pipe()
    if not (child := os.fork()):
        with contextlib.suppress(BaseException):
            os.write(writing, json.dumps(walls.inner(ground, None)).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        found = told.read()
    os.waitpid(child, 0)
    return json.loads(found)


class _Launcher:
    def __init__(
        self,
        end: socket.socket,
        ground: walls.Ground,
        find: Callable[[str], BoundLearner],
    ) -> None:
        self._end, self._ground, self._find = end, ground, find
        self._pids: dict[int, int] = {}  # attempt → process
        self._due: dict[int, float] = {}  # attempt that has ended → when its process is killed
        self._ended: deque[bytes] = deque()
        self._woken, writing = os.pipe()
        for fd in (self._woken, writing):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        self._pipe = (self._woken, writing)

    def serve(self) -> None:
        poll = select.poll()
        poll.register(self._end, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        while True:
            soon = min(self._due.values(), default=None)
            pause = None if soon is None else max(0.0, soon - time.monotonic())
            pause = 0.05 if self._ended else pause  # nobody has taken what is told
            ready = {fd for fd, _ in poll.poll(None if pause is None else 1000 * pause + 1)}
            if self._woken in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._woken, 4096)
            if self._end.fileno() in ready and not self._take_order():
                break
            self._reap()
            self._tell()
            for attempt in [a for a, due in self._due.items() if due <= time.monotonic()]:
                del self._due[attempt]
                self._kill(attempt)
        for attempt in [*self._pids]:
            self._kill(attempt)

    def _take_order(self) -> bool:
        """Do the next thing asked for; ``False``: nobody asks any more."""
        order, fds, _, _ = socket.recv_fds(self._end, ORDER.size, 1)
        if len(order) < ORDER.size:
            return False
        what, attempt, seconds = ORDER.unpack(order)
        if what == START:
            self._start(attempt, fds[0], seconds or None)
        elif what == END:
            self._due[attempt] = time.monotonic() + GRACE
        else:
            self._kill(attempt)
        return True

    def _start(self, attempt: int, fd: int, seconds: int | None) -> None:
        if pid := os.fork():
            os.close(fd)
            self._pids[attempt] = pid
            return
        code = 1
        try:
            self._be(fd, seconds)
            code = 0
        finally:
            os._exit(code)

    def _be(self, fd: int, seconds: int | None) -> None:
        """Be the process of an attempt."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        self._end.detach()
        os.dup2(fd, 3)
        os.closerange(4, 1 << 16)
        line, find = Line(socket.socket(fileno=3)), self._find
        walls.inner(self._ground, seconds)
        attend(line, find)

    def _reap(self) -> None:
        numbers = {pid: attempt for attempt, pid in self._pids.items()}
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = found
                attempt = numbers.get(pid)
                if attempt is None:  # left by a learner, where nothing keeps it from starting one
                    continue
                del self._pids[attempt]
                self._due.pop(attempt, None)
                self._ended.append(ENDED.pack(attempt, status))

    def _tell(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._ended:
                self._end.send(self._ended[0], socket.MSG_DONTWAIT)
                self._ended.popleft()

    def _kill(self, attempt: int) -> None:
        pid = self._pids.get(attempt)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):  # before it has a group of its own
                os.kill(pid, signal.SIGKILL)
