"""A diagnosis on one screen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ..kit.formatting import listing, percent, quantity, shares
from ..kit.table import Table, columns
from .words import NEXT, headline, tokens_words


def diagnosis_screen(summary: Mapping[str, Any], width: int = 100) -> RenderableType:
    """What limits the problems, what a trainer will see, and what would help."""
    parts: list[RenderableType] = [Text(headline(summary), style="bold"), Text()]
    causes = [
        [cause, NEXT[cause], found["problems"], f"{shares(found['interval'])} %"]
        for cause, found in summary["shares"].items()
        if found["problems"]
    ]
    parts.append(
        Table(columns("what limits | do first | problems | 95 %", 2), causes).terminal(width)
    )
    if summary["forecast"]:
        parts += [_forecast(summary["forecast"]), Text()]
        known = [one for one in summary["remedies"] if one["tokens"] is not None]
        rows = [[one["name"], _needs(one), *tokens_words(one["tokens"])] for one in known]
        head = "remedy | interface | tokens to first signal | 95 %"
        parts.append(Table(columns(head, 2), rows).terminal(width))
        unknown = [one["name"] for one in summary["remedies"] if one["tokens"] is None]
        parts += [Text(f"Unknown: {listing(unknown)}.")]
    parts += [Text(f"{quantity(summary['tokens'])} tokens were spent.")]
    parts += [Text(f"note: {note}") for note in summary["notes"]]
    return Group(*parts)


def _needs(one: Mapping[str, Any]) -> str:
    return one["needs"].partition("+")[0] + ("" if one["granted"] else " (not granted)")


def _forecast(found: Mapping[str, Any]) -> Text:
    silent = percent(found["zero_variance"])
    median, interval = tokens_words(found["first_signal"]["tokens"])
    within = f" ({interval})" if interval else ""
    run = found["zero_variance_prediction"]
    return Text(
        f"With groups of {found['group']}, {silent} % of groups have zero variance "
        f"({percent(found['all_wrong'])} % all wrong; {shares(run['these'])} % in a first pass over the problems); "
        f"tokens to the first signal: {median}{within}."
    )
