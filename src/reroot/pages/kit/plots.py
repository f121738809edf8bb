"""Inline SVG: matplotlib drawings made self-contained, themable and deterministic.

Drawings use the fixed colours of ``COLORS``; ``to_svg`` turns them into CSS variables, so that one
drawing serves light and dark pages and print.
"""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ...contract import Control
from ...errors import MissingDependency
from .markup import Html
from .table import markup

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

COLORS = {
    "root": ("#b85000", "#ff8c42"),
    "episode": ("#7a5c00", "#c9a53a"),
    "visited": ("#9c4a8f", "#e296d6"),
    "reset": ("#0068a3", "#5cb8f2"),
    "chosen": ("#00775d", "#35d0a4"),
    "heat": ("#8a6900", "#a67c00"),
    "ink": ("#1c1c1e", "#ececee"),
    "muted": ("#65656a", "#a0a0a8"),
    "line": ("#dededf", "#3a3a3f"),
    "paper": ("#fffffe", "#161618"),
}
"""Name → colour on a light page (as drawn) and on a dark one. The control colours come from
the Okabe-Ito palette, darkened until text in them is read on a panel (contrast 4.5)."""

MARKERS = ("o", "s", "D", "P", "X", "v", "^", "*", "<", ">")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.6)), (0, (6, 2, 1, 2)), (0, (3, 1.5)))

FONT_SIZE = 12.0
"""Points per pixel are 1: figures are drawn at 72 dots per inch and shown at their pixel size."""

_TEXT: dict[str, Any] = {"size": FONT_SIZE, "color": COLORS["ink"][0], "parse_math": False}


def color(name: str | Control) -> str:
    """The drawing colour of a control level or of ``ink``, ``muted``, ``line``, ``paper``."""
    return COLORS[str(name)][0]


def marks(tone: str, style: int, dash: int, width: float, hollow: bool = False) -> dict[str, Any]:
    """Keyword arguments of a line with markers, in the colour ``tone``."""
    look = {"linestyle": DASHES[dash % len(DASHES)], "marker": MARKERS[style % len(MARKERS)]}
    look |= {"linewidth": width, "markersize": 6, "markeredgecolor": color(tone)}
    return look | {"color": color(tone), "markerfacecolor": color("paper" if hollow else tone)}


def log_axis(axis: Axis, show: Callable[[float], str], most: int) -> None:
    """Label a log axis at ``most`` powers of ten or fewer."""
    from matplotlib.ticker import LogLocator

    axis.set_major_locator(LogLocator(10, numticks=most))
    axis.set_major_formatter(lambda value, _: show(value))


def named_axis(axis: Axis, at: Sequence[float], names: Iterable[object]) -> None:
    """Label an axis at these places alone."""
    from matplotlib.ticker import FixedFormatter, FixedLocator

    axis.set_major_locator(FixedLocator(at))
    axis.set_major_formatter(FixedFormatter([str(name) for name in names]))


