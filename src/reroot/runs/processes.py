"""Work spread over processes that end with the one that spread it, however it ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, TypeVar

_R = TypeVar("_R")


@contextmanager
def spread(
    function: Callable[..., _R], jobs: Sequence[tuple[Any, ...]], processes: int
) -> Iterator[Iterator[tuple[tuple[Any, ...], _R]]]:
    """(job, ``function(*job)``) of each job as it is done; in this process if one is enough.

    Workers hold the reading end of a pipe that this process alone can write to: it closes when this
    process is killed, and is closed when the context is left by an error or by Ctrl-C, and either
    ends them at once.

    Args:
        function: of a module, as are its arguments and results: they are pickled.
        jobs: its arguments, in the order in which they are started.
        processes: most processes.
    """
    if processes == 1 or len(jobs) < 2:
        yield ((job, function(*job)) for job in jobs)
        return
    context = multiprocessing.get_context("spawn")  # learners run in threads, which do not fork
    ended, alive = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(ended,))
    with ended, alive, pool:
        try:
            with _deaf_to_ctrl_c():
                places = {pool.submit(function, *job): job for job in jobs}
            yield _as_done(places)
        except BaseException:
            alive.close()  # what is being worked on is of no use any more
            raise


def _as_done(places: dict[Future[_R], tuple[Any, ...]]) -> Iterator[tuple[tuple[Any, ...], _R]]:
    while places:  # Polars makes waits go on after Ctrl-C: one without an end would not hear it
        for done in wait(places, timeout=0.5, return_when=FIRST_COMPLETED).done:
            yield places.pop(done), done.result()


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Processes started here never hear it: it is for this one, which hears it afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(ended: Connection) -> None:
    """Set a worker up: one thread for arithmetic, and one that waits for the end."""
    os.environ["OMP_NUM_THREADS"] = "1"
    threading.Thread(target=_end_with, args=(ended,), daemon=True).start()


def _end_with(ended: Connection) -> None:
    ended.poll(None)
    os._exit(1)
