"""The suite in a terminal: both rankings beside each other, and the speed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .suite_page import ordered, task_name
from .words import listing, quantity, share

if TYPE_CHECKING:
    from rich.console import RenderableType


def suite_table(summary: Mapping[str, Any]) -> RenderableType:
    """Per group of tasks a table: rank, method, mean reward and passes at either budget."""
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
        for name in ("equal tokens", "reward", "%", "equal calls", "reward", "%", ""):
            left = name.startswith("equal")
            table.add_column(name, justify="left" if left else "right", no_wrap=True)
        for a, b in zip(ordered(group, "tokens"), ordered(group, "calls"), strict=True):
            marks = [f"▲{len(b['passes'])}" if b["passes"] else ""]
            marks += [f"▼{len(b['passed_by'])}" if b["passed_by"] else ""]
            table.add_row(*_cells(a, "tokens"), *_cells(b, "calls"), Text(" ".join(marks).strip()))
        parts += [table]
    return Group(*parts, Text(_speed(summary), style="dim"))


def _cells(row: Mapping[str, Any], budget: str) -> list[Any]:
    from rich.text import Text

    numbers = row[budget]
    reward = "·" if numbers["reward"] is None else f"{numbers['reward']:.2f}"
    return [Text(f"{numbers['rank']:2d} {row['short']}"), reward, share(numbers["pass_rate"])]


def _speed(summary: Mapping[str, Any]) -> str:
    def rate(part: str) -> str:
        value = summary["speed"][part]["per_second"]
        return "unknown" if value is None else quantity(float(f"{value:.3g}"))

    return (
        f"Tokens per second: {rate('tokens')} at equal tokens, {rate('calls')} at equal calls, "
        f"{rate('rollouts')} for plain rollouts alone."
    )
