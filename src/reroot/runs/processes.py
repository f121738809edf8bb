"""Work spread over processes."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Any, TypeVar

_R = TypeVar("_R")


def spread(
    function: Callable[..., _R], jobs: Sequence[tuple[Any, ...]], processes: int
) -> Iterator[tuple[tuple[Any, ...], _R]]:
    """(job, ``function(*job)``) of each job as it is done; in this process if one is enough.

    Args:
        function: of a module, as are its arguments and results: they are pickled.
        jobs: its arguments, in the order in which they are started.
        processes: most processes.
    """
    if processes == 1 or len(jobs) < 2:
        for job in jobs:
            yield job, function(*job)
        return
    context = multiprocessing.get_context("spawn")  # learners run in threads, which do not fork
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_one_thread) as pool:
        pending: dict[Future[_R], tuple[Any, ...]] = {
            pool.submit(function, *job): job for job in jobs
        }
        try:
            while pending:
                for done in wait(pending, return_when=FIRST_COMPLETED).done:
                    yield pending.pop(done), done.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _one_thread() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