def new_figure(
    width: float = 440, height: float = 280, left: float = 68, bottom: float = 46, top: float = 10
) -> tuple[Figure, Axes]:
    """A figure with one plain pair of axes; size and margins in pixels.

    Fixed margins, so that the axes of neighbouring panels line up.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingDependency("figures need matplotlib: pip install reroot[report]") from None
    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    figure.patch.set_alpha(0)
    size = (width - 14 - left) / width, (height - top - bottom) / height
    axes = figure.add_axes((left / width, bottom / height, *size))
    axes.patch.set_alpha(0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(color("muted"))
    return figure, axes


def named_rows(
    names: Sequence[str], width: float, left: float, row: float, more: float
) -> tuple[Figure, Axes]:
    """A figure with a named row each, from the top down, ``row`` pixels high; ``more``: what is left for the rest."""
    figure, axes = new_figure(width, more + row * len(names), left)
    named_axis(axes.yaxis, range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    return figure, axes


def label(axes: Axes, x: str, y: str) -> None:
    """Axis labels at the edges of the figure, taken literally (no TeX)."""
    box, figure = axes.get_position(), axes.get_figure(root=True)
    assert figure is not None
    width, height = figure.get_size_inches() * 72
    middle = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
    look: dict[str, Any] = {"ha": "center", "va": "center", **_TEXT}
    figure.text(middle[0], 12 / height, x, **look)
    figure.text(9 / width, middle[1], y, rotation=90, **look)


def _rule(axes: Axes, which: str, grid: bool) -> None:
    """Lines and labels where the locator of an axis says. Matplotlib's own ticks are five artists each: with them
    a page takes half as long again."""
    from matplotlib.collections import LineCollection
    from matplotlib.ticker import LogLocator

    flat = which == "x"
    axis, view = (axes.xaxis, axes.get_xlim()) if flat else (axes.yaxis, axes.get_ylim())
    low, high = sorted(view)
    slack, show = 1e-10 * (high - low), axis.get_major_formatter()

    def labelled() -> list[tuple[float, str]]:
        places = [float(x) for x in axis.get_majorticklocs()]
        names = zip(places, show.format_ticks(places), strict=True)
        return [(x, text) for x, text in names if low - slack <= x <= high + slack]

    shown = labelled()
    if len(shown) < 2 and isinstance(axis.get_major_locator(), LogLocator):
        axis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
        shown = labelled()
    if grid:
        across = axes.get_xaxis_transform() if flat else axes.get_yaxis_transform()
        ends = [[(x, 0), (x, 1)] if flat else [(0, x), (1, x)] for x, _ in shown]
        lines = LineCollection(ends, colors=color("line"), linewidths=0.7, transform=across)
        lines.set(gid=f"grid-{which}", zorder=0.5)
        axes.add_collection(lines, autolim=False)
    find = axes.get_xaxis_text1_transform if flat else axes.get_yaxis_text1_transform
    transform, va, ha = find(5)
    for i, (x, text) in enumerate(shown):
        more = show.get_offset() if i == len(shown) - 1 else ""  # a power of ten that all share
        at = (x, 0) if flat else (0, x)
        axes.text(*at, f"{text} {more}".strip(), transform=transform, va=va, ha=ha, **_TEXT)
    axis.set_visible(False)


def to_svg(figure: Figure, name: str, description: str, grid: str = "xy") -> Html:
    """A figure as an ``<svg>`` element with text as text, ids unique by ``name``, no date.

    Args:
        figure: the drawing.
        name: letters, digits and hyphens; different for every figure of a page.
        description: read by screen readers.
        grid: axes with grid lines.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    out = io.BytesIO()
    settings: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": name}
    settings["axes.formatter.use_mathtext"] = False
    for axes in figure.axes:
        for which in "xy":
            _rule(axes, which, which in grid)
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        canvas = FigureCanvasSVG(figure)
        canvas.print_svg(out, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return Html(_adapt(out.getvalue().decode("utf-8"), name, description))


def _adapt(svg: str, name: str, description: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]*)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'href="#([^"]*)"', rf'href="#{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]*)\)", rf"url(#{name}-\1)", svg)
    for css, (drawn, _) in COLORS.items():
        svg = svg.replace(drawn, f"var(--{css})")
    size = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', svg)
    assert size is not None
    width = size.group(1)
    text = html.escape(description)
    head = f'role="img" aria-label="{text}" style="max-width: {1.12 * float(width):.0f}px"'
    return svg.replace(size.group(0), head, 1).strip()


def swatch(tone: object, style: int, *, line: bool = True, hollow: bool = False) -> Html:
    """The line and marker of a series in a legend, drawn by the style sheet."""
    glyph = _GLYPHS[style % len(MARKERS)][hollow]
    return line_swatch(tone, style if line else None, glyph)


def line_swatch(tone: object, dash: int | None = 0, glyph: str = "") -> Html:
    """A line of a legend, and what lies on it."""
    line = "" if dash is None else f'<i class="dash{dash % len(DASHES)}"></i>'
    look = f'style="color: var(--{tone})" data-mark="{glyph}" aria-hidden="true"'
    return Html(f'<span class="key" {look}>{line}</span>')


def band(text: str, tone: object = "muted") -> Html:
    """The entry of an exact law in a legend."""
    return Html(f'<span class="band" style="background: var(--{tone})"></span>{html.escape(text)}')


_GLYPHS = ("●○", "■□", "◆◇", "✚✛", "✖✕", "▼▽", "▲△", "★☆", "◀◁", "▶▷")
"""The markers above, in the same order, full and hollow."""


def figure(caption: str, drawing: str, items: Iterable[str] = ()) -> Html:
    """A drawing with its caption and the entries of its legend; text but ``Html`` is escaped."""
    return Html(
        f"<figure><figcaption>{markup(caption)}</figcaption>{drawing}{legend(items)}</figure>"
    )


def legend(items: Iterable[str]) -> Html:
    """A list of legend entries; nothing if there are none."""
    entries = "".join(f"<li>{markup(item)}</li>" for item in items)
    return Html(f'<ul class="legend">{entries}</ul>' if entries else "")


def grid(drawings: Iterable[str]) -> Html:
    """Figures side by side, as many as fit; those that are empty are left out."""
    shown = "".join(filter(None, drawings))
    return Html(f'<div class="panels">{shown}</div>' if shown else "")
