"""The suite in a terminal: both ranks of every method, and the speed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ..kit.cells import terminal_table
from ..kit.formatting import listing, percent, rounded
from .page import disagreements, errors, ordered, task_name


def suite_table(summary: Mapping[str, Any]) -> RenderableType:
    """Per group of tasks a table: method, and rank, mean reward and passes at either budget.

    Methods come in their order at equal tokens.
    """
    half = ("\nreward", "\n%")
    head = ("equal\ntokens", *half, "equal\ncalls", *half, "\nflips")

    parts: list[RenderableType] = []
    for group in summary["groups"]:
        tasks = listing([task_name(task) for task in group["tasks"]])
        flipped = f"{len(group['flips'])} of {group['pairs']} pairs change places"
        table = terminal_table(["method"], head, title=Text(f"{tasks}: {flipped}"))
        for row in ordered(group, "tokens"):
            marks = [f"▲{len(row['passes'])}" if row["passes"] else ""]
            marks += [f"▼{len(row['passed_by'])}" if row["passed_by"] else ""]
            numbers = [*_cells(row["tokens"]), *_cells(row["calls"])]
            table.add_row(Text(row["short"]), *numbers, Text(" ".join(marks).strip()))
        parts += [table]
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
