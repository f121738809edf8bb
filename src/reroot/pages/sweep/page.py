"""The table of a sweep, in a terminal and on a page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..kit.formatting import percent
from ..kit.page import render, write_page
from ..kit.table import Column, Table

PAGE = "report.html"


def sweep_table(summary: Mapping[str, Any]) -> Table:
    """One row per arm and horizon."""
    columns = [
        Column("arm", text=True),
        Column("horizon"),
        Column("runs made"),
        Column("of"),
        Column("failed", spare=2),
        Column("reached the target"),
        Column("steps, median", format="q", spare=1),
        Column("tokens, median", format="q"),
        Column("pass@1 root, median"),
    ]
    names = ("arm", "horizon", "made", "planned", "failed", "target", "steps", "tokens")
    rows = [[*(row[name] for name in names), percent(row["pass_at_1"])] for row in summary["rows"]]
    return Table(columns, rows, "Training runs by arm and horizon")


def write_sweep_page(folder: Path, summary: Mapping[str, Any]) -> Path:
    """Write the page of a sweep, of which this is the summary, into its folder; its path.

    Raises:
        RunFolderError: it cannot be written.
    """
    page = render(
        "reroot sweep",
        "sweep/page.html",
        made=sum(row["made"] for row in summary["rows"]),
        planned=sum(row["planned"] for row in summary["rows"]),
        table=sweep_table(summary),
        failed=summary["failed"],
    )
    return write_page(folder / PAGE, page)
