"""The table of a sweep, in a terminal and on a page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..kit.page import render, write_page
from ..kit.table import Table, columns

PAGE = "report.html"


def sweep_table(summary: Mapping[str, Any]) -> Table:
    """One row per arm and horizon."""
    head = "arm | horizon | runs made | of | failed | reached the target | steps, median:q | tokens, median:q"
    names = (
        "arm",
        "horizon",
        "made",
        "planned",
        "failed",
        "target",
        "steps",
        "tokens",
        "pass_at_1",
    )
    rows = [[row[name] for name in names] for row in summary["rows"]]
    table = Table(
        columns(f"{head} | pass@1 root, median:p"), rows, "Training runs by arm and horizon"
    )
    return table.sparing("steps, median", "failed")


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
