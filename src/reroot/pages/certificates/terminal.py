"""Certificates in a terminal: one table per method, or one line of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..kit.cells import MARKS, terminal_table
from ..kit.formatting import plural
from .formatting import aimed_name, cost_words, distance_words, how_words, methods_in_short

_STYLES = {True: "green", False: "bold red", None: "dim"}
_WORDS = dict(zip(_STYLES, MARKS, strict=True))


def certificates_table(summary: Mapping[str, Any]) -> RenderableType:
    """A table per method: every case with its distances, then its aim, costs and faults."""
    parts: list[RenderableType] = []
    for method in summary["methods"]:
        parts += [Text.assemble((method["name"], "bold"), f"  {method['about']}")]
        table = _table(["toy", "what is stated", "checked"], ["TV", "KL, nats", "ratio"])
        for one in method["certificates"]:
            _rows(table, one)
        parts += [table, Text()]
    return Group(*parts, Text(total(summary)))


def overview(summary: Mapping[str, Any]) -> RenderableType:
    """One line per method, and what is wrong with those that do not hold."""
    table = _table(["method", "checked"], ["cases", "largest TV"])
    faults: list[RenderableType] = []
    for row in methods_in_short(summary):
        mark = Text(_WORDS[row["holds"]], style=_STYLES[row["holds"]])
        table.add_row(row["name"], row["how"], str(row["cases"]), row["tv"], mark)
        for learner, toy, fault in row["faults"]:
            faults.append(Text(f"fails: {learner} on {toy}: {fault}", style="red"))
    return Group(table, *faults, Text(total(summary)))


def total(summary: Mapping[str, Any]) -> str:
    """``21 methods, 52 cases: 50 hold, 2 are only measured``."""
    cases = [one["holds"] for method in summary["methods"] for one in method["certificates"]]
    said = [f"{cases.count(True)} hold"]
    said += [f"{cases.count(None)} only measured"] if None in cases else []
    said += [f"{cases.count(False)} fail"] if False in cases else []
    count = plural(len(summary["methods"]), "method")
    return f"{count}, {plural(len(cases), 'case')}: {', '.join(said)}"


def _table(texts: Sequence[str], numbers: Sequence[str]) -> Table:
    table = terminal_table(texts, numbers)
    table.columns[0].no_wrap = True
    table.add_column("", no_wrap=True)
    return table


def _rows(table: Table, one: Mapping[str, Any]) -> None:
    mark = Text(_WORDS[one["holds"]], style=_STYLES[one["holds"]])
    stated = distance_words(one["stated"])
    table.add_row(one["toy"], Text(one["states"]), how_words(one), *stated, mark)
    if one["aimed"]:
        name, found = aimed_name(one), distance_words(one["aimed"])
        table.add_row("", Text(name, style="dim"), "", *(Text(x, style="dim") for x in found))
    table.add_row("", Text(", ".join(cost_words(one)), style="dim"))
    for fault in one["faults"]:
        table.add_row("", Text(fault, style="red"))
    table.add_section()
