"""The tables of several comparisons, and of one: for the page, the terminal and files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

from ...types import CURRENCIES
from ..kit.cells import named, plain_setting, rate, with_interval
from ..kit.formatting import at_horizon, clipped, quantity
from ..kit.markup import Html
from ..kit.table import Column, Table, columns, grouped

_LONGEST = 60
"""Characters of a setting beyond which a page and a terminal show its beginning; files have all of it."""


def across_tables(found: Mapping[str, Any]) -> dict[str, Table]:
    """Name → table of what ``runs.across.across_of`` found; those without rows are left out."""
    names = [run["run"] for run in found["runs"]]
    made = {
        "runs": _runs(found["runs"]),
        "settings": _settings(found["settings"], names),
        "pass rates": _by_run(
            found["cells"],
            names,
            lambda c: rate(c["pass_rate"], c["pass_interval"]),
            "Attempts passed, %, and 95 % interval",
        ),
        "differences": _differences(found["differences"]),
        "costs": _by_run(
            found["cells"],
            names,
            lambda c: c["cost_tokens"],
            "Generated tokens per attempt, mean",
        ),
        "cells": cells_table(found["cells"], ["run"]),
    }
    return {name: table for name, table in made.items() if table}


def _runs(runs: Sequence[Mapping[str, Any]]) -> Table:
    head = "run | model | reroot | budget per attempt | seeds | problems | attempts:, | of:, | "
    heads = columns(f"{head}tokens:q | seconds:q | problems' digest", (0, 1, 2, 3, 10))
    rows = [
        [
            *(r["run"], r["model"], r["version"]),
            ", ".join(f"{quantity(v)} {k}" for k, v in (r["budget"] or {}).items()) or "no limit",
            *(r["seeds"], r["problems"], *r["made"], r["tokens"], r["seconds"], r["digest"]),
        ]
        for r in runs
    ]
    table = Table(heads, rows, "Runs; the first is what the others are compared with")
    return table.sparing("problems' digest", "seconds", "reroot", "budget per attempt", "tokens")


def _settings(settings: Mapping[str, Sequence[Any]], names: Sequence[str]) -> Table:
    heads = [Column(name, text=True) for name in ("setting", *names)]
    rows = [[name, *map(_setting, values)] for name, values in settings.items()]
    return Table(heads, rows, "Settings that differ")


def _setting(value: Any) -> Any:
    if value is None:
        return None
    text = plain_setting(value)
    return Html(escape(clipped(text, _LONGEST)), text)


def _by_run(
    cells: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    shown: Callable[[Mapping[str, Any]], Any],
    caption: str,
) -> Table:
    """A row of each learner at each place, with a number of its cell in every run."""
    once, known = dict[Any, Any](), {(_place(c), c["run"]): c for c in cells}
    for cell in cells:
        once.setdefault(_place(cell), cell)
    wheres = list(dict.fromkeys(map(_where, cells)))
    rows = list[tuple[str, list[Any]]]()
    for place, cell in sorted(once.items(), key=lambda x: wheres.index(_where(x[1]))):
        here = [known.get((place, name)) for name in names]
        row = [_learner(cell), *(None if c is None else shown(c) for c in here)]
        rows.append((_where(cell), row))
    heads = [Column("control, learner", True), *(Column(name, format="q") for name in names)]
    return Table(heads, list(grouped(rows)), caption)


def _differences(rows: Sequence[Mapping[str, Any]]) -> Table:
    head = "control, learner | run | difference | pairs:, | won | lost | reward | without a partner"
    shown = grouped(
        (
            _where(r),
            [
                *(_learner(r), r["run"]),
                with_interval(r["pass_difference"], r["pass_interval"], scale=100.0, digits=0),
                r["pairs"] if r["paired"] else Html("<i>unpaired</i>", 0),
                *(r["wins"], r["losses"]),
                with_interval(r["reward_difference"], r["reward_interval"]),
                "{} here, {} there".format(*r["unpaired"]) if any(r["unpaired"]) else "",
            ],
        )
        for r in rows
    )
    table = Table(columns(head, (0, 1, 7)), list(shown), _caption(rows))
    return table.sparing("without a partner", "reward", "won", "lost")


def _caption(rows: Sequence[Mapping[str, Any]]) -> str:
    base = f" minus {rows[0]['base']}" if rows else ""
    return f"Difference of pass rates in points, each run{base}, and 95 % interval"


def cells_table(cells: Iterable[Mapping[str, Any]], first: Sequence[str] = ()) -> Table:
    """Every cell with every number, a row each."""
    words = [*first, "task", "learner", "control", "sampling"]
    counts = ["horizon", "attempts", "abstained", "clusters", "passed", "errors"]
    heads = [Column(name, text=True) for name in words]
    heads += [Column(name, format=",") for name in counts]
    heads += columns("pass rate | reward", 0)
    heads += [Column(f"{name} per attempt", format="q") for name in CURRENCIES]
    rows = [
        [
            *(c[name] for name in (*words, *counts)),
            rate(c["pass_rate"], c["pass_interval"]),
            with_interval(c["reward"], c["reward_interval"], sign=False),
            *(c[f"cost_{name}"] if f"cost_{name}" in c else c["cost"][name] for name in CURRENCIES),
        ]
        for c in cells
    ]
    return Table(heads, rows, "Every cell")


def _place(cell: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(cell[k] for k in ("task", "horizon", "learner", "sampling"))


def _where(cell: Mapping[str, Any]) -> str:
    return at_horizon(cell["task"], cell["horizon"])


def _learner(cell: Mapping[str, Any]) -> Html:
    law = "" if cell["sampling"] == "T=1" else f" {cell['sampling']}"
    return named(cell["control"], f"{cell['learner']}{law}")
