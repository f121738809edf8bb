"""Text that is HTML already, and what is left of it where there is no HTML."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import unescape
from html.parser import HTMLParser
from typing import Any

from rich.text import Text

from ...errors import visible

STYLES = {
    "root": "red",
    "episode": "yellow",
    "visited": "magenta",
    "reset": "cyan",
    "chosen": "green",
    "small": "dim",
    "no": "dim",
    "b": "bold",
    "yes": "green",
    "off": "bold red",
}
"""Tag or class → its style in a terminal."""


class Html(str):
    """Text that is HTML already: templates and tables escape all other text.

    Attributes:
        value: what it shows, as data; ``None``: its text.
        interval: ends of an interval around it.
    """

    value: Any
    interval: Sequence[float] | None

    def __new__(
        cls, text: str = "", value: Any = None, interval: Sequence[float] | None = None
    ) -> Html:
        made = super().__new__(cls, text)
        made.value, made.interval = value, interval
        return made

    def __html__(self) -> str:
        return self


def plain(text: str) -> str:
    """Without tags, entities and references to pictures, if it is ``Html``; else the text itself.

    ``2<sup>H</sup>`` becomes ``2^H``, ``J<sub>β</sub>`` ``J_β``.
    """
    if not isinstance(text, Html):
        return text
    text = re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL)
    text = re.sub(r"<br ?/?>|</(p|li|div|dt|dd)>", "\n", text)
    text = re.sub(r"<su([pb])>", lambda m: "^" if m[1] == "p" else "_", text)
    return unescape(re.sub(r"<[^>]*>", "", text)).strip("\n")


class _Styler(HTMLParser):
    """HTML as text of a terminal, without what is small if need be."""

    def __init__(self, small: bool) -> None:
        super().__init__()
        self.text, self.small, self.open = Text(), small, list[tuple[str, str]]()
        self.all = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "br":
            self.text.append("\n")
            return
        kinds = [tag, *(dict(attrs).get("class") or "").split()]
        style = " ".join(STYLES[kind] for kind in kinds if kind in STYLES)
        if "dot" in kinds:  # its colour is that of the whole cell
            self.all = style
        self.text.append({"sup": "^", "sub": "_"}.get(tag, ""))
        self.open.append((tag, style))

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1][0] == tag:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        tags = [tag for tag, _ in self.open]
        if "svg" not in tags and (self.small or "small" not in tags):
            self.text.append(visible(data), " ".join(style for _, style in self.open).strip())


def styled(text: Html, small: bool = True) -> Text:
    """Of the terminal, in the styles of its tags and classes; ``small=False``: without its small parts."""
    made = _Styler(small)
    made.feed(text)
    made.close()
    if made.all:
        made.text.stylize_before(made.all)
    made.text.rstrip()
    return made.text
