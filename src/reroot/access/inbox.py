"""What other threads have done for the runner: it is told through a file, so that one poll waits for
this and for all else."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any


class Inbox:
    """Actions that are due, as futures are done; a context manager.

    Attributes:
        fd: a file that can be read when something has come.
    """

    def __init__(self) -> None:
        self.fd, self._write = os.pipe()
        for end in (self.fd, self._write):
            os.set_blocking(end, False)
        self._due: deque[Callable[[], None]] = deque()
        self._told = self._closed = False
        self._lock = threading.Lock()  # nobody writes to a file of this number that is another's

    def expect(self, future: Future[Any], action: Callable[[], None]) -> None:
        """Have ``action`` among what ``take`` gives when the future is done, or cancelled."""
        future.add_done_callback(lambda _: self._note(action))

    def _note(self, action: Callable[[], None]) -> None:
        """In whatever thread the future was done."""
        self._due.append(action)
        if not self._told:
            self._told = True
            with self._lock, suppress(BlockingIOError):
                if not self._closed:
                    os.write(self._write, b"\0")

    def take(self) -> list[Callable[[], None]]:
        """The actions that are due, in the order in which their futures were done."""
        with suppress(BlockingIOError):
            os.read(self.fd, 4096)
        self._told = False  # from here on it is told again, and what came before is taken now
        return [self._due.popleft() for _ in range(len(self._due))]

    def __enter__(self) -> Inbox:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._closed = True
        os.close(self.fd)
        os.close(self._write)
