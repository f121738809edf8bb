"""One table, for every place where it is shown: HTML, terminal, Markdown, CSV, LaTeX and JSON of the same data."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from ...errors import visible
from .formatting import from_log, points, quantity, rounded, share
from .markup import Html, plain, styled


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        name: its heading.
        text: left-aligned text; else a number.
        format: of its values: Python's, or ``q`` (a quantity), ``r`` (one to three digits), ``p`` (a probability
            in percent), ``points`` (a difference of two), ``log`` (a number given by its natural logarithm; ``log3``: three digits), ``name`` (an
            interface, as visited/sample), ``code``, ``yes``.
        spare: a narrow terminal goes without it, the lowest first; 0: never.
    """

    name: str
    text: bool = False
    format: str = ""
    spare: int = 0


Row = Sequence[Any]
"""A value of each column: a number, text, ``None`` (shown as ``·``), or ``Html``; or one alone, a heading of rows."""


@dataclass(frozen=True, slots=True)
class Table:
    """Columns, rows of data, and what they are about.

    It stands in a template as ``{{ table }}``. All text but ``Html`` is escaped.

    Attributes:
        columns: what stands in each.
        rows: their values.
        caption: above it; without one, a page takes the heading before it for readers of its screen.
        style: classes of the style sheet.
    """

    columns: Sequence[Column]
    rows: Sequence[Row]
    caption: str = ""
    style: str = ""

    def __bool__(self) -> bool:
        return bool(self.rows)

    def __html__(self) -> str:
        return self.html()

    def html(self) -> Html:
        """A table in a box that scrolls if it must; the first column heads its rows."""
        if not self.columns:
            return Html()
        head = "".join(_cell("th", column, markup(column.name), "col") for column in self.columns)
        body = "".join(f"<tr{_group(row)}>{''.join(self._line(row))}</tr>" for row in self.rows)
        said, kind = escape(plain(self.caption)), f' class="{self.style}"' if self.style else ""
        unseen = "" if said else ' class="unseen"'
        return Html(
            f'<div class="wide" role="region" tabindex="0" aria-label="{said}"><table{kind}>'
            f"<caption{unseen}>{markup(self.caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )

    def _line(self, row: Row) -> Iterator[str]:
        if len(row) == 1 < len(self.columns):
            yield f'<th class="text" scope="rowgroup" colspan="{len(self.columns)}">{markup(row[0])}</th>'
            return
        for i, (column, value) in enumerate(zip(self.columns, row, strict=True)):
            yield _cell("td" if i else "th", column, markup(value, column.format), "row")

    def terminal(self, width: int = 100) -> RenderableType:
        """For Rich. Where ``width`` characters are too few, spare columns are left out, then what is small."""
        spare = [i for i, column in enumerate(self.columns) if column.spare]
        order = sorted(spare, key=lambda i: self.columns[i].spare)
        for small in (True, False):
            for n in range(len(order) + 1):
                grid = self._grid(small, order[:n])
                if Console(width=10_000).measure(grid).maximum <= width:
                    return grid
        grid = self._grid(False, order)
        for column in grid.columns:  # whole words where there is room, all the text in any case
            column.no_wrap = False
        return grid

    def _grid(self, small: bool, without: Sequence[int]) -> Grid:
        shown = [i for i in range(len(self.columns)) if i not in without]
        look: dict[str, Any] = {"box": box.SIMPLE_HEAD, "pad_edge": False, "padding": (0, 1, 0, 0)}
        title = Text(visible(plain(self.caption))) if self.caption else None
        grid = Grid(**look, title=title, title_justify="left", title_style="bold")
        for i in shown:
            column, name = self.columns[i], Text(visible(plain(self.columns[i].name)))
            right = "left" if column.text else "right"
            grid.add_column(name, justify=right, overflow="fold", no_wrap=not column.text or not i)
        for row in self.rows:
            if len(row) == 1 < len(self.columns):
                grid.add_row(styled(markup(row[0]), small))
            else:
                cells = (markup(row[i], self.columns[i].format) for i in shown)
                grid.add_row(*(styled(cell, small) for cell in cells))
        return grid

    def markdown(self) -> str:
        """A table of GitHub's Markdown, its caption before it."""
        head, *body = ([re.sub(r"([|\\`*_<])", r"\\\1", x) for x in line] for line in self._texts())
        lines = [head, [":--" if c.text else "--:" for c in self.columns], *body]
        said = [f"**{visible(plain(self.caption))}**", ""] if self.caption else []
        return "\n".join([*said, *(f"| {' | '.join(line)} |" for line in lines), ""])

    def latex(self) -> str:
        """A ``tabular`` with the rules of booktabs, its caption in a comment."""
        head, *body = (" & ".join(map(_latex, line)) + r" \\" for line in self._texts())
        sides = "".join("l" if column.text else "r" for column in self.columns)
        lines = [rf"\begin{{tabular}}{{{sides}}}", r"\toprule", head, r"\midrule", *body]
        said = [f"% {' '.join(visible(plain(self.caption)).split())}"] if self.caption else []
        return "\n".join([*said, *lines, r"\bottomrule", r"\end{tabular}", ""])

    def _texts(self) -> Iterator[list[str]]:
        """The heading and each row as text without line breaks, headings of rows in the first column."""
        yield [_text(column.name) for column in self.columns]
        for row in self.rows:
            cells = [_text(v, c.format) for v, c in zip(row, self.columns, strict=False)]
            yield cells + [""] * (len(self.columns) - len(cells))

    def records(self) -> list[dict[str, Any]]:
        """A mapping of each row: column → value; of a value with an interval also ``… low`` and ``… high``.

        The heading over a row is its ``group``, where there are any.
        """
        found, group = list[dict[str, Any]](), None
        names = [_text(c.name) or f"column {i + 1}" for i, c in enumerate(self.columns)]
        for row in self.rows:
            if len(row) == 1 < len(self.columns):
                group = _text(row[0])
                continue
            record: dict[str, Any] = {} if group is None else {"group": group}
            for name, value in zip(names, row, strict=True):
                record[name] = _data(value)
                if isinstance(value, Html) and value.interval is not None:
                    record[f"{name} low"], record[f"{name} high"] = value.interval
            found.append(record)
        return found

    def csv(self) -> str:
        """Comma-separated values with a line of names; unknown values are empty."""
        records, out = self.records(), io.StringIO()
        names = dict.fromkeys(name for record in records for name in record)
        names = names or dict.fromkeys(_text(column.name) for column in self.columns)
        writer = csv.DictWriter(out, list(names), lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
        return out.getvalue()

    def json(self) -> str:
        """``{"caption": …, "rows": […]}``, as ``records``."""
        told = {"caption": plain(self.caption), "rows": self.records()}
        return json.dumps(told, ensure_ascii=False, indent=1, default=str)

    def sparing(self, *names: str) -> Table:
        """The same; a narrow terminal goes without these columns, the first of them first."""
        order = {name: i for i, name in enumerate(names, 1)}
        columns = [replace(c, spare=order.get(c.name, c.spare)) for c in self.columns]
        return replace(self, columns=columns)

    def titled(self, caption: str) -> Table:
        """The same under another caption."""
        return replace(self, caption=caption)


Part = str | Table
"""What a section is made of: HTML, and tables."""


def columns(head: str, text: int | Sequence[int] = 1) -> list[Column]:
    """Columns by their names and formats, ``"K | success:.3f"``; ``text``: how many from the left, or which, are text."""
    texts = range(text) if isinstance(text, int) else text
    parts = [re.fullmatch(r"(.*?)(?::(\S+))?", part, re.DOTALL) for part in head.split(" | ")]
    return [Column(m[1], i in texts, m[2] or "") for i, m in enumerate(parts) if m]


def grouped(rows: Iterable[tuple[str, Row]]) -> Iterator[Row]:
    """The rows, the heading of each before the first of those that share it; ``""`` is none."""
    before = ""
    for heading, row in rows:
        if heading and heading != before:
            yield [heading]
        before = heading
        yield row


# ---- cells -----------------------------------------------------------------------------------------

_FORMATS: dict[str, Callable[[Any], str]] = {
    "q": quantity,
    "r": rounded,
    "p": share,
    "points": points,
    "log": from_log,
    "name": lambda v: f'<span class="dot {escape(v.partition("/")[0])}"></span>{escape(v)}',
    "code": lambda v: f"<code>{escape(str(v))}</code>",
    "yes": lambda v: "yes" if v else "no",
}


def markup(value: Any, spec: str = "") -> Html:
    """A value as HTML, in a format of ``Column``."""
    if isinstance(value, Html):
        return value
    if value is None:
        return Html("·")
    if shown := _FORMATS.get(spec):
        return Html(shown(value))
    if spec.startswith("log"):
        return Html(from_log(value, int(spec[3:])))
    return Html(escape(format(value, spec) if spec else str(value)))


def _cell(tag: str, column: Column, shown: str, scope: str) -> str:
    kind = ' class="text"' if column.text else ""
    if tag == "th" and not shown:  # an empty heading heads nothing
        return f"<td{kind}></td>"
    heads = f' scope="{scope}"' if tag == "th" else ""
    return f"<{tag}{kind}{heads}>{shown}</{tag}>"


def _group(row: Row) -> str:
    return ' class="group"' if len(row) == 1 else ""


def _text(value: Any, spec: str = "") -> str:
    return " ".join(visible(plain(markup(value, spec))).split())


def _data(value: Any) -> Any:
    if isinstance(value, Html):
        return _text(value) if value.value is None else value.value
    return value


_LATEX = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "·": r"$\cdot$",
    "−": "$-$",
    "–": "--",
    "±": r"$\pm$",
    "×": r"$\times$",
    "≥": r"$\ge$",
    "≤": r"$\le$",
    "→": r"$\to$",
    "∞": r"$\infty$",
    "β": r"$\beta$",
    "α": r"$\alpha$",
    "ε": r"$\varepsilon$",
    "▲": r"$\uparrow$",
    "½": r"$\tfrac12$",
    "▼": r"$\downarrow$",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",
    **{high: f"$^{{{low}}}$" for high, low in zip("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789", strict=True)},
}


def _latex(text: str) -> str:
    """Text as LaTeX shows it literally."""
    return "".join(_LATEX.get(c, c) for c in text).replace("$$", "")
