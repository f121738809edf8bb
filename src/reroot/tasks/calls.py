"""Calls of other people's functions: awaited, limited in time, on threads that no exit waits for."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, Future
from functools import partial
from queue import SimpleQueue
from typing import Any

_Job = tuple[Future[Any], Callable[[], Any]]


class DaemonThreads(Executor):
    """An executor whose threads end with the process, whatever they are doing.

    Args:
        most: threads at a time; further work waits.
    """

    def __init__(self, most: int) -> None:
        self._most, self._count = most, 0
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._jobs.put((future, partial(fn, *args, **kwargs)))
        if not self._idle.acquire(blocking=False) and self._count < self._most:
            self._count += 1
            threading.Thread(target=_work, args=(self._jobs, self._idle), daemon=True).start()
        return future

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = False) -> None:
        """Let every thread end after what it is doing; nobody waits for them."""
        for _ in range(self._count):
            self._jobs.put(None)


def _work(jobs: SimpleQueue[_Job | None], idle: threading.Semaphore) -> None:
    while (job := jobs.get()) is not None:
        future, call = job
        if future.set_running_or_notify_cancel():
            try:
                result = call()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)
        del job, future, call
        idle.release()


class OverTime(Exception):
    """A call took longer than it may."""


class _Caller:
    """One thread for calls that have a time limit, and one event loop for all that is awaited.

    What went over its limit is left to itself, and the next call gets a new thread or loop.
    """

    def __init__(self) -> None:
        self._threads: list[DaemonThreads] = []  # none while it is in use
        self._loop: asyncio.AbstractEventLoop | None = None

    def call(self, function: Callable[..., Any], argument: object, limit: float) -> Any:
        thread = self._threads.pop() if self._threads else DaemonThreads(1)
        future = thread.submit(function, argument)
        try:
            return _within(future, limit)
        finally:
            if future.done():
                self._threads.append(thread)

    def wait(self, awaitable: Awaitable[Any], limit: float | None) -> Any:
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, daemon=True).start()
        try:
            return _within(asyncio.run_coroutine_threadsafe(_await(awaitable), loop), limit)
        except OverTime:
            self._loop = None  # it may be what is stuck
            raise


def _within(future: Future[Any], limit: float | None) -> Any:
    try:
        return future.result(limit)
    except TimeoutError:
        if future.done():  # the call's own TimeoutError
            raise
        future.cancel()
        raise OverTime from None


async def _await(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


_caller = _Caller()
os.register_at_fork(after_in_child=_caller.__init__)  # threads are not forked


def call(function: Callable[..., Any], argument: object, limit: float | None) -> Any:
    """``function(argument)``, awaited if it is awaitable.

    Args:
        function: a function or an ``async def``.
        argument: its argument.
        limit: seconds it may take; ``None``: as long as it likes, in this thread if it is not
            awaited. Everything awaited shares one event loop.

    Raises:
        OverTime: it took longer; what it does goes on in a thread that no exit waits for.
    """
    said = function(argument) if limit is None else _caller.call(function, argument, limit)
    return _caller.wait(said, limit) if hasattr(type(said), "__await__") else said
