"""The event loop of one learner, driven from outside, one burst of callbacks at a time.

``asyncio`` has no public way to run a loop "until nothing is ready" without entering and leaving
``run_forever``, which costs more than the callbacks of a learner. What is used here of its insides
(``_ready``, ``_scheduled``, ``_run_once``) is the same from Python 3.11 to 3.13.
"""
# pyright: reportAttributeAccessIssue=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
import math
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any, NamedTuple

from ..tasks.calls import DaemonThreads

CLEANUP = 1.0
"""Seconds that the tasks which a learner leaves behind may take to end once they are cancelled."""

_BURST = 1000  # callbacks that make each other ready for ever are left after so many rounds
_ENDINGS = 10  # how often a coroutine may refuse to be closed
_WORKERS = 32  # threads of one learner


class Parked(NamedTuple):
    """What a learner waits for that is not its session: a file to poll, or a moment.

    ``wake`` is of ``time.monotonic``.
    """

    fd: int
    wake: float


class Loop(asyncio.SelectorEventLoop):
    """An event loop that others run: ``burst`` by ``burst``, and polled by the runner between them.

    Threads of ``to_thread`` are daemons: work that never returns keeps no process from exiting.
    """

    def __init__(self) -> None:
        self._piped = False
        self._workers: DaemonThreads | None = None
        super().__init__()

    def burst(self, most: int = _BURST) -> None:
        """Run what is ready, and what that makes ready, for at most ``most`` rounds."""
        ready, hooks = self._ready, sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(self._asyncgen_firstiter_hook, self._asyncgen_finalizer_hook)
        self._thread_id = threading.get_ident()
        asyncio._set_running_loop(self)
        try:
            if self._scheduled or self._selector.get_map():
                self._stopping = True  # look at timers and files without waiting for them
                self._run_once()
            while ready and most > 0:
                most -= 1
                for _ in range(len(ready)):
                    handle = ready.popleft()
                    if not handle._cancelled:
                        handle._run()
        finally:
            self._thread_id = None
            asyncio._set_running_loop(None)
            sys.set_asyncgen_hooks(*hooks)

    def park(self) -> Parked | None:
        """What to wait for before the next burst; ``None``: something is ready now."""
        if not self._piped:  # threads wake this loop by it; until now nobody had to be woken
            self._piped = True
            self._make_self_pipe()
        if self._ready:
            return None
        wake = float(self._scheduled[0].when()) if self._scheduled else math.inf
        return Parked(int(self._selector.fileno()), math.inf if math.isnan(wake) else wake)

    def end(self) -> None:
        """Cancel every task, give them ``CLEANUP`` seconds, and close; whatever they do."""
        deadline, left = time.monotonic() + CLEANUP, self._pending()
        for _ in range(_ENDINGS):
            for task in left:
                quietly(asyncio.Task.cancel, task)
            while self._ready and time.monotonic() <= deadline:
                quietly(Loop.burst, self, 50)
            for task in left:
                quietly(task.exception)  # so that asyncio need not tell of it
            left = self._pending()
            if not left or time.monotonic() > deadline:
                break
        for task in left:
            quietly(_forsake, task)
        if self._workers is not None:
            self._workers.shutdown()
        quietly(Loop.close, self)

    def _pending(self) -> list[asyncio.Task[Any]]:
        with suppress(BaseException):  # what a learner has registered as a task
            return list(asyncio.all_tasks(self))
        return []

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        if executor is None:
            if self._workers is None:
                self._workers = DaemonThreads(_WORKERS)
            executor = self._workers
        return super().run_in_executor(executor, func, *args)

    def _make_self_pipe(self) -> None:
        self._ssock = self._csock = None
        if self._piped:
            super()._make_self_pipe()

    def _close_self_pipe(self) -> None:
        if self._csock is not None:
            super()._close_self_pipe()


def quietly(action: Callable[..., object], *args: object) -> None:
    """Do something of which a learner may have made anything."""
    with suppress(BaseException):
        action(*args)


def _forsake(task: asyncio.Task[Any]) -> None:
    """A task that does not end: close its coroutine, and do not complain about it later."""
    task._log_destroy_pending = False
    coroutine = task.get_coro()
    for _ in range(_ENDINGS):
        try:
            coroutine.close()  # type: ignore[union-attr]
            return
        except RuntimeError:  # it awaits something in a finally
            continue
