"""The law of a certificate, drawn: what was found as bars, what is stated, and what it is compared with, as marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..kit import plots
from ..kit.markup import Html

_MOST_NAMED = 16  # more outputs than this are not named below their bars

_RINGS = {"aimed": ("root", "compared with"), "own": ("visited", "its own output")}


def law_legend(laws: Sequence[Sequence[Mapping[str, Any]]]) -> list[Html]:
    """Entries of the legend of some charts."""
    rings = {_ring(law) for law in laws}
    return [
        Html(f"{plots.swatch('reset', 1, line=False)}found"),
        Html(f"{plots.line_swatch('ink')}stated"),
        *(
            Html(f"{plots.swatch(color, 0, line=False, hollow=True)}{name}")
            for ring, (color, name) in _RINGS.items()
            if ring in rings
        ),
    ]


def _ring(law: Sequence[Mapping[str, Any]]) -> str | None:
    """Which law the rings show: the learner's own, where it is not the one that was checked."""
    return next((ring for ring in ("own", "aimed") if law[0][ring] is not None), None)


def law_chart(law: Sequence[Mapping[str, Any]], name: str, description: str) -> Html:
    """A bar of the found probability of each output, a line at the stated one, and a ring at that of the
    learner's own output, or else at the one that it is compared with.

    Args:
        law: ``output, found, stated, aimed, own`` of each output, as in a record.
        name: id of the drawing.
        description: read by screen readers.
    """
    figure, axes = plots.new_figure(440, 160, left=44, bottom=24)
    at = range(len(law))
    axes.bar(at, [row["found"] for row in law], 0.62, color=plots.color("reset"), zorder=2)
    if law[0]["stated"] is not None:
        stated = [row["stated"] for row in law]
        ends = [x - 0.4 for x in at], [x + 0.4 for x in at]
        axes.hlines(stated, *ends, color=plots.color("ink"), linewidth=1.6, zorder=3)
    if ring := _ring(law):
        look = plots.marks(_RINGS[ring][0], 0, 0, 0, hollow=True)
        axes.plot(at, [row[ring] for row in law], **look, zorder=4, clip_on=False)
    names = [output_name(row["output"]) for row in law]
    step = (
        1 + len(law) * (max(map(len, names)) + 1) * 7 // 382
    )  # as many as stand beside each other
    shown = at[::step] if len(law) <= _MOST_NAMED else []
    plots.named_axis(axes.xaxis, shown, [names[i] for i in shown])
    axes.set_ylim(bottom=0)
    axes.locator_params(axis="y", nbins=3)
    return plots.to_svg(figure, name, description, grid="y")


def output_name(tokens: Sequence[int] | None) -> str:
    """``0 1 2`` as ``012``; ``none`` where there is no output."""
    return "none" if tokens is None else "".join(map(str, tokens))
