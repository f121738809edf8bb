"""Certificates in a terminal: one table per method, or one line of each."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ..kit.cells import mark
from ..kit.formatting import plural
from ..kit.markup import Html
from ..kit.table import Table, columns
from .formatting import aimed_name, cost_words, distance_words, how_words, methods_in_short


def certificates_table(summary: Mapping[str, Any], width: int = 100) -> RenderableType:
    """Of every method a table of its distances, and every case in words: its statement, costs and faults."""
    parts: list[RenderableType] = []
    for method in summary["methods"]:
        parts += [Text.assemble((method["name"], "bold"), f"  {method['about']}")]
        rows, said = list[list[Any]](), list[Text]()
        for i, one in enumerate(method["certificates"], 1):
            rows.append([f"{i}. {one['toy']}", *distance_words(one["stated"]), mark(one["holds"])])
            if one["aimed"]:
                name, *pale = aimed_name(one), *distance_words(one["aimed"]), ""
                rows.append(
                    [Html(f'<span class="no">{escape(x)}</span>') for x in (f"   {name}", *pale)]
                )
            said += _words(i, one)
        parts += [
            Table(columns("toy | TV | KL, nats | ratio | found"), rows).terminal(width),
            *said,
            Text(),
        ]
    return Group(*parts, Text(total(summary)))


def _words(i: int, one: Mapping[str, Any]) -> list[Text]:
    """What is stated, how it is checked, what it costs and what is wrong."""
    said = f"{i}. {one['states']}; {how_words(one)}"
    faults = [Text(f"   {fault}", style="red") for fault in one["faults"]]
    return [Text(said), Text(f"   {', '.join(cost_words(one))}", style="dim"), *faults]


def overview(summary: Mapping[str, Any], width: int = 100) -> RenderableType:
    """One line per method, and what is wrong with those that do not hold."""
    rows, faults = list[list[Any]](), list[RenderableType]()
    for row in methods_in_short(summary):
        rows.append([row["name"], row["how"], row["cases"], row["tv"], mark(row["holds"])])
        for learner, toy, fault in row["faults"]:
            faults.append(Text(f"fails: {learner} on {toy}: {fault}", style="red"))
    table = Table(columns("method | checked | cases | largest TV | found", 2), rows).terminal(width)
    return Group(table, *faults, Text(total(summary)))


def total(summary: Mapping[str, Any]) -> str:
    """``21 methods, 52 cases: 50 hold, 2 are only measured``."""
    cases = [one["holds"] for method in summary["methods"] for one in method["certificates"]]
    said = [f"{cases.count(True)} hold"]
    said += [f"{cases.count(None)} only measured"] if None in cases else []
    said += [f"{cases.count(False)} fail"] if False in cases else []
    count = plural(len(summary["methods"]), "method")
    return f"{count}, {plural(len(cases), 'case')}: {', '.join(said)}"
