"""The suite in a terminal: both ranks of every method, and the speed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ..kit.formatting import listing, percent, rounded
from ..kit.table import Column, Table
from .page import disagreements, errors, ordered, task_name


def suite_table(summary: Mapping[str, Any]) -> RenderableType:
    """Per group of tasks a table: method, and rank, mean reward and passes at either budget.

    Methods come in their order at equal tokens.
    """
    half = [Column("\nreward"), Column("\n%")]
    heads = [Column("method", True), Column("equal\ntokens"), *half, Column("equal\ncalls"), *half]
    parts: list[RenderableType] = []
    for group in summary["groups"]:
        tasks = listing([task_name(task) for task in group["tasks"]])
        flipped = f"{len(group['flips'])} of {group['pairs']} pairs change places"
        rows = list[list[str]]()
        for row in ordered(group, "tokens"):
            marks = [f"▲{len(row['passes'])}" if row["passes"] else ""]
            marks += [f"▼{len(row['passed_by'])}" if row["passed_by"] else ""]
            numbers = [*_cells(row["tokens"]), *_cells(row["calls"])]
            rows.append([row["short"], *numbers, " ".join(marks).strip()])
        table = Table([*heads, Column("\nflips")], rows, f"{tasks}: {flipped}")
        parts.append(table.terminal())
    parts += [Text(text, style="bold red") for text in disagreements(summary)]
    return Group(*parts, Text("\n".join([_speed(summary), *errors(summary)]), style="dim"))


def _cells(numbers: Mapping[str, Any]) -> tuple[str, str, str]:
    """Rank, mean reward, and share of problems that passed."""
    reward = "·" if numbers["reward"] is None else f"{numbers['reward']:.2f}"
    return str(numbers["rank"]), reward, percent(numbers["pass_rate"])


def _speed(summary: Mapping[str, Any]) -> str:
    def rate(part: str) -> str:
        value = summary["speed"][part]["per_second"]
        return "unknown" if value is None else rounded(value)

    return (
        f"Tokens per second: {rate('tokens')} at equal tokens, {rate('calls')} at equal calls, "
        f"{rate('rollouts')} for plain rollouts alone."
    )
