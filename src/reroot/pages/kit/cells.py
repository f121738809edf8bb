"""Tables: cells as HTML, or headings and cells as text over rows of data; and what cells are made of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from string import Formatter
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table

from .formatting import from_log, quantity, signed
from .markup import Html

MARKS = ("holds", "fails", "measured")


class _Cells(Formatter):
    """Format strings with the formats of a page beside Python's."""

    def format_field(self, value: Any, format_spec: str) -> str:
        if value is None:
            return "·"
        if format_spec == "q":
            return quantity(value)
        if format_spec.startswith("log"):
            return from_log(value, int(format_spec[3:] or 2))
        if format_spec == "name":  # an interface, as in visited/sample
            return f"{dot(value.partition('/')[0])}{escape(value)}"
        if format_spec == "yes":
            return "yes" if value else "no"
        if format_spec or isinstance(value, Html):
            return format(value, format_spec)
        return escape(str(value))


def warning(text: str) -> str:
    """A box that is not overlooked; nothing without a text."""
    return f'<p class="warning" role="alert">{escape(text)}</p>' if text else ""


def table_of(
    head: str, cells: str, rows: Iterable[Mapping[str, Any]], text: int = 1, kind: str = ""
) -> str:
    """A table of data: ``table_of("K | success", "{K} | {rate:.3f}", rows)``.

    ``·`` stands for ``None``. Beside Python's formats a field may have ``q`` (a quantity), ``log`` (a
    number given by its natural logarithm; ``log3``: three digits), ``name`` (an interface) and ``yes``.
    """
    shown, parts = _Cells(), cells.split(" | ")
    made = [[shown.vformat(part, (), row) for part in parts] for row in rows]
    return table(head.split(" | "), made, text, kind)


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    text: int | Sequence[int] = 1,
    kind: str = "",
) -> str:
    """An HTML table; cells are HTML already. A row of one cell spans the table, as a heading.

    Args:
        head: of the columns.
        rows: their cells.
        text: how many columns, from the left, are left-aligned text; or which ones.
        kind: a class of the style sheet.
    """
    texts = range(text) if isinstance(text, int) else text

    def line(cells: Sequence[str], tag: str) -> str:
        if len(cells) == 1 < len(head):
            return f'<tr class="group"><td class="text" colspan="{len(head)}">{cells[0]}</td></tr>'
        kinds = [' class="text"' if i in texts else "" for i in range(len(cells))]
        return f"<tr>{''.join(f'<{tag}{k}>{c}</{tag}>' for k, c in zip(kinds, cells, strict=True))}</tr>"

    of_kind, body = f' class="{kind}"' if kind else "", "".join(line(row, "td") for row in rows)
    return (
        f'<div class="wide"><table{of_kind}><thead>{line(head, "th")}</thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def terminal_table(texts: Sequence[str], numbers: Sequence[str], **more: Any) -> Table:
    """An empty table of a terminal: columns of text, then of numbers; ``more`` is Rich's."""
    look = {"box": box.SIMPLE_HEAD, "pad_edge": False, "padding": (0, 1, 0, 0)}
    table = Table(**look, title_justify="left", title_style="bold", **more)
    for name in texts:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def fitting(tables: Iterable[Table], width: int) -> RenderableType:
    """The first table that is no wider than ``width`` characters; else the last."""
    measure, table = Console(width=10_000).measure, None
    for table in tables:
        if measure(table).maximum <= width:
            break
    assert table is not None
    return table


def configuration(config: Mapping[str, Any]) -> str:
    """``config.json`` as a table, the command left out."""
    rows: list[list[str]] = []
    for key, value in config.items():
        if key not in ("command", "learners"):
            shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            rows.append([escape(key), f'<div class="out">{escape(shown)}</div>'])
    for one in config.get("learners", []):
        name = f"learner {escape(str(one.get('label', one.get('name'))))}"
        rows.append([name, f"needs {escape(str(one.get('requires')))}"])
    return table(["", ""], rows, text=2)


# ---- cells -----------------------------------------------------------------------------------------


def dot(control: str) -> str:
    """The colour of a control level."""
    return f'<span class="dot" style="background: var(--{escape(control)})"></span>'


def named(control: object, text: str) -> Html:
    """A learner or method, with the colour of the control it needs."""
    return Html(f"{dot(str(control))}{escape(text)}")


def with_interval(value: Any, interval: Sequence[float] | None, *, sign: bool = True) -> Html:
    """A mean with its interval, where there are any."""
    if value is None or value == "-inf":
        return Html("·" if value is None else "−∞")

    def show(x: float) -> str:
        return signed(x) if sign else f"{x:.2f}".replace("-", "−")

    around = f" <small>{show(interval[0])} to {show(interval[1])}</small>" if interval else ""
    return Html(f"{show(value)}{around}")


def prose(text: str) -> Html:
    """Text in a cell that breaks into lines."""
    return Html(f'<div class="prose">{escape(text)}</div>')


def mark(holds: bool | None, words: Sequence[str] = MARKS) -> Html:
    """Whether something is as it should be; ``None``: nothing was claimed."""
    which = 2 if holds is None else int(not holds)
    return Html(f'<span class="{("yes", "off", "no")[which]}">{words[which]}</span>')


def facts(items: Iterable[tuple[str, str, str]]) -> str:
    """Names, values and what they are of, as tiles; the last two are HTML."""
    shown = "".join(
        f"<div><dt>{escape(name)}</dt><dd><b>{value}</b><span>{what}</span></dd></div>"
        for name, value, what in items
    )
    return f'<dl class="facts">{shown}</dl>'


def note(text: str) -> str:
    """A small paragraph, of HTML; nothing if there is no text."""
    return f'<p class="note">{text}</p>' if text else ""
