"""The numbers of a page, whatever its markup: cells of tables, tiles, captions and what figures draw."""

from __future__ import annotations

import hashlib
import re
from html.parser import HTMLParser
from typing import Any


class Numbers(HTMLParser):
    """Rows of every table, tiles (dt and dd), captions of figures, entries of legends."""

    KEPT = frozenset({"td", "th", "dt", "dd", "figcaption", "pre"})

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.texts: list[str] = []
        self._to: list[str] | None = None
        self._svg = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._svg += tag == "svg"
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in self.KEPT:
            self._to = self.tables[-1][-1] if tag in ("td", "th") else self.texts
            self._to.append("")

    def handle_endtag(self, tag: str) -> None:
        self._svg -= tag == "svg"
        if tag in self.KEPT:
            self._to = None

    def handle_data(self, data: str) -> None:
        if self._to is not None and not self._svg:
            self._to[-1] += data


def numbers(page: str) -> dict[str, Any]:
    """``tables``: rows of cells; ``texts``: tiles, captions and preformatted texts; ``drawn``: a digest of each figure."""
    reader = Numbers()
    reader.feed(page)
    squeeze = re.compile(r"\s+")
    tables = [
        [[squeeze.sub("", cell) for cell in row] for row in table] for table in reader.tables
    ]
    texts = [squeeze.sub("", text) for text in reader.texts]
    return {"tables": tables, "texts": texts, "drawn": sorted(map(drawn, figures(page)))}


def figures(page: str) -> list[str]:
    """The drawings of a page, legends left out."""
    return re.findall(r'<svg(?:(?!class="swatch")[^>])*role="img".*?</svg>', page, re.DOTALL)


def drawn(svg: str) -> str:
    """A digest of the coordinates and texts of a drawing, the names of its parts left out."""
    paths = re.findall(r'\bd="([^"]*)"', svg)
    uses = re.findall(r'\b[xy]="([^"]*)"', svg)
    texts = [squeezed for t in re.findall(r"<text[^>]*>(.*?)</text>", svg, re.DOTALL) if (squeezed := "".join(t.split()))]
    told = "|".join([*("".join(p.split()) for p in paths), *uses, *texts])
    return hashlib.sha256(told.encode()).hexdigest()[:12]
