"""The tables of several comparisons, and of one: for the page, the terminal and files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from ...types import CURRENCIES
from ..kit.cells import named
from ..kit.formatting import percent, quantity, shares, signed
from ..kit.markup import Html
from ..kit.table import Column, Row, Table

_LONGEST = 60
"""Characters of a setting beyond which a page and a terminal show its beginning; files have all of it."""


def across_tables(found: Mapping[str, Any]) -> dict[str, Table]:
    """Name → table of what ``runs.across.across_of`` found; those without rows are left out."""
    names = [run["run"] for run in found["runs"]]
    made = {
        "runs": _runs(found["runs"]),
        "settings": _settings(found["settings"], names),
        "pass rates": _rates(found["cells"], names),
        "differences": _differences(found["differences"]),
        "costs": _costs(found["cells"], names),
        "cells": cells_table(found["cells"], ["run"]),
    }
    return {name: table for name, table in made.items() if table}


def _runs(runs: Sequence[Mapping[str, Any]]) -> Table:
    columns = [
        Column("run", text=True),
        Column("model", text=True),
        Column("reroot", text=True, spare=2),
        Column("budget per attempt", text=True, spare=3),
        Column("seeds"),
        Column("problems"),
        Column("attempts", format=","),
        Column("of", format=","),
        Column("tokens", format="q", spare=4),
        Column("seconds", format="q", spare=1),
        Column("problems' digest", text=True, spare=1),
    ]
    rows = [
        [
            r["run"],
            r["model"],
            r["version"],
            ", ".join(f"{quantity(v)} {k}" for k, v in (r["budget"] or {}).items()) or "no limit",
            r["seeds"],
            r["problems"],
            *r["made"],
            r["tokens"],
            r["seconds"],
            r["digest"],
        ]
        for r in runs
    ]
    return Table(columns, rows, "Runs; the first is what the others are compared with")


def _settings(settings: Mapping[str, Sequence[Any]], names: Sequence[str]) -> Table:
    columns = [Column("setting", text=True), *(Column(name, text=True) for name in names)]
    rows = [[name, *map(_setting, values)] for name, values in settings.items()]
    return Table(columns, rows, "Settings that differ")


def _setting(value: Any) -> Any:
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(text) <= _LONGEST:
        return text
    return Html(escape(f"{text[: _LONGEST - 1]}…"), text)


def _rates(cells: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Table:
    columns = [Column("control, learner", text=True), *(Column(name) for name in names)]
    known = {(_place(c), c["run"]): c for c in cells}
    rows = list[Row]()
    before = None
    for cell in _once(cells):
        where = _where(cell)
        if where != before:
            before = where
            rows.append([where])
        here = [known.get((_place(cell), name)) for name in names]
        rows.append(
            [
                named(cell["control"], _learner(cell)),
                *(None if c is None else rate(c["pass_rate"], c["pass_interval"]) for c in here),
            ]
        )
    return Table(columns, rows, "Attempts passed, %, and 95 % interval")


def _differences(rows: Sequence[Mapping[str, Any]]) -> Table:
    columns = [
        Column("control, learner", text=True),
        Column("run", text=True),
        Column("difference"),
        Column("pairs", format=","),
        Column("won", spare=3),
        Column("lost", spare=3),
        Column("reward", spare=2),
        Column("without a partner", text=True, spare=1),
    ]
    shown, before = list[Row](), None
    for r in rows:
        where = _where(r)
        if where != before:
            before = where
            shown.append([where])
        shown.append(
            [
                named(r["control"], _learner(r)),
                r["run"],
                gap(r["pass_difference"], r["pass_interval"], 100.0, 0),
                r["pairs"] if r["paired"] else Html("<i>unpaired</i>", 0),
                r["wins"],
                r["losses"],
                gap(r["reward_difference"], r["reward_interval"]),
                "{} here, {} there".format(*r["unpaired"]) if any(r["unpaired"]) else "",
            ]
        )
    return Table(columns, shown, _caption(rows))


def _caption(rows: Sequence[Mapping[str, Any]]) -> str:
    base = f" minus {rows[0]['base']}" if rows else ""
    return f"Difference of pass rates in points, each run{base}, and 95 % interval"


def _costs(cells: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Table:
    columns = [Column("control, learner", text=True), *(Column(n, format="q") for n in names)]
    known = {(_place(c), c["run"]): c["cost_tokens"] for c in cells}
    rows, before = list[Row](), None
    for cell in _once(cells):
        where = _where(cell)
        if where != before:
            before = where
            rows.append([where])
        tokens = [known.get((_place(cell), name)) for name in names]
        rows.append([named(cell["control"], _learner(cell)), *tokens])
    return Table(columns, rows, "Generated tokens per attempt, mean")


def cells_table(cells: Iterable[Mapping[str, Any]], first: Sequence[str] = ()) -> Table:
    """Every cell with every number, a row each."""
    words = [*first, "task", "learner", "control", "sampling"]
    counts = ["attempts", "abstained", "clusters", "passed", "errors"]
    columns = [
        *(Column(name, text=True) for name in words),
        Column("horizon"),
        *(Column(name, format=",") for name in counts),
        Column("pass rate"),
        Column("reward"),
        *(Column(f"{name} per attempt", format="q") for name in CURRENCIES),
    ]
    rows = [
        [
            *(c[name] for name in words),
            c["horizon"],
            *(c[name] for name in counts),
            rate(c["pass_rate"], c["pass_interval"]),
            gap(c["reward"], c["reward_interval"], sign=False),
            *(c[f"cost_{name}"] if f"cost_{name}" in c else c["cost"][name] for name in CURRENCIES),
        ]
        for c in cells
    ]
    return Table(columns, rows, "Every cell")


def rate(value: float | None, interval: Sequence[float] | None) -> Html | None:
    """A pass rate in percent with its interval; as data, the probabilities."""
    if value is None or interval is None:
        return None
    return Html(f"{percent(value)} <small>{shares(interval)}</small>", value, interval)


def gap(
    value: Any,
    interval: Sequence[float] | None,
    scale: float = 1.0,
    digits: int = 2,
    sign: bool = True,
) -> Html | None:
    """A difference or mean with its interval; as data, not scaled."""
    if value is None:
        return None
    if isinstance(value, str):  # −inf
        return Html(value.replace("-inf", "−∞"), value)

    def show(x: float) -> str:
        return signed(scale * x, digits) if sign else f"{scale * x:.{digits}f}".replace("-", "−")

    around = f" <small>{show(interval[0])} to {show(interval[1])}</small>" if interval else ""
    return Html(f"{show(value)}{around}", value, interval)


def _place(cell: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(cell[k] for k in ("task", "horizon", "learner", "sampling"))


def _once(cells: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The first cell of each place, task by task and horizon by horizon."""
    first: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for cell in cells:
        first.setdefault(_place(cell), cell)
    wheres = list(dict.fromkeys(map(_where, first.values())))
    return sorted(first.values(), key=lambda c: wheres.index(_where(c)))


def _where(cell: Mapping[str, Any]) -> str:
    return f"{cell['task']}, horizon {cell['horizon']}" if cell["horizon"] else str(cell["task"])


def _learner(cell: Mapping[str, Any]) -> str:
    return cell["learner"] if cell["sampling"] == "T=1" else f"{cell['learner']} {cell['sampling']}"
