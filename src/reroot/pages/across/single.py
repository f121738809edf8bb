"""Every table of one comparison, from its summary, for files and notebooks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..kit.cells import records
from ..kit.table import Table
from .tables import cells_table

_COLUMNS = {
    "verdicts": "task horizon kind root root_rate prefix prefix_rate gain:gain_interval oracles",
    "differences": "task learner root horizon attempts wins losses pass_difference:pass_interval "
    "reward_difference:reward_interval",
    "exact": "task learner horizon rollouts attempts passed expected:band inside",
    "reach": "task horizon problems demonstrations tokens log_rollouts token_draws tokens_per_rollout "
    "exact_with_budget",
}
_CAPTIONS = {
    "verdicts": "Verdicts",
    "differences": "Prefix control against the best root-start learner",
    "exact": "Measured against the exact law",
    "reach": "What teacher forcing says",
}


def tables_of(summary: Mapping[str, Any]) -> dict[str, Table]:
    """Name → table of ``summary.json``, one row per entry there; those without rows are left out."""
    made = {"cells": cells_table(summary["cells"], ["contract", "report"])}
    rows = {**summary, "verdicts": map(_gained, summary["verdicts"])}
    made |= {n: records(_COLUMNS[n], rows[n], _CAPTIONS[n]) for n in _COLUMNS}
    found = summary.get("macro") or {"rows": [], "sets": []}
    learners = {row["short"]: row for row in found["rows"]}.values()
    about = f"Mean over {len(found['sets'])} data sets, each counts the same"
    made["macro"] = records(
        "short control pass_rate:pass_interval reward:reward_interval", learners, about
    )
    return {name: table for name, table in made.items() if table}


def _gained(verdict: Mapping[str, Any]) -> dict[str, Any]:
    """With the gain over the best from the root, exact where that is known, beside its interval."""
    ends, gain = verdict["gain"], None
    if ends is not None:
        gain = verdict["prefix_rate"] - max(verdict["root_rate"], verdict["exact_root"] or 0.0)
    return {**verdict, "gain": gain, "gain_interval": ends}
