"""Certificates in a terminal: the tables of each method, or one line of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ..kit.formatting import plural
from .formatting import methods_in_short
from .page import costs_table, laws_table, overview_table


def certificates_table(summary: Mapping[str, Any], width: int = 100) -> RenderableType:
    """Of every method what its cases state, whether that holds, what they cost and what is wrong."""
    parts: list[RenderableType] = []
    for method in summary["methods"]:
        cases = method["certificates"]
        parts.append(Text.assemble((method["name"], "bold"), f"  {method['about']}"))
        parts += [table(cases).terminal(width) for table in (laws_table, costs_table)]
        faults = (f"{i}. {fault}" for i, one in enumerate(cases, 1) for fault in one["faults"])
        parts += [Text(fault, style="red") for fault in faults]
    return Group(*parts, Text(total(summary)))


def overview(summary: Mapping[str, Any], width: int = 100) -> RenderableType:
    """One line per method, and what is wrong with those that do not hold."""
    faults = [
        Text(f"fails: {learner} on {toy}: {fault}", style="red")
        for row in methods_in_short(summary)
        for learner, toy, fault in row["faults"]
    ]
    return Group(overview_table(summary).terminal(width), *faults, Text(total(summary)))


def total(summary: Mapping[str, Any]) -> str:
    """``21 methods, 52 cases: 50 hold, 2 are only measured``."""
    cases = [one["holds"] for method in summary["methods"] for one in method["certificates"]]
    said = [f"{cases.count(True)} hold"]
    said += [f"{cases.count(None)} only measured"] if None in cases else []
    said += [f"{cases.count(False)} fail"] if False in cases else []
    count = plural(len(summary["methods"]), "method")
    return f"{count}, {plural(len(cases), 'case')}: {', '.join(said)}"
