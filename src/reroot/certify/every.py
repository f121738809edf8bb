"""Many certificates at once, spread over processes, and their folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..checks import check_int
from ..errors import WorkerDied
from ..runs.executors.base import Executor, Work, singly
from ..runs.executors.processes import Processes
from ..runs.folder import JournalFolder
from .case import Sampled
from .cases import cases_of
from .check import certify
from .record import Record, record, summary

KIND = "certificates"


def certify_methods(
    methods: Sequence[str] = (),
    *,
    processes: int = 1,
    executor: Executor | None = None,
    on_start: Callable[[int, int], None] = lambda total, done: None,
    on_case: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """Check every case of some methods.

    Args:
        methods: registry names; empty: all that have a case.
        processes: most processes; they change no number but the seconds.
        executor: checks in place of processes of this machine (see ``executor_of``).
        on_start: called with the number of cases, and 0.
        on_case: called with the name of a case when it is done.

    Returns:
        The summary of ``record.summary``, JSON-able.

    Raises:
        InvalidInput: no case is about a method, or a check failed to run.
        WorkerDied: the workers of a case died.
    """
    check_int("processes", processes, 1)
    names = list(dict.fromkeys(methods or (case.method for case in cases_of())))
    cases = {name: cases_of(name) for name in names}
    jobs = [(name, i) for name in names for i in range(len(cases[name]))]
    # those that take longest first, so that no process is left with one at the end
    jobs.sort(key=lambda job: not isinstance(cases[job[0]][job[1]], Sampled))
    on_start(len(jobs), 0)
    found: dict[tuple[str, int], Record] = {}
    if len(jobs) < 2:  # to start a worker takes longer
        executor = Processes(1)
    executor = executor or Processes(min(processes, len(jobs)))
    with executor.pool(_begin) as pool:
        for done in pool.results(singly((f"{name}/{i}", (name, i)) for name, i in jobs)):
            if done.lost:
                raise WorkerDied(f"no certificate of case {done.key}: {done.lost}")
            (name, i), one = done.value
            found[name, i] = one
            on_case(f"{name} on {one['toy']}")
    return summary(names, {n: [found[n, i] for i in range(len(cases[n]))] for n in names})


def _begin() -> Work:
    """Certificates of cases, told by their places: cases hold functions, which do not travel."""
    return lambda places: [
        ((method, i), record(certify(cases_of(method)[i]))) for method, i in places
    ]


def certificates_folder(folder: str | Path, methods: Sequence[str]) -> JournalFolder:
    """The folder of certificates (no methods: of all), held while the context is; made if need be.

    Certificates of the same methods that are there will be replaced.

    Raises:
        RunFolderError: the folder holds anything else, is in use, or cannot be written.
    """
    return JournalFolder(folder, {"kind": KIND, "methods": sorted(methods) or "all"}, str)
