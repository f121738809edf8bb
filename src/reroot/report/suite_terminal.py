"""The suite in a terminal: both rankings beside each other, and the speed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .suite_page import ordered, task_name
from .words import listing, quantity, share

if TYPE_CHECKING:
    from rich.console import RenderableType


_WIDE = 100


def suite_table(summary: Mapping[str, Any], width: int = 100) -> RenderableType:
    """Per group of tasks a table: rank, method, mean reward and passes at either budget.

    Where ``width`` characters are too few, the passes are left out and names cut in the middle.
    """
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[RenderableType] = []
    wide = width >= _WIDE
    numbers = ("reward", "%") if wide else ("reward",)
    room = max(8, (width - (44 if wide else 34)) // 2)
    for group in summary["groups"]:
        tasks = listing([task_name(task) for task in group["tasks"]])
        flipped = f"{len(group['flips'])} of {group['pairs']} pairs change places"
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), title_justify="left",
                      title=Text(f"{tasks}: {flipped}"), title_style="bold")  # fmt: skip
        for name in ("equal tokens", *numbers, "equal calls", *numbers, "flips"):
            left = name.startswith("equal")
            table.add_column(name, justify="left" if left else "right", no_wrap=True)
        for a, b in zip(ordered(group, "tokens"), ordered(group, "calls"), strict=True):
            marks = [f"▲{len(b['passes'])}" if b["passes"] else ""]
            marks += [f"▼{len(b['passed_by'])}" if b["passed_by"] else ""]
            table.add_row(
                *_cells(a, "tokens", room, wide),
                *_cells(b, "calls", room, wide),
                Text(" ".join(marks).strip()),
            )
        parts += [table]
    return Group(*parts, Text(_speed(summary), style="dim"))


def _cells(row: Mapping[str, Any], budget: str, room: int, wide: bool) -> list[Any]:
    from rich.text import Text

    numbers = row[budget]
    reward = "·" if numbers["reward"] is None else f"{numbers['reward']:.2f}"
    name = row["short"]
    if len(name) > room:  # both ends tell learners apart
        name = f"{name[: room // 2]}…{name[room // 2 + 1 - room :]}"
    passed = [share(numbers["pass_rate"])] if wide else []
    return [Text(f"{numbers['rank']:2d} {name}"), reward, *passed]


def _speed(summary: Mapping[str, Any]) -> str:
    def rate(part: str) -> str:
        value = summary["speed"][part]["per_second"]
        return "unknown" if value is None else quantity(float(f"{value:.3g}"))

    return (
        f"Tokens per second: {rate('tokens')} at equal tokens, {rate('calls')} at equal calls, "
        f"{rate('rollouts')} for plain rollouts alone."
    )
