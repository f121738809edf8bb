"""One page of several comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ...runs.across import Across, across_of
from ..kit.formatting import at_horizon, clipped, plural
from ..kit.markup import Html
from ..kit.page import render, write_page
from ..kit.plots import color, label, named_rows, to_svg
from ..kit.plots import figure as framed
from .tables import across_tables

PAGE = "across.html"
_MOST = 40
"""Differences that one figure shows."""
_CAPTION = "Differences of pass rates in points"


def write_across(across: Across, out: Path | None = None) -> Path:
    """Write the page of several comparisons; its path (default: ``across.html`` in the folder of the first).

    Raises:
        RunFolderError: it cannot be written.
        MissingDependency: matplotlib is not installed.
    """
    return write_page(out or across.runs[0].folder / PAGE, across_page(across))


def across_page(across: Across) -> str:
    """The page as text; the same runs give the same bytes."""
    found = across_of(across)
    title = f"{plural(len(across.runs), 'comparison')}: {', '.join(across.names)}"
    return render(
        f"reroot report: {title}",
        "across/page.html",
        heading=title,
        found=found,
        tables=across_tables(found),
        pairing=pairing(found["differences"]),
        figure=_figure(found["differences"]),
        commands=[
            (n, r.config.get("command") or "not recorded")
            for n, r in zip(across.names, across.runs, strict=True)
        ],
    )


def across_screen(found: Mapping[str, Any], width: int = 100) -> RenderableType:
    """The tables of ``across_of`` in a terminal."""
    tables = across_tables(found)
    shown = ("runs", "settings", "pass rates", "differences", "costs")
    parts: list[RenderableType] = [Text(line, style="bold yellow") for line in found["warnings"]]
    parts += [tables[name].terminal(width) for name in shown if name in tables]
    if found["differences"]:
        parts.append(Text(pairing(found["differences"]), style="dim"))
    return Group(*parts)


def pairing(rows: Sequence[Mapping[str, Any]]) -> str:
    """What was paired, and what was not."""
    pairs = sum(row["paired"] for row in rows)
    said = (
        "Paired: attempts of both runs on the same problem (task, id, prompt, answer) under the same seed; exact "
        "95 % interval of the difference of pass rates, each line of a data set counts once."
    )
    if pairs == len(rows):
        return said
    other = (
        "Unpaired: the runs share no such problem, so they are taken as independent, and the distances to the "
        "ends of both intervals are added as squares."
    )
    return f"{said} {other}" if pairs else other


def _figure(rows: Sequence[Mapping[str, Any]]) -> Html:
    """Differences with their intervals, the runs beside each other."""
    known = [row for row in rows if row["pass_difference"] is not None][:_MOST]
    if not known:
        return Html()
    told = [{**row, "place": at_horizon(row["task"], row["horizon"])} for row in known]
    apart = [part for part in ("place", "run") if len({row[part] for row in told}) > 1]
    names = [" · ".join(clipped(row[part], 34) for part in ("learner", *apart)) for row in told]
    figure, axes = named_rows(names, 860, 16 + 7.4 * max(map(len, names)), 18, 70)
    for y, row in enumerate(known):
        tone = color(row["control"])
        low, high = (100 * end for end in row["pass_interval"])
        axes.plot([low, high], [y, y], color=tone, linewidth=2)
        face = tone if row["paired"] else color("paper")
        axes.plot([100 * row["pass_difference"]], [y], "o", color=tone, markerfacecolor=face)
    axes.axvline(0, color=color("muted"), linewidth=1)
    label(axes, "difference of pass rates, points", "")
    said = "; ".join(
        f"{n}: {100 * r['pass_difference']:.0f}" for n, r in zip(names, known, strict=True)
    )
    drawn = framed(_CAPTION, to_svg(figure, "differences", f"{_CAPTION}. {said}"))
    return Html(
        f'<div class="wide" role="region" tabindex="0" aria-label="{_CAPTION}">{drawn}</div>'
    )
