"""Macro-averages, in a terminal and on the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..kit.cells import fitting, named, table, terminal_table, with_interval
from ..kit.formatting import listing, percent, shares


def macro_table(summary: Mapping[str, Any], width: int = 100) -> RenderableType:
    """Per learner the unweighted mean of its pass rates over data sets, and each of those.

    Where ``width`` characters are too few, the rates of single data sets are left out.
    """
    found = summary.get("macro")
    if found is None:
        return Text("There is one data set alone, so there is no macro-average.")
    tables = (_table(found, each) for each in (True, False))
    parts: list[RenderableType] = [fitting(tables, width)]
    short = {row["short"]: row["missing"] for row in found["rows"] if row["missing"]}
    parts += [Text(f"{name}: nothing judged on {listing(lost)}.") for name, lost in short.items()]
    return Group(*parts)


def _table(found: Mapping[str, Any], each: bool) -> Table:
    sets = found["sets"] if each else []
    title = f"mean over {len(found['sets'])} data sets, each counts the same: passed, %"
    table = terminal_table(
        ["learner"], ["%", "95 %", "mean reward", *sets], title=Text(title, style="bold")
    )
    for row in {row["short"]: row for row in found["rows"]}.values():
        reward, interval = row["reward"], row["pass_interval"]
        table.add_row(
            Text(row["short"]),
            percent(row["pass_rate"]),
            "·" if interval is None else shares(interval),
            "·" if reward is None else f"{reward:.2f}",
            *(percent(row["sets"][name]["pass_rate"]) for name in sets),
        )
    return table


def macro_section(summary: Mapping[str, Any]) -> Iterator[str]:
    """The same on the page; nothing where there is one data set alone."""
    found = summary.get("macro")
    if found is None:
        return
    rows = {row["short"]: row for row in found["rows"]}.values()
    shown = [
        [
            named(row["control"], row["short"]),
            f"{percent(row['pass_rate'])} <small>{_around(row['pass_interval'])}</small>",
            with_interval(row["reward"], row["reward_interval"], sign=False),
            *(percent(row["sets"][name]["pass_rate"]) for name in found["sets"]),
        ]
        for row in rows
    ]
    head = ["learner", "passed, %, 95 %", "mean reward, 95 %", *map(escape, found["sets"])]
    yield f"<h2>Mean over {len(found['sets'])} data sets, each counts the same</h2>"
    yield table(head, shown)


def _around(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else shares(interval)
