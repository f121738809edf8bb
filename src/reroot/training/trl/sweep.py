"""Sweeps: training runs of every arm at every horizon under every seed, in one folder.

config.json     settings of every run;  journal.jsonl   one line per finished run;  summary.json   the table
runs/NAME/      each run, a folder of ``reroot.train``, by itself resumable

A run ends at its steps, its budget, or as soon as an evaluation reaches its ``target``.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, cast

from ..._version import __version__
from ...checks import check_int
from ...errors import InvalidInput, RerootError
from ...runs.executors.base import Executor, Work, singly
from ...runs.executors.on_ray import OnRay
from ...runs.executors.processes import Processes
from ...runs.folder import SUMMARY, JournalFolder, read_config, write_json
from ...runs.shared import address_at_hand
from .config import make_config
from .train import train_run
from .yaml_files import read_yaml

RUNS = "runs"
_OWN = ("arms", "seeds", "horizons")
_NAME = re.compile(r"[\w.+-]{1,60}")
_MOST = 100_000  # runs


@dataclass(frozen=True, slots=True)
class SweepRun:
    """One run of a sweep: which, and the settings that ``reroot.train`` gets."""

    name: str
    arm: str
    horizon: int
    seed: int
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Swept:
    """A sweep.

    Attributes:
        folder: its folder.
        summary: the content of ``summary.json``: ``rows`` per arm and horizon, ``failed`` (run → why).
    """

    folder: Path
    summary: dict[str, Any]


def read_sweep(file: Path) -> list[SweepRun]:
    """The runs that a YAML file asks for: ``arms`` (name → settings), ``seeds`` (numbers, or how many) and
    ``horizons``; all else is a setting of every run. Every run's settings are checked.

    Raises:
        InvalidInput: no YAML, or an entry is not what is expected; it says which.
    """
    return sweep_runs(read_yaml(file), str(file))


def sweep_runs(values: Mapping[str, Any], source: str = "sweep") -> list[SweepRun]:
    """``read_sweep`` of what is read already; ``source`` is what errors name."""
    arms = values.get("arms")
    if not isinstance(arms, Mapping) or not arms:
        raise InvalidInput(f"{source}: arms must map names to settings, got {arms!r:.200}")
    shared = {name: value for name, value in values.items() if name not in _OWN}
    for name in ("seed", "horizon"):
        if name in shared:
            raise InvalidInput(f"{source}: {name} is {shared[name]!r}: a sweep has {name}s")
    horizons, seeds = _numbers(source, "horizons", values), _numbers(source, "seeds", values)
    if (count := len(arms) * len(horizons) * len(seeds)) > _MOST:
        raise InvalidInput(f"{source}: it asks for {count:,} runs; at most {_MOST:,}")
    return [
        _sweep_run(source, arm, settings, shared, horizon, seed)
        for arm, settings in cast("Mapping[Any, Any]", arms).items()
        for horizon in horizons
        for seed in seeds
    ]


def _numbers(source: str, name: str, values: Mapping[str, Any]) -> list[int]:
    given, least = values.get(name), int(name == "horizons")
    if name == "seeds" and isinstance(given, int):
        given = list(range(check_int(f"{source}: seeds", given, 1, _MOST)))
    if not isinstance(given, list) or not given:
        example = "[0, 1, 2] or 3" if name == "seeds" else "[4, 8]"
        raise InvalidInput(f"{source}: {name} must be as in {example}, got {given!r:.200}")
    numbers = [check_int(f"{source}: {name}", n, least) for n in cast("list[Any]", given)]
    if len(set(numbers)) < len(numbers):
        raise InvalidInput(f"{source}: {name} repeat: {numbers}")
    return numbers


def _sweep_run(
    source: str, arm: Any, settings: Any, shared: Mapping[str, Any], horizon: int, seed: int
) -> SweepRun:
    if not isinstance(arm, str) or not _NAME.fullmatch(arm) or arm.startswith("."):
        raise InvalidInput(
            f"{source}: an arm's name is of letters, digits and _.+-, up to 60, got {arm!r:.200}"
            + (" (YAML reads it so: put it in quotes)" if not isinstance(arm, str) else "")
        )
    if not isinstance(settings, Mapping):
        raise InvalidInput(f"{source}: arm {arm} must map names to values, got {settings!r:.200}")
    own = cast("Mapping[str, Any]", settings)
    for name in own:
        if name in ("seed", "horizon", *_OWN):
            raise InvalidInput(f"{source}: arm {arm}: {name} is of the whole sweep")
    whole = {**shared, **own, "horizon": horizon, "seed": seed}
    try:
        make_config(whole)
    except InvalidInput as error:
        raise InvalidInput(f"{source}: arm {arm}, horizon {horizon}: {error}") from None
    return SweepRun(f"{arm}-H{horizon}-s{seed}", arm, horizon, seed, whole)


def run_sweep(
    runs: Sequence[SweepRun],
    out: str | Path,
    *,
    executor: Executor | None = None,
    on_start: Callable[[int, int], None] = lambda total, done: None,
    on_run: Callable[[str], None] = lambda note: None,
) -> Swept:
    """Make every run that is not finished; runs that failed are made again.

    Args:
        runs: of ``read_sweep``.
        out: the sweep's folder; a folder of the same sweep is continued, each run from its last checkpoint.
        executor: trains in its workers (``None``: in this process).
        on_start: called with the number of runs and how many are finished.
        on_run: called with a line on each run as it ends.

    Raises:
        InvalidInput: there are no runs, or two of one name; or ``out`` is the working copy of an address and runs
            are trained on a cluster, whose nodes do not see it.
        RunFolderError: ``out`` holds another run or cannot be written.
    """
    folder, config = Path(out), _config(runs)
    cluster = isinstance(executor, OnRay) and executor.address != "local"
    if cluster and (address := address_at_hand(out)):
        raise InvalidInput(
            f"the nodes of a cluster write the folders of their runs themselves: a sweep there needs a path that they "
            f"all see, got {address}"
        )
    with JournalFolder(folder, config, itemgetter("name"), (RUNS,)) as journal:
        ended = {name for name, line in journal.lines.items() if not line["failed"]}
        left = [run for run in runs if run.name not in ended]
        on_start(len(runs), len(runs) - len(left))
        work = ((r.name, (dict(r.settings), str((folder / RUNS / r.name).resolve()))) for r in left)
        with (executor or Processes(1)).pool(_begin) as pool:
            for done in pool.results(singly(work)):
                made = done.value or {"failed": f"WorkerDied: {done.lost}"}
                journal.add({"name": done.key, "failed": "", **made})
                on_run(f"{done.key}: {made.get('failed') or made['reason']}")
        summary = sweep_summary(config, journal.lines)
        write_json(folder / SUMMARY, summary)
    return Swept(folder, summary)


def load_sweep(folder: str | Path) -> Swept:
    """A sweep from its folder, as far as it is made.

    Raises:
        RunFolderError: it is none.
    """
    path = Path(folder)
    config = read_config(path)
    with JournalFolder(path, config, itemgetter("name"), (RUNS,)) as journal:
        return Swept(path, sweep_summary(config, journal.lines))


def _config(runs: Sequence[SweepRun]) -> dict[str, Any]:
    names = [run.name for run in runs]
    if not names or len(set(names)) < len(names):
        raise InvalidInput(f"a sweep needs runs of different names, got {names}")
    told = {
        r.name: {
            "arm": r.arm,
            "horizon": r.horizon,
            "seed": r.seed,
            "settings": make_config(r.settings).identity(),
        }
        for r in runs
    }
    return {"kind": "sweep", "version": __version__, "runs": told}


def _begin() -> Work:
    return lambda payloads: [_trained(settings, Path(folder)) for settings, folder in payloads]


def _trained(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """How a run ended; an error is its own, and the rest of the sweep goes on."""
    try:
        found = train_run(make_config(settings), folder)
    except (RerootError, ArithmeticError, ValueError, RuntimeError) as error:
        return {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"}
    evaluation = found["evaluation"]
    return {
        "reason": found["reason"],
        "steps": found["steps"],
        "tokens": found["spent"]["tokens"],
        "pass_at_1": None if evaluation is None else evaluation["root"]["1"],
    }


def sweep_summary(config: Mapping[str, Any], lines: Mapping[str, Any]) -> dict[str, Any]:
    """One row per arm and horizon: runs planned, made, failed and at their target; medians over those that are
    made of steps, generated tokens and the last root pass@1."""
    places: dict[tuple[str, int], list[str]] = {}
    for name, run in config["runs"].items():
        places.setdefault((run["arm"], run["horizon"]), []).append(name)
    rows = [_row(*place, [lines.get(name) for name in names]) for place, names in places.items()]
    failed = {name: line["failed"] for name, line in lines.items() if line["failed"]}
    return {"kind": "sweep", "version": __version__, "rows": rows, "failed": failed}


def _row(arm: str, horizon: int, lines: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    known = [line for line in lines if line is not None]
    made = [line for line in known if not line["failed"]]
    passes = [line["pass_at_1"] for line in made if line["pass_at_1"] is not None]
    return {
        "arm": arm,
        "horizon": horizon,
        "planned": len(lines),
        "made": len(made),
        "failed": len(known) - len(made),
        "target": sum(line["reason"] == "target" for line in made),
        "steps": statistics.median(line["steps"] for line in made) if made else None,
        "tokens": statistics.median(line["tokens"] for line in made) if made else None,
        "pass_at_1": statistics.median(passes) if passes else None,
    }
