"""A diagnosis on one screen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ..kit.formatting import listing, percent, quantity, shares
from ..kit.table import terminal_table
from .words import NEXT, headline, tokens_words


def diagnosis_screen(summary: Mapping[str, Any]) -> RenderableType:
    """What limits the problems, what a trainer will see, and what would help."""
    parts: list[RenderableType] = [Text(headline(summary), style="bold"), Text()]
    causes = terminal_table(["what limits", "do first"], ["problems", "95 %"])
    for cause, found in summary["shares"].items():
        if found["problems"]:
            causes.add_row(
                cause, NEXT[cause], str(found["problems"]), f"{shares(found['interval'])} %"
            )
    parts.append(causes)
    if summary["forecast"]:
        parts += [_forecast(summary["forecast"]), Text()]
        remedies = terminal_table(["remedy", "interface"], ["tokens to first signal", "95 %"])
        for one in summary["remedies"]:
            if one["tokens"] is not None:
                median, interval = tokens_words(one["tokens"])
                needs = one["needs"].partition("+")[0] + (
                    "" if one["granted"] else " (not granted)"
                )
                remedies.add_row(one["name"], needs, median, interval)
        parts.append(remedies)
        unknown = [one["name"] for one in summary["remedies"] if one["tokens"] is None]
        parts += [Text(f"Unknown, as not tried: {listing(unknown)}.")]
    parts += [Text(f"{quantity(summary['tokens'])} tokens were spent.")]
    parts += [Text(f"note: {note}") for note in summary["notes"]]
    return Group(*parts)


def _forecast(found: Mapping[str, Any]) -> Text:
    silent = percent(found["zero_variance"])
    median, interval = tokens_words(found["first_signal"]["tokens"])
    within = f" ({interval})" if interval else ""
    return Text(
        f"With groups of {found['group']}, {silent} % of groups have zero variance "
        f"({percent(found['all_wrong'])} % all wrong); tokens to the first signal: {median}{within}."
    )
