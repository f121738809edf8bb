"""A diagnosis on one screen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ..kit.formatting import listing, percent, quantity, shares
from .page import causes_table, remedies_table
from .words import headline, tokens_words


def diagnosis_screen(summary: Mapping[str, Any], width: int = 100) -> RenderableType:
    """What limits the problems, what a trainer will see, and what would help."""
    parts: list[RenderableType] = [Text(headline(summary), style="bold"), Text()]
    causes = {cause: found for cause, found in summary["shares"].items() if found["problems"]}
    parts.append(causes_table(causes).terminal(width))
    if summary["forecast"]:
        parts += [_forecast(summary["forecast"]), Text()]
        known = [one for one in summary["remedies"] if one["tokens"] is not None]
        parts.append(remedies_table(known).terminal(width))
        unknown = [one["name"] for one in summary["remedies"] if one["tokens"] is None]
        parts += [Text(f"Unknown: {listing(unknown)}.")]
    parts += [Text(f"{quantity(summary['tokens'])} tokens were spent.")]
    parts += [Text(f"note: {note}") for note in summary["notes"]]
    return Group(*parts)


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
