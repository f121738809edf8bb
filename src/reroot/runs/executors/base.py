"""What an executor is: batches of keyed work go out, results come back in any order, workers may die.

Work must be a function of its payload alone: it is done again where a worker died with it, and on a cluster
perhaps twice at once. Its key makes that safe: each key has one result, whatever happened on the way.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from ...errors import WorkerDied

TRIES = 3
"""Workers that may die with one piece of work before it is given up."""
_LOOK = 0.5
"""Seconds after which a wait is interrupted, as Ctrl-C is heard between waits alone."""

Work = Callable[[Sequence[Any]], Sequence[Any]]
"""Payloads of a batch → the result of each, in their order."""
Begin = Callable[[], Work]
"""Makes a worker's function, once in each worker: what it holds (a generator, say) stays there. Picklable, as
are payloads and results."""
Batch = Sequence[tuple[str, Any]]
"""(key, payload) of what one worker is given at a time."""


class Done(NamedTuple):
    """A result.

    Attributes:
        key: of the work.
        value: what the worker's function gave; ``None`` if it is lost.
        lost: how the last worker died, where ``TRIES`` have died with this work; else empty.
    """

    key: str
    value: Any
    lost: str = ""


class Pool(Protocol):
    """Workers that have begun, or begin when there is work."""

    def results(self, batches: Iterable[Batch]) -> Iterator[Done]:
        """The results of all batches, as they come. A batch is taken when a worker is free for it; a caller
        that leaves the pool drops what is under way.

        Raises:
            WorkerDied: workers die before they begin.
            Exception: what ``Begin`` or ``Work`` raised, as it was.
        """
        ...


class Executor(Protocol):
    """Makes pools."""

    @property
    def workers(self) -> int:
        """Most workers of a pool."""
        ...

    @property
    def here(self) -> bool:
        """Whether its one worker is this process: nothing that it dies of is survived."""
        ...

    def pool(self, begin: Begin) -> AbstractContextManager[Pool]:
        """Workers that end with the context, with this process, and after an error at once."""
        ...


class Event(NamedTuple):
    """What became of a worker: it is ready, has done its batch (value: results), has raised (value: the
    exception), or has died (value: how)."""

    worker: int
    kind: Literal["ready", "done", "raised", "died"]
    value: Any = None


class Crew(Protocol):
    """The workers themselves: what executors differ in."""

    def hire(self) -> int:
        """Start a worker; its number. It is heard of when it is ready, or has died."""
        ...

    def give(self, worker: int, payloads: Sequence[Any]) -> None:
        """Hand a batch to a worker that is ready."""
        ...

    def events(self, seconds: float) -> Sequence[Event]:
        """What has happened; waits until something has, at most so long."""
        ...


@dataclass(slots=True)
class CrewPool:
    """A pool of workers of which any may die at any moment.

    What a dead worker was given is done again, each piece by itself, so that one that kills its worker is found
    and takes nothing else with it. Workers are started when there is work for them.

    Args:
        crew: the workers.
        size: most of them at a time.
    """

    crew: Crew
    size: int
    _idle: list[int] = field(default_factory=list[int])
    _starting: set[int] = field(default_factory=set[int])
    _busy: dict[int, Batch] = field(default_factory=dict[int, Batch])
    _waiting: deque[Batch] = field(default_factory=deque[Batch])
    _deaths: Counter[str] = field(default_factory=Counter[str])
    _failed_starts: int = 0

    def results(self, batches: Iterable[Batch]) -> Iterator[Done]:
        """See ``Pool``."""
        queue = iter(batches)
        self._hand_out(queue)
        while self._busy or self._waiting:
            for event in self.crew.events(_LOOK):
                yield from self._heard(event)
            self._hand_out(queue)

    def _hand_out(self, queue: Iterator[Batch]) -> None:
        free = self.size - len(self._busy)
        while len(self._waiting) < free and (batch := next(queue, None)) is not None:
            self._waiting.append(batch)
        while self._idle and self._waiting:
            worker, batch = self._idle.pop(), self._waiting.popleft()
            self._busy[worker] = batch
            self.crew.give(worker, [payload for _, payload in batch])
        while len(self._starting) < min(len(self._waiting), self.size - len(self._busy)):
            self._starting.add(self.crew.hire())

    def _heard(self, event: Event) -> Iterator[Done]:
        if event.kind == "raised":
            raise event.value
        if event.kind == "died":
            yield from self._mourn(event)
            return
        if event.kind == "ready":
            self._starting.discard(event.worker)
            self._failed_starts = 0
        else:
            keys = (key for key, _ in self._busy.pop(event.worker))
            yield from map(Done, keys, event.value)
        self._idle.append(event.worker)

    def _mourn(self, event: Event) -> Iterator[Done]:
        if event.worker in self._starting:
            self._starting.remove(event.worker)
            self._failed_starts += 1
            if self._failed_starts >= TRIES:
                raise WorkerDied(f"{TRIES} workers in a row died as they began: {event.value}")
        elif event.worker in self._idle:
            self._idle.remove(event.worker)
        batch = self._busy.pop(event.worker, ())
        for key, payload in reversed(batch):
            self._deaths[key] += 1
            if self._deaths[key] < TRIES:
                self._waiting.appendleft([(key, payload)])
            else:
                yield Done(key, None, f"{TRIES} workers died with it, the last one {event.value}")


def singly(work: Iterable[tuple[str, Any]]) -> Iterator[Batch]:
    """Batches of one."""
    return ([piece] for piece in work)
