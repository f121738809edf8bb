"""Which call is sent next: depth first, so that a server's prefix cache holds what comes next."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

from .limits import Pace

_T = TypeVar("_T")
Key = tuple[int, ...]


class _Waiting(Generic[_T]):
    """A call that has not been sent; ordered by its tokens."""

    __slots__ = ("done", "key", "work")

    def __init__(
        self, key: Key, work: Callable[[], Awaitable[_T]], done: asyncio.Future[_T]
    ) -> None:
        self.key, self.work, self.done = key, work, done

    def __lt__(self, other: _Waiting[Any]) -> bool:
        return self.key < other.key


class DepthFirst:
    """Calls waiting in the order of their tokens, and workers that each walk their own part of it.

    A worker goes on with the call that follows its last one; a new one begins as far as can be from the
    others, so that no two compute the same prefixes.
    """

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._waiting: list[_Waiting[Any]] = []
        self._workers: set[asyncio.Task[None]] = set()
        self._idle: list[
            Key
        ] = []  # where workers that ran out of calls have been, the last one first used

    async def run(self, key: Key, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """The result of ``work``, begun when its turn has come."""
        item = _Waiting(key, work, asyncio.get_running_loop().create_future())
        insort(self._waiting, item)
        # workers begin after all that is submitted at once has been put in order
        asyncio.get_running_loop().call_soon(self._staff)
        try:
            return await item.done
        except asyncio.CancelledError:
            item.done.cancel()
            raise

    def _staff(self) -> None:
        """As many workers as there are places and calls."""
        wanted = min(self._pace.places - len(self._workers), len(self._waiting))
        for i in range(wanted):
            at = i * len(self._waiting) // wanted
            start = self._idle.pop() if self._idle and wanted == 1 else self._waiting[at].key
            task = asyncio.get_running_loop().create_task(self._work(start))
            self._workers.add(task)
            task.add_done_callback(self._workers.discard)

    async def _work(self, key: Key) -> None:
        while self._waiting and len(self._workers) <= self._pace.places:
            at = bisect_left(self._waiting, key, key=lambda w: w.key) % len(self._waiting)
            item = self._waiting.pop(at)
            key = item.key
            if item.done.cancelled():
                continue
            await _finish(item)
        self._idle = [*self._idle[-self._pace.most :], key]


async def _finish(item: _Waiting[Any]) -> None:
    """Run one call; when nobody waits for it any more, it is ended, and the connection with it."""
    task = asyncio.ensure_future(item.work())
    item.done.add_done_callback(lambda done: task.cancel() if done.cancelled() else None)
    try:
        result = await task
    except asyncio.CancelledError:
        if not item.done.cancelled():
            item.done.cancel()
            raise
    except Exception as error:
        if not item.done.done():
            item.done.set_exception(error)
    else:
        if not item.done.done():
            item.done.set_result(result)
