"""The suite in a terminal: both ranks of every method, and the speed."""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ..kit.formatting import listing, rounded
from ..kit.table import Table, columns
from .page import disagreements, errors, moved, ordered, task_name


def suite_table(summary: Mapping[str, Any], width: int = 100) -> RenderableType:
    """Per group of tasks a table: method, and rank, mean reward and passes at either budget.

    Methods come in their order at equal tokens.
    """
    half = "\nreward:.2f | \n%:p"
    heads = columns(f"method | equal\ntokens | {half} | equal\ncalls | {half} | \nflips")
    numbers, parts = itemgetter("rank", "reward", "pass_rate"), list[RenderableType]()
    for group in summary["groups"]:
        tasks = listing([task_name(task) for task in group["tasks"]])
        flipped = f"{len(group['flips'])} of {group['pairs']} pairs change places"
        rows = [
            [row["short"], *numbers(row["tokens"]), *numbers(row["calls"]), moved(row)]
            for row in ordered(group, "tokens")
        ]
        parts.append(Table(heads, rows, f"{tasks}: {flipped}").terminal(width))
    parts += [Text(text, style="bold red") for text in disagreements(summary)]
    tokens, calls, rollouts = (
        rounded(summary["speed"][part]["per_second"]) for part in ("tokens", "calls", "rollouts")
    )
    speed = f"Tokens per second: {tokens} at equal tokens, {calls} at equal calls, {rollouts} for plain rollouts alone."
    return Group(*parts, Text("\n".join([speed, *errors(summary)]), style="dim"))
