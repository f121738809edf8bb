"""Curves and points with intervals, in the style of the report."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np

from ..diagnosis.intervals import clopper_pearson
from ..pages.kit import plots as svg
from ..pages.kit.formatting import from_log
from ..pages.kit.markup import Html
from ..pages.kit.plots import figure


@dataclass(frozen=True, slots=True)
class Line:
    """One series of a plot.

    Attributes:
        label: what it is, for the legend; empty: not in the legend.
        x, y: points; nan leaves a gap.
        low, high: ends of the intervals of y, where there are any.
        color: a control level (root, episode, visited, reset, chosen) or ``muted`` or ``ink``.
        style: number of its marker and dash.
        exact: an exact law: a wide pale line without markers.
        points: markers only.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    color: str = "root"
    style: int = 0
    exact: bool = False
    points: bool = False

    @classmethod
    def law(
        cls, label: str, x: Sequence[float], f: Callable[[Any], float], color: str = "muted"
    ) -> Line:
        """An exact law, at these points."""
        return cls(label, x, [float(f(at)) for at in x], color=color, exact=True)

    @classmethod
    def rates(
        cls,
        label: str,
        x: Sequence[float],
        counts: Sequence[tuple[int, int]],
        color: str,
        style: int,
    ) -> Line:
        """Measured rates, k of n each, with 95 % intervals."""
        low, high = zip(*(clopper_pearson(k, n) for k, n in counts), strict=True)
        return cls(label, x, [k / n for k, n in counts], low, high, color, style, points=True)


@dataclass(frozen=True, slots=True)
class Axes:
    """Labels, scales and ranges of a plot; ``None`` leaves a range to the data."""

    x: str
    y: str
    log_x: bool = False
    log_y: bool = False
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    x_ticks: Sequence[float] = field(default_factory=tuple)
    horizontal: float | None = None


def plot(name: str, caption: str, axes: Axes, lines: Sequence[Line]) -> Html:
    """A figure with a legend, as HTML.

    Args:
        name: id of the drawing, unique on its page: letters, digits, hyphens.
        caption: above the drawing.
        axes: labels, scales and ranges.
        lines: the series, first below.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    drawing, ax = svg.new_figure()
    if axes.log_x:
        ax.set_xscale("log")
        svg.log_axis(ax.xaxis, _power, 8)
    if axes.log_y:
        ax.set_yscale("log")
        svg.log_axis(ax.yaxis, _power, 8)
    if axes.horizontal is not None:
        ax.axhline(axes.horizontal, color=svg.color("muted"), linewidth=1, linestyle=(0, (2, 2)))
    for line in lines:
        _draw(ax, line)
    if axes.x_range:
        ax.set_xlim(*axes.x_range)
    if axes.y_range:
        ax.set_ylim(*axes.y_range)
    if len(axes.x_ticks):
        svg.named_axis(ax.xaxis, axes.x_ticks, [f"{x:g}" for x in axes.x_ticks])
    svg.label(ax, axes.x, axes.y)
    entries = [_entry(line) for line in lines if line.label]
    return figure(caption, svg.to_svg(drawing, name, caption), entries)


def _power(value: float) -> str:
    """As short as it stands beside an axis: from a million on a power of ten."""
    return from_log(math.log(value))


def _draw(ax: Any, line: Line) -> None:
    tone = svg.color(line.color)
    x, y = np.asarray(line.x, dtype=float), np.asarray(line.y, dtype=float)
    if line.exact:
        ax.plot(x, y, color=tone, linewidth=5, alpha=0.35, zorder=1, solid_capstyle="round")
        return
    look = svg.marks(line.color, line.style, line.style, 1.6) | {"markersize": 5.5}
    ax.plot(x, y, zorder=3, **look | ({"linestyle": "none"} if line.points else {}))
    if len(line.low):
        ax.vlines(x, line.low, line.high, color=tone, linewidth=1.1, zorder=2)


def _entry(line: Line) -> Html:
    """A series in the legend."""
    if line.exact:
        return svg.band(line.label, line.color)
    return Html(f"{svg.swatch(line.color, line.style, line=not line.points)}{escape(line.label)}")
