"""What cells are made of, and tables by a line of headings and a line of cells over rows of data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from string import Formatter
from typing import Any

from .formatting import share, shares, signed
from .markup import Html
from .table import Column, Table, columns, markup

MARKS = ("holds", "fails", "measured")


class _Cells(Formatter):
    """Format strings with the formats of a column beside Python's, to HTML."""

    def format_field(self, value: Any, format_spec: str) -> str:
        return markup(value, format_spec)


def table_of(
    head: str,
    cells: str,
    rows: Iterable[Mapping[str, Any]],
    text: int | Sequence[int] = 1,
    *,
    caption: str = "",
    style: str = "",
) -> Table:
    """A table of data: ``table_of("K | success", "{K} | {rate:.3f}", rows)``.

    Args:
        head: names of the columns, HTML.
        cells: what stands in them: one field, with a format of ``Column``, or HTML around several.
        rows: what the fields name.
        text: how many columns, from the left, are text; or which ones.
        caption, style: of the table.
    """
    shown, parts, rows = _Cells(), cells.split(" | "), list(rows)
    made, found = list[Column](), [list[Any]() for _ in rows]
    for column, part in zip(columns(head, text), parts, strict=True):
        (said, field, spec, _), *more = shown.parse(part)
        alone = field is not None and not said and not more
        made.append(Column(Html(column.name), column.text, (spec or "") if alone else ""))
        for line, row in zip(found, rows, strict=True):
            if alone and field is not None:
                line.append(shown.get_field(field, (), row)[0])
            else:
                line.append(Html(shown.vformat(part, (), row)))
    return Table(made, found, caption, style)


def configuration(config: Mapping[str, Any]) -> Table:
    """``config.json`` as a table, the command left out."""
    rows = [
        [key, Html(f'<div class="out">{escape(plain_setting(value))}</div>')]
        for key, value in config.items()
        if key not in ("command", "learners")
    ]
    for one in config.get("learners", []):
        name = one.get("label", one.get("name"))
        rows.append([f"learner {name}", f"needs {one.get('requires')}"])
    return Table(columns("setting | value", 2), rows)


def plain_setting(value: object) -> str:
    """A value of ``config.json`` as text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def records(names: str, rows: Iterable[Mapping[str, Any]], caption: str = "") -> Table:
    """Data as it is, a column for each of the names; ``reward:reward_interval``: a number and its interval.

    A list is joined by ``+``. Numbers are shown with four digits; as data they have all.
    """
    rows, made, cells = list(rows), list[Column](), list[list[Any]]()
    for name in names.split():
        key, _, ends = name.partition(":")
        values = [_datum(row[key], row[ends] if ends else None) for row in rows]
        text = any(isinstance(v, str) and not isinstance(v, Html) for v in values)
        made.append(Column(key.replace("_", " "), text))
        cells.append(values)
    return Table(made, list(zip(*cells, strict=True)), caption)


def _datum(value: Any, interval: Sequence[float] | None) -> Any:
    if isinstance(value, list):
        return "+".join(map(str, value))  # pyright: ignore[reportUnknownArgumentType]
    if not isinstance(value, float) and interval is None:
        return value
    around = " to ".join(_four(end) for end in interval or ())
    return small(_four(value), around, value, interval)


def _four(value: Any) -> str:
    text = str(value) if isinstance(value, str) else f"{value:.4g}"
    return text.replace("-", "−")


# ---- cells -----------------------------------------------------------------------------------------


def dot(control: object) -> Html:
    """The colour of a control level."""
    return Html(f'<span class="dot {escape(str(control))}"></span>')


def named(control: object, text: str) -> Html:
    """A learner or method, with the colour of the control it needs."""
    return Html(f"{dot(control)}{escape(text)}", text)


def small(
    text: object, more: object, value: Any = None, interval: Sequence[float] | None = None
) -> Html:
    """A text and, smaller, what is to be known of it; ``value, interval``: as data."""
    shown = f"{markup(text)} <small>{markup(more)}</small>" if more else markup(text)
    return Html(shown, value, interval)


def with_interval(
    value: Any,
    interval: Sequence[float] | None,
    *,
    sign: bool = True,
    scale: float = 1.0,
    digits: int = 2,
) -> Html | None:
    """A mean with its interval, where there are any, shown ``scale`` times as large."""
    if value is None or value == "-inf":
        return None if value is None else Html("−∞", value)

    def show(x: float) -> str:
        return signed(scale * x, digits) if sign else f"{scale * x:.{digits}f}".replace("-", "−")

    around = f"{show(interval[0])} to {show(interval[1])}" if interval else ""
    return small(show(value), around, value, interval)


def rate(value: float | None, interval: Sequence[float] | None = None) -> Html | None:
    """A share in percent, with its interval where there is any."""
    if value is None:
        return None
    return small(share(value), "" if interval is None else shares(interval), value, interval)


def prose(text: str) -> Html:
    """Text in a cell that breaks into lines."""
    return Html(f'<div class="prose">{markup(text)}</div>', text)


def mark(holds: bool | None, words: Sequence[str] = MARKS) -> Html:
    """Whether something is as it should be; ``None``: nothing was claimed."""
    which = 2 if holds is None else int(not holds)
    return Html(f'<span class="{("yes", "off", "no")[which]}">{words[which]}</span>')
