"""The run's side of a launcher: it is started, told what to start, and asked what has ended."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

from ...errors import RerootError
from . import launcher
from .settings import Isolation

_READY = 120.0  # seconds within which a launcher must have started
_ENDING = 10.0  # seconds that it may take to end
_SOURCE = Path(__file__).parents[3]


class Launcher:
    """A launcher of learners' processes; a context manager. One that dies is started again.

    Args:
        settings: what the processes may use.
        module: what it runs, as in ``python -m``.
        files: the learners' files.

    Attributes:
        walls: what stands around the processes (see ``walls``).

    Raises:
        RerootError: it cannot be started.
    """

    def __init__(self, settings: Isolation, module: str, files: Sequence[str]) -> None:
        self.settings, self._module, self._files = settings, module, list(files)
        self._numbers = itertools.count()
        self._begin()

    def _begin(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._end, self._ended = ours, dict[int, int]()
        command = [sys.executable, "-B", "-m", self._module, str(theirs.fileno())]
        with theirs:
            self._process = subprocess.Popen(
                command,
                env=_environment(),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the run's process
            )
        told = {"settings": asdict(self.settings), "files": self._files}
        try:
            ours.send(json.dumps(told).encode("utf-8"))
            ours.settimeout(_READY)
            packet = ours.recv(1 << 16)
        except OSError as error:
            packet, why = b"", str(error)
        else:
            why = "it ended before it was ready"
        ours.setblocking(False)
        if not packet:
            self.close()
            raise RerootError(
                f"the launcher of learners' processes could not be started: {why} ({self._module})"
            )
        self.walls: dict[str, str] = json.loads(packet)

    def start(self, seconds: int | None) -> tuple[int, socket.socket]:
        """Start the process of an attempt: its number, and this end of its line.

        Args:
            seconds: of processor time that it may take; ``None``: no limit.
        """
        number = next(self._numbers)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            try:
                if self._process.poll() is not None:
                    raise ConnectionError
                self._order(launcher.START, number, seconds, theirs)
            except OSError:
                self.close()
                self._begin()
                self._order(launcher.START, number, seconds, theirs)
        ours.setblocking(False)
        return number, ours

    def _order(
        self, what: int, number: int, seconds: int | None = None, line: socket.socket | None = None
    ) -> None:
        order = launcher.ORDER.pack(what, number, seconds or 0)
        self._take_ends()
        while True:
            try:
                fds = [] if line is None else [line.fileno()]
                socket.send_fds(self._end, [order], fds)
                return
            except BlockingIOError:  # it has more to do than it has done
                self._take_ends()
                select.select([], [self._end], [], 0.1)

    def end(self, number: int, kill: bool = False) -> None:
        """Have the process of an attempt end: soon by itself, or else now, by a signal."""
        if self._ended.pop(number, None) is None:
            with contextlib.suppress(OSError):
                self._order(launcher.KILL if kill else launcher.END, number)

    def status(self, number: int, wait: float = 5.0) -> int | None:
        """How the process of an attempt has ended (as ``os.waitpid`` tells it), waiting for it."""
        until = time.monotonic() + wait
        while number not in self._ended and time.monotonic() < until:
            select.select([self._end], [], [], max(0.0, until - time.monotonic()))
            if not self._take_ends():
                break
        return self._ended.pop(number, None)

    def _take_ends(self) -> bool:
        """Note which processes have ended; ``False``: the launcher itself has."""
        with contextlib.suppress(BlockingIOError):
            while True:
                try:
                    packet = self._end.recv(64)
                except ConnectionError:
                    return False
                if not packet:
                    return False
                number, status = launcher.ENDED.unpack(packet)
                self._ended[number] = status
        return True

    def close(self) -> None:
        """End it and every process that it has started."""
        self._end.close()
        try:
            self._process.wait(_ENDING)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Launcher:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _environment() -> dict[str, str]:
    """All that a learner's process is told of the user's: nothing but where reroot is."""
    alone = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(_SOURCE),
        **dict.fromkeys(alone, "1"),  # and no threads before it forks
    }
