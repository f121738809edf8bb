"""The tables of run folders: their columns, how their rows are made, and how they are read."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..access.runner import Attempt
from ..contract import Contract, Control, Oracle
from ..errors import RunFolderError
from ..types import CURRENCIES

if TYPE_CHECKING:
    import polars as pl

PROBLEMS = "problems.parquet"
_PIECE = 4_096
_CELL = ("task", "horizon", "seed")
_AS_IT_IS = (
    *("learner", "contract", "seed", "problem", "reward", "passed", "complete", "accepted"),
    *("text", "surprisal", "stopped"),
)


def attempt_schema() -> dict[str, Any]:
    """Columns of ``results.parquet`` of a run, one row per attempt."""
    import polars as pl

    text, integer, number, flag = pl.String, pl.Int64, pl.Float64, pl.Boolean
    return {
        **dict.fromkeys(("learner", "contract"), text),
        "seed": integer,
        "problem": text,
        "reward": number,
        **dict.fromkeys(("passed", "complete", "accepted"), flag),
        "text": text,
        "tokens_out": pl.List(pl.Int64),
        "surprisal": number,
        **dict.fromkeys(("error", "error_kind", "stopped", "metadata"), text),
        **{f"cost_{currency}": integer for currency in CURRENCIES},
    }


def comparison_schema() -> dict[str, Any]:
    """Columns of ``results.parquet`` of a comparison, one row per contract, learner and attempt."""
    import polars as pl

    return {
        **attempt_schema(),
        "task": pl.String,
        "horizon": pl.Int64,
        **dict.fromkeys(("control", "report"), pl.String),
        "needs_control": pl.Boolean,
        "oracles_used": pl.String,
    }


def problem_schema() -> dict[str, Any]:
    """Columns of ``problems.parquet``; ``cluster``: the line that a problem is, or the problem itself."""
    import polars as pl

    return {
        "task": pl.String,
        "horizon": pl.Int64,
        "seed": pl.Int64,
        **dict.fromkeys(("problem", "cluster", "group"), pl.String),
        "unique": pl.Boolean,
        "log_reach": pl.Float64,
        "demo_tokens": pl.List(pl.String),
        "demo_logprobs": pl.List(pl.Float64),
        "prompt": pl.String,
        "answer": pl.String,
    }


def attempt_to_row(attempt: Attempt) -> dict[str, Any]:
    """An attempt as one row of a results table (``attempt_schema``)."""
    return {
        **{name: getattr(attempt, name) for name in _AS_IT_IS},
        "tokens_out": None if attempt.output is None else list(attempt.output.tokens),
        "error": None if attempt.error is None else str(attempt.error),
        "error_kind": None if attempt.error is None else attempt.error.kind,
        "metadata": json.dumps(attempt.metadata) if attempt.metadata else None,
        **{f"cost_{currency}": amount for currency, amount in attempt.cost.to_dict().items()},
    }


def attempts_table(attempts: Sequence[Attempt]) -> pl.DataFrame:
    """One row per attempt."""
    import polars as pl

    return pl.DataFrame([attempt_to_row(a) for a in attempts], schema=attempt_schema())


def comparison_pieces(
    config: Mapping[str, Any], problems: pl.DataFrame, attempts: Mapping[str, Attempt]
) -> Iterator[pl.DataFrame]:
    """One row per contract, learner and finished attempt, in a fixed order; in pieces, the first empty.

    Args:
        config: of the comparison: its learners, and what it grants on each task.
        problems: its table of problems.
        attempts: the attempts that have finished, by ``attempt_key``.
    """
    import polars as pl

    schema = comparison_schema()
    rows = (
        {**attempt_to_row(attempts[key]), **entries, **cell}
        for place, entries, cell in _grid(config, problems)
        if (key := attempt_key(*place)) in attempts
    )
    yield pl.DataFrame([], schema=schema)
    while piece := list(islice(rows, _PIECE)):  # rows take much more memory than tables
        yield pl.DataFrame(piece, schema=schema)


def attempt_key(problem: str, learner: str, sampling: str) -> str:
    """The key of an attempt of a comparison."""
    return f"{problem} | {learner} | {sampling}"


def planned_attempts(config: Mapping[str, Any], problems: pl.DataFrame) -> int:
    """How many attempts a comparison consists of."""
    tasks = dict[tuple[str, str], set[str]]()  # of each learner and law
    for task, learner, contract in _permitted(config, problems):
        tasks.setdefault((learner, str(contract.sampling)), set()).add(task)
    on = {tuple(sorted(names)) for names in tasks.values()}
    there = {
        names: problems.filter(problems["task"].is_in(names))["problem"].n_unique() for names in on
    }
    return sum(there[tuple(sorted(names))] for names in tasks.values())


def _permitted(
    config: Mapping[str, Any], problems: pl.DataFrame
) -> Iterator[tuple[str, str, Contract]]:
    """Each task, with each learner and each contract that permits it there."""
    for task in problems["task"].unique():
        for entry in config["learners"]:
            requires = Contract.parse(entry["requires"])
            for contract in map(Contract.parse, config["granted"][task]):
                if requires <= contract:
                    yield task, entry["label"], contract


def _grid(
    config: Mapping[str, Any], problems: pl.DataFrame
) -> Iterator[tuple[tuple[str, str, str], dict[str, Any], dict[str, Any]]]:
    """((problem, learner, law), what its contract grants, its cell) of each row of a comparison."""
    granted = {task: [Contract.parse(c) for c in cs] for task, cs in config["granted"].items()}
    learners = [(entry["label"], Contract.parse(entry["requires"])) for entry in config["learners"]]
    lines = problems.select(*_CELL, "problem").iter_rows()
    for (task, horizon, seed), part in groupby(lines, key=lambda line: line[:3]):
        names, cell = [line[3] for line in part], {"task": task, "horizon": horizon, "seed": seed}
        for label, requires in learners:
            for contract in granted[task]:
                if requires <= contract:
                    entries = {
                        "contract": str(contract),
                        "control": str(contract.control),
                        "report": str(contract.report),
                        "needs_control": requires.control > Control.ROOT,
                        "oracles_used": "+".join(str(o) for o in Oracle if o in requires.oracles),
                    }
                    law = str(contract.sampling)
                    yield from (((name, label, law), entries, cell) for name in names)


def read_parquet(file: Path) -> pl.DataFrame:
    """A table, whatever characters its name has (polars reads some as patterns or as addresses).

    Raises:
        RunFolderError: it is not there, or is no parquet file.
    """
    import polars as pl

    try:
        return pl.read_parquet(io.BytesIO(file.read_bytes()))
    except (OSError, ValueError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise RunFolderError(f"can't read {file}: {reason or error}") from None


def read_table(file: Path, schema: Mapping[str, Any]) -> pl.DataFrame:
    """The columns that a schema names (``RunFolderError`` names what is missing or of another type).

    Costs, seeds and horizons must be there and not negative, as must be the texts that name a row.
    """
    import polars as pl

    table = read_parquet(file)
    missing = [name for name in schema if name not in table.columns]
    if missing:
        raise RunFolderError(f"{file} lacks the columns {', '.join(missing)}")
    try:
        table = table.select(pl.col(name).cast(dtype) for name, dtype in schema.items())
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise RunFolderError(f"{file} has a column of another type: {error}") from None
    counts = [name for name, dtype in schema.items() if dtype == pl.Int64]
    named = [
        n for n in ("task", "problem", "cluster", "learner", "contract", "control") if n in schema
    ]
    for name in (*counts, *named):
        if table[name].null_count() or (name in counts and (table[name] < 0).any()):
            raise RunFolderError(
                f"{file} is damaged: the column {name} has empty or negative entries"
            )
    return table
