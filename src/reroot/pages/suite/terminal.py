"""The suite in a terminal: both ranks of every method, and the speed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..kit.formatting import listing, quantity, share
from .page import errors, ordered, task_name

if TYPE_CHECKING:
    from rich.console import RenderableType


def suite_table(summary: Mapping[str, Any]) -> RenderableType:
    """Per group of tasks a table: method, and rank, mean reward and passes at either budget.

    Methods come in their order at equal tokens.
    """
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[RenderableType] = []
    for group in summary["groups"]:
        tasks = listing([task_name(task) for task in group["tasks"]])
        flipped = f"{len(group['flips'])} of {group['pairs']} pairs change places"
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), title_justify="left",
                      title=Text(f"{tasks}: {flipped}"), title_style="bold")  # fmt: skip
        table.add_column("method", overflow="fold")
        for name in (
            "equal\ntokens",
            "\nreward",
            "\n%",
            "equal\ncalls",
            "\nreward",
            "\n%",
            "\nflips",
        ):
            table.add_column(name, justify="right", no_wrap=True)
        for row in ordered(group, "tokens"):
            marks = [f"▲{len(row['passes'])}" if row["passes"] else ""]
            marks += [f"▼{len(row['passed_by'])}" if row["passed_by"] else ""]
            numbers = [*_cells(row["tokens"]), *_cells(row["calls"])]
            table.add_row(Text(row["short"]), *numbers, Text(" ".join(marks).strip()))
        parts += [table]
    return Group(*parts, Text("\n".join([_speed(summary), *errors(summary)]), style="dim"))


def _cells(numbers: Mapping[str, Any]) -> tuple[str, str, str]:
    """Rank, mean reward, and share of problems that passed."""
    reward = "·" if numbers["reward"] is None else f"{numbers['reward']:.2f}"
    return str(numbers["rank"]), reward, share(numbers["pass_rate"])


def _speed(summary: Mapping[str, Any]) -> str:
    def rate(part: str) -> str:
        value = summary["speed"][part]["per_second"]
        return "unknown" if value is None else quantity(float(f"{value:.3g}"))

    return (
        f"Tokens per second: {rate('tokens')} at equal tokens, {rate('calls')} at equal calls, "
        f"{rate('rollouts')} for plain rollouts alone."
    )
