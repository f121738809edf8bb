"""Rows of experiments as a table that is kept: ``results.parquet``, also of a folder that is not finished."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path

from ..errors import InvalidInput, RunFolderError
from ..runs.folder import JOURNAL, read_config, read_journal, write_table
from ..runs.tables import read_parquet
from .base import Experiment, Row


def write_rows(file: Path, rows: Mapping[str, Sequence[Row]]) -> None:
    """Write every row with its experiment; columns that a row lacks are null.

    Args:
        file: a .parquet.
        rows: experiment id → rows.

    Raises:
        InvalidInput: there are no rows.
        RunFolderError: the file cannot be written.
    """
    import polars as pl

    tables = [
        pl.DataFrame([_flat(row) for row in found], infer_schema_length=None).select(
            pl.lit(id).alias("experiment"), pl.all()
        )
        for id, found in rows.items()
        if found
    ]
    if not tables:
        raise InvalidInput("the experiments measured nothing")
    write_table(file, pl.concat(tables, how="diagonal_relaxed"))


def read_rows(record: Path) -> dict[str, list[Row]]:
    """Experiment id → rows; columns that none of its rows has are left out, and what a row lacks of the
    others is ``None``.

    Raises:
        RunFolderError: not such a table.
    """
    table = read_parquet(record)
    if "experiment" not in table.columns:
        raise RunFolderError(
            f"{record} holds no rows of experiments: it has no column 'experiment'"
        )
    found: dict[str, list[Row]] = {}
    for (id,), part in table.partition_by("experiment", as_dict=True).items():
        known = [c for c in part.columns if c != "experiment" and part[c].null_count() < len(part)]
        rows = part.select(known).to_dicts()
        found[str(id)] = [{k: _nested(v) for k, v in row.items()} for row in rows]
    return found


def rows_of_settings(
    record: Path, experiments: Sequence[Experiment]
) -> dict[tuple[str, int], list[Row]]:
    """(experiment id, number of a setting) → its rows in a record.

    Raises:
        RunFolderError: not such a table.
        InvalidInput: rows of a setting that is another one now, or is none; it is named.
    """
    known = read_rows(record)
    found: dict[tuple[str, int], list[Row]] = {}
    for experiment in experiments:
        for row in known.get(experiment.id, ()):
            number = row.get("seed")
            if not isinstance(number, int) or not 0 <= number < len(experiment.settings):
                raise InvalidInput(
                    f"{record}: {experiment.id}/{number} is no setting of this version"
                )
            setting = json.loads(json.dumps(dict(experiment.setting(number))))
            for name, value in setting.items():
                if row.get(name) != value:
                    raise InvalidInput(
                        f"{record}: {experiment.id}/{number} is of another setting: {name} is "
                        f"{row.get(name)!r} there and {value!r} here"
                    )
            found.setdefault((experiment.id, number), []).append(row)
    return found


def keep_rows(folder: Path, record: Path) -> tuple[int, int]:
    """Keep what a reproduction has measured so far, in the order of its settings.

    The folder may be in use: a reproduction that still runs goes on.

    Args:
        folder: of a reproduction, finished or not.
        record: a .parquet to write.

    Returns:
        (settings that are kept, settings of the reproduction).

    Raises:
        RunFolderError: not the folder of a reproduction, or ``record`` cannot be written.
        InvalidInput: nothing is measured yet.
    """
    names = list(read_config(folder).get("settings", ()))
    lines = read_journal(folder / JOURNAL, itemgetter("name"))
    done = [name for name in names if name in lines]
    rows: dict[str, list[Row]] = {}
    for name in done:
        rows.setdefault(name.partition("/")[0], []).extend(lines[name]["rows"])
    write_rows(record, rows)
    return len(done), len(names)


def _flat(row: Row) -> Row:
    """A row whose lists and records are JSON text."""
    return {
        name: json.dumps(value) if isinstance(value, (list, dict)) else value
        for name, value in row.items()
    }


def _nested(value: object) -> object:
    """The inverse of what ``_flat`` does to a value."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        return json.loads(value)
    return value
