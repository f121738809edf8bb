"""Every table of one comparison, from its summary, for files and notebooks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..kit.markup import Html
from ..kit.table import Column, Table
from .tables import cells_table, gap, rate


def tables_of(summary: Mapping[str, Any]) -> dict[str, Table]:
    """Name → table of ``summary.json``, one row per entry there; those without rows are left out."""
    made = {
        "cells": cells_table(summary["cells"], ["contract", "report"]),
        "verdicts": _verdicts(summary),
        "differences": _differences(summary),
        "exact": _exact(summary),
        "reach": _reach(summary),
        "macro": _macro(summary),
    }
    return {name: table for name, table in made.items() if table}


def _verdicts(summary: Mapping[str, Any]) -> Table:
    columns = [Column("task", text=True), Column("horizon"), Column("verdict", text=True)]
    columns += [Column("best root-start learner", text=True), Column("its rate", format=".3f")]
    columns += [Column("best with prefix control", text=True), Column("its rate ", format=".3f")]
    columns += [Column("gain"), Column("oracles", text=True)]
    rows = [
        [
            *(v["task"], v["horizon"], v["kind"], v["root"], v["root_rate"]),
            *(v["prefix"], v["prefix_rate"], _gain(v), "+".join(v["oracles"])),
        ]
        for v in summary["verdicts"]
    ]
    return Table(columns, rows, "Verdicts")


def _gain(verdict: Mapping[str, Any]) -> Html | None:
    """What prefix control gains over the best from the root, exact where that is known."""
    if verdict["gain"] is None:
        return None
    root = max(verdict["root_rate"], verdict["exact_root"] or 0.0)
    return gap(verdict["prefix_rate"] - root, verdict["gain"])


def _differences(summary: Mapping[str, Any]) -> Table:
    columns = [*_heads("task", "learner", "root"), Column("horizon")]
    columns += [Column(name, format=",") for name in ("attempts", "wins", "losses")]
    columns += [Column("pass difference"), Column("reward difference")]
    rows = [
        [
            *(d["task"], d["learner"], d["root"], d["horizon"]),
            *(d["attempts"], d["wins"], d["losses"]),
            gap(d["pass_difference"], d["pass_interval"]),
            gap(d["reward_difference"], d["reward_interval"]),
        ]
        for d in summary["differences"]
    ]
    return Table(columns, rows, "Prefix control against the best root-start learner")


def _exact(summary: Mapping[str, Any]) -> Table:
    columns = [*_heads("task", "learner"), Column("horizon"), Column("rollouts", format="q")]
    columns += [
        Column("attempts"),
        Column("passed"),
        Column("expected"),
        Column("inside", format="yes"),
    ]
    rows = [
        [
            *(e["task"], e["learner"], e["horizon"], e["rollouts"], e["attempts"], e["passed"]),
            gap(e["expected"], e["band"], digits=1, sign=False),
            e["inside"],
        ]
        for e in summary["exact"]
    ]
    return Table(columns, rows, "Measured against the exact law")


def _reach(summary: Mapping[str, Any]) -> Table:
    names = ("problems", "demonstrations", "tokens", "log_rollouts", "token_draws")
    more = ("tokens_per_rollout", "exact_with_budget")
    columns = [
        *_heads("task"),
        Column("horizon"),
        *(Column(n.replace("_", " ")) for n in names + more),
    ]
    rows = [
        [r["task"], r["horizon"], *(_four(r[n]) for n in names + more)] for r in summary["reach"]
    ]
    return Table(columns, rows, "What teacher forcing says")


def _four(value: float | None) -> Any:
    """Four digits to look at, all of them as data."""
    return Html(f"{value:.4g}", value) if isinstance(value, float) else value


def _macro(summary: Mapping[str, Any]) -> Table:
    found = summary.get("macro") or {"rows": [], "sets": []}
    columns = [*_heads("learner", "control"), Column("pass rate"), Column("reward")]
    rows = [
        [
            r["short"],
            r["control"],
            rate(r["pass_rate"], r["pass_interval"]),
            gap(r["reward"], r["reward_interval"]),
        ]
        for r in {r["short"]: r for r in found["rows"]}.values()
    ]
    return Table(columns, rows, f"Mean over {len(found['sets'])} data sets, each counts the same")


def _heads(*names: str) -> list[Column]:
    return [Column(name, text=True) for name in names]
