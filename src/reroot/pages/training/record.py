"""Training runs as one small table: curves to keep and to give away, without checkpoints and models.

One row per line of a journal. ``line`` and ``config`` hold everything, as JSON; the other columns
are what most readers want of them:

run, arm, command, name, step, tokens    of every row
root, prefix, zero_variance, groups, start   of steps: mean rewards, groups, start tokens
root_pass, prefix_pass                   of evaluations: pass@1
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from ...errors import RunFolderError
from ...runs.folder import write_table
from ...runs.tables import read_parquet
from .data import TrainingRun, checked_line, training_run

SUFFIX = ".parquet"

_TEXTS = ("run", "arm", "command", "name")
_COUNTS = ("step", "tokens", "zero_variance", "groups")
_RATES = ("root", "prefix", "start", "root_pass", "prefix_pass")
_JSON = ("line", "config")


def is_record(path: Path) -> bool:
    """Whether ``path`` names a record, not a run folder."""
    return path.suffix == SUFFIX and not path.is_dir()


def write_record(runs: Sequence[TrainingRun], out: str | Path) -> Path:
    """Write training runs as one Parquet file.

    Raises:
        RunFolderError: two runs have the same folder name, ``out`` is no name of a record, or it
            can't be written.
    """
    path = Path(out)
    if not is_record(path):
        raise RunFolderError(f"a record is a file that ends in {SUFFIX}, got {str(path)!r}")
    names = [run.folder.name for run in runs]
    if len(set(names)) < len(names):
        raise RunFolderError(f"the runs of a record need different folder names, got {names}")
    kinds = {pl.String: (*_TEXTS, *_JSON), pl.Int64: _COUNTS, pl.Float64: _RATES}
    schema: dict[str, Any] = {name: kind for kind, names in kinds.items() for name in names}
    table = pl.DataFrame([row for run in runs for row in _rows(run)], schema=schema)
    write_table(path, table)
    return path


def _rows(run: TrainingRun) -> list[dict[str, Any]]:
    shared = {"run": run.folder.name, "arm": run.arm, "command": run.config.get("command")}
    shared["config"] = json.dumps(run.config, ensure_ascii=False)
    last = [] if run.end is None else [run.end]
    return [
        {**shared, "line": json.dumps(line, ensure_ascii=False), **_numbers(line)}
        for line in (*run.evaluations[:1], *run.steps, *run.evaluations[1:], *run.events, *last)
    ]


def _numbers(line: dict[str, Any]) -> dict[str, Any]:
    found = {key: line.get(key) for key in ("name", *_COUNTS)}
    if line["name"].startswith("step/"):
        return found | {key: line[key] for key in ("root", "prefix", "start")}
    if line["name"].startswith("eval/"):
        return found | {f"{key}_pass": line[key].get(1) for key in ("root", "prefix")}
    return found


def read_record(path: Path) -> list[TrainingRun]:
    """The runs of a record, in its order.

    Raises:
        RunFolderError: it cannot be read, or is not what ``write_record`` writes.
    """
    table = read_parquet(path)
    if not {"run", "config", "line"} <= set(table.columns):
        raise RunFolderError(f"{path} is no record of training runs: it has other columns")
    runs = [_run(path, part) for part in table.partition_by("run", maintain_order=True)]
    if not runs:
        raise RunFolderError(f"{path} is a record of no training run")
    return runs


def _run(path: Path, rows: pl.DataFrame) -> TrainingRun:
    name = rows["run"][0]
    try:
        lines = [checked_line(json.loads(text)) for text in rows["line"]]
        config = json.loads(rows["config"][0])
    except (ValueError, TypeError) as error:
        raise RunFolderError(f"{path}, run {name!r}: not of a training run: {error}") from None
    return training_run(path / name, config, lines)
