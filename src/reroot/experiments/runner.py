"""``reroot.reproduce``: measure experiments, in parallel and resumably, and write their page."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from .._version import __version__
from ..checks import check_int
from ..errors import RunFolderError, WorkerDied
from ..runs.executors.base import Executor, Work, singly
from ..runs.executors.processes import Processes
from ..runs.folder import (
    RESULTS,
    SUMMARY,
    JournalFolder,
    read_config,
    write_json,
)
from .base import Check, Experiment, Row
from .records import read_rows, rows_of_settings, write_rows
from .suite import get_experiment, usual

PAGE = "report.html"


@dataclass(frozen=True, slots=True)
class Reproduction:
    """A finished reproduction.

    Attributes:
        folder: the run folder, or the record (its ``results.parquet``) that it was read from.
        rows: experiment id → measured rows.
        checks: experiment id → what they bear out.
        summary: the content of ``summary.json``.
    """

    folder: Path
    rows: dict[str, list[Row]]
    checks: dict[str, list[Check]]
    summary: dict[str, Any]

    @property
    def holds(self) -> bool:
        """Whether every check holds."""
        return all(check.holds for checks in self.checks.values() for check in checks)

    @property
    def page(self) -> Path:
        """Where its page is: in its folder, or beside its record."""
        return self.folder / PAGE if self.folder.is_dir() else self.folder.with_suffix(".html")


def reproduce(
    ids: str | Sequence[str] = (),
    *,
    out: str | Path,
    quick: bool = False,
    workers: int | None = None,
    executor: Executor | None = None,
    known: str | Path | None = None,
    on_start: Callable[[int, int], None] = lambda total, done: None,
    on_setting: Callable[[str, float], None] = lambda name, seconds: None,
) -> Reproduction:
    """Measure what experiments claim, and check it.

    Args:
        ids: experiments, as in ``"barrier"``; empty: all but those that take long.
        out: run folder; a folder of the same experiments is continued.
        quick: fewer and smaller settings.
        workers: processes; ``None``: one per core. Changes no result.
        executor: measures in place of processes of this machine (see ``executor_of``).
        known: a ``results.parquet`` that was kept: settings whose rows it holds are taken from it
            and not measured.
        on_start: called with the number of settings and how many are measured already.
        on_setting: called with the name of a setting and its seconds when it is measured.

    Raises:
        InvalidInput: an unknown experiment, or ``known`` has rows of other settings.
        RunFolderError: ``out`` holds another run or cannot be written, or ``known`` cannot be read.
        WorkerDied: settings whose workers die; what else there is has been measured.
    """
    names = [ids] if isinstance(ids, str) else list(ids) or usual()
    experiments = [get_experiment(name) for name in dict.fromkeys(names)]
    workers = check_int("workers", os.cpu_count() or 1 if workers is None else workers, 1)
    kept = {} if known is None else rows_of_settings(Path(known), experiments)
    folder = Path(out)
    with JournalFolder(folder, _config(experiments, quick), itemgetter("name")) as journal:
        jobs = [(e, n) for e in experiments for n in e.numbers(quick)]
        for e, n in jobs:
            if (e.id, n) in kept and _name(e, n) not in journal.lines:
                journal.add({"name": _name(e, n), "rows": kept[e.id, n], "seconds": 0.0})
        left = [(e, n) for e, n in jobs if _name(e, n) not in journal.lines]
        on_start(len(jobs), len(jobs) - len(left))
        lost: list[str] = []
        executor = executor or Processes(min(workers, max(1, len(left))))
        with executor.pool(_begin) as pool:
            for done in pool.results(singly((_name(e, n), (e.id, n)) for e, n in left)):
                if done.lost:
                    lost.append(f"{done.key}: {done.lost}")
                    continue
                rows, seconds = done.value
                journal.add({"name": done.key, "rows": rows, "seconds": round(seconds, 3)})
                on_setting(done.key, seconds)
        if lost:
            raise WorkerDied(f"settings that were not measured: {'; '.join(lost)}")
        lines = [journal.lines[_name(e, n)] for e, n in jobs]
        found = _reproduction(folder, experiments, quick, lines)
        write_rows(folder / RESULTS, found.rows)
        write_json(folder / SUMMARY, found.summary)
    return found


def load_reproduction(folder: str | Path) -> Reproduction:
    """A finished reproduction, from its folder.

    Raises:
        RunFolderError: not the folder of a reproduction, or of one that is not finished.
        InvalidInput: it holds an experiment that this version does not know.
    """
    path = Path(folder)
    config = read_config(path)
    names = list(config.get("settings", ()))
    experiments = [get_experiment(id) for id in dict.fromkeys(n.partition("/")[0] for n in names)]
    with JournalFolder(path, config, itemgetter("name")) as journal:
        missing = [name for name in names if name not in journal.lines]
        if config.get("kind") != "reproduce" or not names or missing:
            raise RunFolderError(
                f"{path} holds no finished reproduction ({len(missing)} settings are missing)"
            )
        # those it was made of: later versions may have more settings
        lines = [journal.lines[name] for name in names]
        return _reproduction(path, experiments, bool(config["quick"]), lines)


def load_rows(record: Path) -> Reproduction:
    """A reproduction from its rows alone, a ``results.parquet`` that was kept; seconds are not known.

    Raises:
        RunFolderError: not such a table, or rows that an experiment cannot make sense of.
        InvalidInput: it holds an experiment that this version does not know.
    """
    lines = [{"name": id, "rows": rows, "seconds": 0.0} for id, rows in read_rows(record).items()]
    experiments = [get_experiment(line["name"]) for line in lines]
    try:
        return _reproduction(record, experiments, False, lines)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        why = f"{type(error).__name__}: {error}"
        raise RunFolderError(f"{record} holds rows that do not belong together: {why}") from None


def _reproduction(
    folder: Path, experiments: Sequence[Experiment], quick: bool, lines: Sequence[dict[str, Any]]
) -> Reproduction:
    rows: dict[str, list[Row]] = {e.id: [] for e in experiments}
    seconds = dict.fromkeys(rows, 0.0)
    for line in lines:
        id = line["name"].partition("/")[0]
        rows[id] += line["rows"]
        seconds[id] += line["seconds"]
    checks = {e.id: e.check(rows[e.id]) for e in experiments}
    return Reproduction(folder, rows, checks, _summary(experiments, quick, checks, seconds))


def _name(experiment: Experiment, number: int) -> str:
    return f"{experiment.id}/{number}"


def _begin() -> Work:
    return lambda settings: [_measure(id, number) for id, number in settings]


def _measure(id: str, number: int) -> tuple[list[Row], float]:
    """The rows of one setting, as JSON keeps them, and the seconds they took."""
    experiment, started = get_experiment(id), time.perf_counter()
    setting = experiment.setting(number)
    rows = [{**setting, **row} for row in experiment.measure(setting)]
    return json.loads(json.dumps(rows)), time.perf_counter() - started


def _config(experiments: Sequence[Experiment], quick: bool) -> dict[str, Any]:
    return {
        "kind": "reproduce",
        "version": __version__,
        "quick": quick,
        "settings": {
            _name(e, n): dict(e.setting(n)) for e in experiments for n in e.numbers(quick)
        },
        "command": command([e.id for e in experiments], quick),
    }


def command(ids: Sequence[str], quick: bool) -> str:
    """The shell command that measures these experiments."""
    every = list(ids) == usual()
    return shlex.join(["reroot", "reproduce", *([] if every else ids), *["--quick"][: int(quick)]])


def _summary(
    experiments: Sequence[Experiment],
    quick: bool,
    checks: dict[str, list[Check]],
    seconds: dict[str, float],
) -> dict[str, Any]:
    return {
        "kind": "reproduce",
        "version": __version__,
        "quick": quick,
        "holds": all(c.holds for found in checks.values() for c in found),
        "command": command([e.id for e in experiments], quick),
        "seconds": round(sum(seconds.values()), 3),
        "experiments": [
            {
                "id": e.id,
                "claim": e.claim,
                "holds": all(c.holds for c in checks[e.id]),
                "checks": [asdict(c) for c in checks[e.id]],
                "seconds": round(seconds[e.id], 3),
                "command": command([e.id], quick),
            }
            for e in experiments
        ],
    }
