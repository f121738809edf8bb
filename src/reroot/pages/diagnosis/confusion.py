"""The table of confusion of ``reroot diagnose --selftest``: what is so against what was said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from ...runs.folder import made_folder
from ..kit import page as kit
from ..kit.formatting import percent, quantity
from ..kit.table import Table, columns

PAGE = "selftest.html"


def write_confusion(folder: str | Path, summary: Mapping[str, Any]) -> Path:
    """Write ``selftest.html``; its path.

    Raises:
        RunFolderError: the folder cannot be written.
    """
    return kit.write_page(made_folder(folder) / PAGE, render(summary))


def confusion_table(confusion: Mapping[str, Mapping[str, int]]) -> RenderableType:
    """Truth in lines, what was said in columns (?: undetermined), counts."""
    return _table(confusion, _short).terminal()


def render(summary: Mapping[str, Any]) -> str:
    """The page as text."""
    right, wrong = (f"{percent(summary[name])} %" for name in ("right", "wrong"))
    tiles = [
        ("right", right, "of cases away from thresholds"),
        ("wrong", wrong, "of all: a cause that it does not have"),
        ("diagnoses", quantity(summary["diagnoses"]), ""),
        ("tokens", quantity(round(summary["tokens"])), "each"),
    ]
    cases = [
        [name, row["truth"] + " (near)" * row["near"], ", ".join(row["said"])]
        for name, row in summary["cases"].items()
    ]
    return kit.render(
        "reroot diagnose --selftest",
        "diagnosis/confusion.html",
        tiles=tiles,
        notes=summary["notes"],
        confusion=_table(summary["confusion"], str),
        cases=Table(columns("case | what limits it | what was said", 3), cases),
    )


def _table(confusion: Mapping[str, Mapping[str, int]], shown: Callable[[str], str]) -> Table:
    said = sorted({name for row in confusion.values() for name in row})
    rows = [[shown(truth), *(row.get(name) for name in said)] for truth, row in confusion.items()]
    return Table(columns(" | ".join(["what limits it", *map(shown, said)])), rows)


def _short(name: str) -> str:
    """A screen has 80 columns."""
    short = name.replace("-limited", "").replace("learnable", "learn")
    return short.replace("undetermined", "?").replace("truncated", "cut")
