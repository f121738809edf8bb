"""The table of confusion of ``reroot diagnose --selftest``: what is so against what was said."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from ..kit.formatting import percent, quantity
from ..kit.html import document, write_page
from ..kit.table import facts, note, table, terminal_table

PAGE = "selftest.html"


def write_confusion(folder: str | Path, summary: Mapping[str, Any]) -> Path:
    """Write ``selftest.html``; its path.

    Raises:
        RunFolderError: the folder cannot be written.
    """
    return write_page(Path(folder) / PAGE, render(summary))


def confusion_table(confusion: Mapping[str, Mapping[str, int]]) -> RenderableType:
    """Truth in lines, what was said in columns (?: undetermined), counts."""
    said = _said(confusion)
    shown = terminal_table(["what limits it"], [_short(name) for name in said])
    for truth, row in confusion.items():
        shown.add_row(_short(truth), *(str(row.get(name, "·")) for name in said))
    return shown


def render(summary: Mapping[str, Any]) -> str:
    """The page as text."""
    confusion = summary["confusion"]
    said = _said(confusion)
    rows = [
        [escape(truth), *(str(row.get(name, "·")) for name in said)]
        for truth, row in confusion.items()
    ]
    tiles = [
        ("right", f"{percent(summary['right'])} %", "of cases away from thresholds"),
        ("wrong", f"{percent(summary['wrong'])} %", "of all: a cause that it does not have"),
        ("diagnoses", quantity(summary["diagnoses"]), ""),
        ("tokens", quantity(round(summary["tokens"])), "each"),
    ]
    cases = [
        [
            escape(name),
            escape(row["truth"]) + " (near)" * row["near"],
            escape(", ".join(row["said"])),
        ]
        for name, row in summary["cases"].items()
    ]
    parts = [
        "<h1>Does the diagnosis find what is so?</h1>",
        facts(tiles),
        *(note(escape(text)) for text in summary["notes"]),
        table(["what limits it", *map(escape, said)], rows),
        "<h2>Each case</h2>",
        table(["case", "what limits it", "what was said"], cases, text=3),
    ]
    return document("reroot diagnose --selftest", parts)


def _said(confusion: Mapping[str, Mapping[str, int]]) -> list[str]:
    return sorted({name for row in confusion.values() for name in row})


def _short(name: str) -> str:
    """A screen has 80 columns."""
    return (
        name.replace("-limited", "")
        .replace("learnable", "learn")
        .replace("truncated", "cut")
        .replace("undetermined", "?")
    )
