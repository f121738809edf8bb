"""Calls of other people's functions: awaited, limited in time, on threads that no exit waits for."""

from __future__ import annotations

import asyncio
import inspect
import multiprocessing
import os
import pickle
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import lru_cache, partial
from queue import SimpleQueue
from typing import Any

from .. import specs
from ..errors import InvalidInput, need

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

    def start(self, awaitable: Awaitable[Any]) -> Future[Any]:
        """Begin to await."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, daemon=True).start()
        return asyncio.run_coroutine_threadsafe(_await(awaitable), loop)

    def result(self, future: Future[Any], limit: float | None) -> Any:
        """What was awaited; the limit counts from now on, as before it others had their turns."""
        try:
            return _within(future, limit)
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


async def _called(function: Callable[..., Any], argument: object) -> Any:
    return await function(argument)  # what calling it raises is told with the results


async def _await(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


_caller = _Caller()
os.register_at_fork(after_in_child=_caller.__init__)  # threads are not forked
_workers: list[Workers] = []  # the worker processes in use, the latest last


@dataclass(frozen=True, slots=True)
class Begun:
    """Calls that were begun.

    Attributes:
        results: waits for all results, in order; raises what a call raised, ``OverTime`` if it took
            longer than it may: what it does then goes on where no exit waits for it. A number of
            seconds as its argument is in place of the limit.
        elsewhere: whether they go on by themselves, so that other work can be done meanwhile.
        futures: of those that do, one per call.
        limit: seconds after which whoever waits for them is to give them up; ``None``: never.
    """

    results: Callable[..., list[Any]]
    elsewhere: bool
    futures: Sequence[Future[Any]] = ()
    limit: float | None = None


def begin(
    function: Callable[..., Any],
    arguments: Sequence[Any],
    limit: float | None,
    awaited: bool = False,
) -> Begun:
    """Begin ``function(argument)`` of each argument, awaited where it is awaitable.

    Args:
        function: a function or an ``async def``.
        arguments: one for each call.
        limit: seconds that each may take; ``None``: as long as it likes, in this thread if it is not
            awaited. Everything awaited goes on together, on one event loop.
        awaited: whether what the function returns is awaited; found out where it is plain.
    """
    if awaited or is_async(function):
        started = [_caller.start(_called(function, argument)) for argument in arguments]
        return Begun(partial(_awaited, started, limit), True, started, limit)
    if _workers:  # who keep the limit themselves
        futures = [_workers[-1].submit(function, argument, limit) for argument in arguments]
        return Begun(lambda _=None: [_of_worker(future) for future in futures], True, futures)
    return Begun(lambda _=None: [_here(function, argument, limit) for argument in arguments], False)


def elsewhere(function: Callable[..., Any]) -> bool:
    """Whether calls of ``function`` that are begun now would go on by themselves."""
    return is_async(function) or bool(_workers)


def _awaited(
    started: Sequence[Future[Any]], limit: float | None, wait: float | None = None
) -> list[Any]:
    return [_caller.result(future, limit if wait is None else wait) for future in started]


def is_async(function: Callable[..., Any]) -> bool:
    """Whether ``function``, or what it wraps, is an ``async def`` or has one as its call."""
    if hasattr(function, "__wrapped__") or isinstance(function, partial):
        function = inspect.unwrap(function)
        return inspect.iscoroutinefunction(function) or _call_is_async(type(function))
    code = getattr(function, "__code__", None)  # asked at every call of a judge, so without inspect
    if code is not None:
        return bool(code.co_flags & inspect.CO_COROUTINE)
    return _call_is_async(type(function))


@lru_cache(maxsize=1024)
def _call_is_async(kind: type) -> bool:
    return inspect.iscoroutinefunction(kind.__call__)


def _here(function: Callable[..., Any], argument: object, limit: float | None) -> Any:
    said = function(argument) if limit is None else _caller.call(function, argument, limit)
    return _caller.result(_caller.start(said), limit) if hasattr(type(said), "__await__") else said


def _of_worker(future: Future[Any]) -> Any:
    try:
        return future.result()
    except TimeoutError as error:
        if hasattr(error, "traceback"):  # of the worker: the call's own
            raise
        raise OverTime from None


class Workers:
    """Processes that calls go to while it is a context: for judges that take much time of a CPU.

    Functions and arguments are pickled, those of files of the user's too. A call over its time ends
    with its process, which is replaced.

    Args:
        count: processes.

    Raises:
        MissingDependency: the packages pebble and cloudpickle are needed.
    """

    def __init__(self, count: int) -> None:
        need("tasks", "pebble", "cloudpickle")
        from pebble import ProcessPool

        context = multiprocessing.get_context("spawn")  # learners run in threads, which do not fork
        self._pool = ProcessPool(max_workers=count, context=context)

    def submit(self, function: Callable[..., Any], argument: object, limit: float | None) -> Any:
        """The future of ``function(argument)``.

        Raises:
            InvalidInput: the function cannot be sent to another process.
        """
        try:
            packed = _packed(function, argument)
        except Exception as error:
            raise InvalidInput(
                f"the judge {function!r} cannot go to a worker process: {type(error).__name__}: {error}"
            ) from error
        return self._pool.schedule(_unpacked, args=(packed,), timeout=limit)

    def __enter__(self) -> Workers:
        _workers.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _workers.remove(self)
        self._pool.stop()
        self._pool.join()


def _packed(function: Callable[..., Any], argument: object) -> bytes:
    """Pickled, by value what is of files of the user's: the worker has not imported them."""
    import cloudpickle

    own = [module for module in list(sys.modules.values()) if specs.is_own(module)]
    for module in own:
        cloudpickle.register_pickle_by_value(module)
    try:
        return cloudpickle.dumps((function, argument))
    finally:
        for module in own:
            cloudpickle.unregister_pickle_by_value(module)


def _unpacked(packed: bytes) -> Any:
    function, argument = pickle.loads(packed)
    said = function(argument)
    return asyncio.run(_await(said)) if hasattr(type(said), "__await__") else said
