"""The numbers of a page, whatever its markup: cells of tables, tiles, captions and what figures draw."""

from __future__ import annotations

import hashlib
import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree


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
    tables = [[[squeeze.sub("", cell) for cell in row] for row in table] for table in reader.tables]
    texts = [squeeze.sub("", text) for text in reader.texts]
    return {"tables": tables, "texts": texts, "drawn": sorted(map(drawn, figures(page)))}


def figures(page: str) -> list[str]:
    """The drawings of a page, legends left out."""
    return re.findall(r'<svg(?:(?!class="swatch")[^>])*role="img".*?</svg>', page, re.DOTALL)


def drawn(svg: str) -> str:
    """A digest of the coordinates of what a drawing shows, and of its words; grid and ticks are left out."""
    told, texts = list[str](), list[str]()

    def read(element: ElementTree.Element) -> None:
        kind, named = element.tag.rpartition("}")[2], element.get("id", "")
        if kind == "text":
            texts.append("".join("".join(element.itertext()).split()))
        if kind in ("defs", "clipPath"):
            return
        if "matplotlib.axis_" in named or "grid-" in named:
            texts.extend(
                "".join(x.itertext()).strip() for x in element.iter() if x.tag.endswith("}text")
            )
            return
        told.extend(
            "".join(element.get(key, "").split())
            for key in ("d", "x", "y")
            if kind in ("path", "use")
        )
        for child in element:
            read(child)

    read(ElementTree.fromstring(svg))
    told += sorted("".join(text.split()) for text in texts if any(map(str.isalpha, text)))
    return hashlib.sha256("|".join(told).encode()).hexdigest()[:12]
