"""Inline SVG: matplotlib drawings made self-contained, themable and deterministic.

Drawings use the fixed colours of ``COLORS``; ``to_svg`` turns them into CSS variables, so that one
drawing serves light and dark pages and print.
"""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ...contract import Control
from ...errors import MissingDependency
from .markup import Html
from .table import markup

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {
    "root": ("#d55e00", "#ff8c42"),
    "episode": ("#7a5c00", "#c9a53a"),
    "visited": ("#a8519a", "#e296d6"),
    "reset": ("#0072b2", "#5cb8f2"),
    "chosen": ("#00896b", "#35d0a4"),
    "heat": ("#d9a400", "#a67c00"),
    "ink": ("#1c1c1e", "#ececee"),
    "muted": ("#6b6b70", "#a0a0a8"),
    "line": ("#dededf", "#3a3a3f"),
    "paper": ("#fffffe", "#161618"),
}
"""Name → colour on a light page (as drawn) and on a dark one. The control colours come from
the Okabe-Ito palette, darkened where needed for contrast on white."""

MARKERS = ("o", "s", "D", "P", "X", "v", "^", "*", "<", ">")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.6)), (0, (6, 2, 1, 2)), (0, (3, 1.5)))

FONT_SIZE = 12.0
"""Points per pixel are 1: figures are drawn at 72 dots per inch and shown at their pixel size."""


def color(name: str | Control) -> str:
    """The drawing colour of a control level or of ``ink``, ``muted``, ``line``, ``paper``."""
    return COLORS[str(name)][0]


def marks(tone: str, style: int, dash: int, width: float, hollow: bool = False) -> dict[str, Any]:
    """Keyword arguments of a line with markers, in the colour ``tone``."""
    look = {"linestyle": DASHES[dash % len(DASHES)], "marker": MARKERS[style % len(MARKERS)]}
    look |= {"linewidth": width, "markersize": 6, "markeredgecolor": color(tone)}
    return look | {"color": color(tone), "markerfacecolor": color("paper" if hollow else tone)}


def log_axis(axis: Any, show: Callable[[float], str], most: int) -> None:
    """Label a log axis at ``most`` powers of ten or fewer."""
    from matplotlib.ticker import LogLocator

    axis.set_major_locator(LogLocator(10, numticks=most))
    axis.set_major_formatter(lambda value, _: show(value))
    axis.set_ticks([], minor=True)


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
    axes.tick_params(colors=color("muted"), labelcolor=color("ink"), labelsize=FONT_SIZE)
    axes.tick_params(which="minor", length=0)
    axes.grid(True, color=color("line"), linewidth=0.7)
    axes.set_axisbelow(True)
    return figure, axes


def label(axes: Axes, x: str, y: str) -> None:
    """Axis labels, taken literally (no TeX)."""
    for text in (axes.set_xlabel(x, fontsize=FONT_SIZE), axes.set_ylabel(y, fontsize=FONT_SIZE)):
        text.set_parse_math(False)
        text.set_color(color("ink"))


def to_svg(figure: Figure, name: str, description: str) -> Html:
    """A figure as an ``<svg>`` element with text as text, ids unique by ``name``, no date.

    Args:
        figure: the drawing.
        name: letters, digits and hyphens; different for every figure of a page.
        description: read by screen readers.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    out = io.BytesIO()
    settings: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": name}
    settings["axes.formatter.use_mathtext"] = False
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
    """The line and marker of a series in a legend, as characters."""
    glyph = _GLYPHS[style % len(MARKERS)][hollow]
    return line_swatch(tone, style if line else None, glyph)


def line_swatch(tone: object, dash: int | None = 0, glyph: str = "") -> Html:
    """A line of a legend, and what lies on it."""
    line = "" if dash is None else f'<i class="dash{dash % len(DASHES)}"></i>'
    return Html(
        f'<span class="key" style="color: var(--{tone})" aria-hidden="true">{line}{glyph}</span>'
    )


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
