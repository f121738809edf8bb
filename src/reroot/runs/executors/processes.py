"""Processes of this machine, which end with the one that started them, however it ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any

from .base import Batch, Begin, CrewPool, Done, Event, Pool, Work
from .raised import as_raised


@dataclass(frozen=True, slots=True)
class Processes:
    """An executor of processes of this machine; one alone is this process.

    Args:
        workers: most processes.
    """

    workers: int

    @property
    def here(self) -> bool:
        """See ``Executor``."""
        return self.workers == 1

    @contextmanager
    def pool(self, begin: Begin) -> Iterator[Pool]:
        """See ``Executor``.

        Workers hold the reading end of a pipe that this process alone can write to: it closes when this
        process is killed, and is closed when the context is left by an error or by Ctrl-C, and either ends
        them at once.
        """
        if self.here:
            yield _Here(begin())
            return
        context = multiprocessing.get_context("spawn")  # learners run in threads, which do not fork
        ended, alive = context.Pipe(duplex=False)
        crew = _Crew(begin, ended)
        with ended, alive:
            try:
                yield CrewPool(crew, self.workers)
                crew.dismiss()
            finally:
                alive.close()  # what is being worked on is of no use any more
                crew.join()


@dataclass(frozen=True, slots=True)
class _Here:
    work: Work

    def results(self, batches: Iterable[Batch]) -> Iterator[Done]:
        for batch in batches:
            found = self.work([payload for _, payload in batch])
            yield from map(Done, (key for key, _ in batch), found)


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    connection: Connection[Any, Any]
    ready: bool = False


class _Crew:
    def __init__(self, begin: Begin, ended: Connection[Any, Any]) -> None:
        self._begin, self._ended = begin, ended
        self._workers: dict[int, _Worker] = {}
        self._hired = 0

    def hire(self) -> int:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        resource_tracker.ensure_running()  # its start lets Ctrl-C in again: not while a worker starts
        process = context.Process(target=_serve, args=(there, self._ended, self._begin))
        with there, _deaf_to_ctrl_c():
            process.start()
        self._hired += 1
        self._workers[self._hired] = _Worker(process, here)
        return self._hired

    def give(self, worker: int, payloads: Sequence[Any]) -> None:
        with suppress(OSError):  # it has died, which is heard as an event
            self._workers[worker].connection.send(payloads)

    def events(self, seconds: float) -> Sequence[Event]:
        at = {worker.connection: number for number, worker in self._workers.items()}
        # Polars makes waits go on after Ctrl-C: one without an end would not hear it
        return [self._heard(at[one]) for one in connection.wait(list(at), seconds)]  # type: ignore[index]

    def _heard(self, number: int) -> Event:
        worker = self._workers[number]
        try:
            kind, value = worker.connection.recv()
        except (EOFError, OSError):
            del self._workers[number]
            worker.connection.close()
            worker.process.join()
            return Event(number, "died", _ending(worker.process.exitcode))
        worker.ready = True
        return Event(number, kind, value)

    def dismiss(self) -> None:
        """Let those that wait for work end by themselves."""
        for worker in self._workers.values():
            worker.connection.close()
        for worker in self._workers.values():
            if worker.ready:
                worker.process.join()

    def join(self) -> None:
        """Wait for all, which have been told to end."""
        for worker in self._workers.values():
            worker.connection.close()
            worker.process.join()


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return f"of {signal.Signals(-code).name}"
    return f"with exit code {code}"


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Processes started here never hear it: it is for this one, which hears it afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# ---- in a worker ---------------------------------------------------------------------------------


def _serve(here: Connection[Any, Any], ended: Connection[Any, Any], begin: Begin) -> None:
    """One thread for arithmetic, and one that waits for the end."""
    os.environ["OMP_NUM_THREADS"] = "1"
    threading.Thread(target=_end_with, args=(ended,), daemon=True).start()
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # there is no more work
        try:
            work = begin()
        except BaseException as error:
            here.send(("raised", as_raised(error)))
            return
        here.send(("ready", None))
        while True:
            here.send_bytes(_answer(work, here.recv()))


def _answer(work: Work, payloads: Sequence[Any]) -> Any:
    try:
        return ForkingPickler.dumps(("done", list(work(payloads))))
    except BaseException as error:
        sys.stdout.flush()
        return ForkingPickler.dumps(("raised", as_raised(error)))


def _end_with(ended: Connection[Any, Any]) -> None:
    ended.poll(None)
    os._exit(1)
