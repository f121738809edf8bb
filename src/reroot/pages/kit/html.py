"""Building blocks of a page: figures with captions and legends, panels, the document around them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from . import page
from .page import write_page

__all__ = ["document", "figure", "grid", "legend", "line_swatch", "write_page"]


def figure(caption: str, drawing: str, items: Iterable[str] = ()) -> str:
    """A drawing with its caption and the entries of its legend (HTML already)."""
    return f"<figure><figcaption>{caption}</figcaption>{drawing}{legend(items)}</figure>"


def legend(items: Iterable[str]) -> str:
    """A list of legend entries; nothing if there are none."""
    entries = "".join(f"<li>{item}</li>" for item in items)
    return f'<ul class="legend">{entries}</ul>' if entries else ""


def line_swatch(color: str, text: str, width: float, dash: str | None = None) -> str:
    """A legend entry of a line without markers."""
    dashed = "" if dash is None else f' stroke-dasharray="{dash}"'
    path = f'<path d="M1 7H31" stroke="var(--{color})" stroke-width="{width:g}"{dashed}/>'
    return f'<svg class="swatch" viewBox="0 0 32 14" aria-hidden="true">{path}</svg>{text}'


def grid(drawings: Sequence[str]) -> str:
    """Figures side by side, as many as fit."""
    return f'<div class="panels">{"".join(drawings)}</div>'


def document(title: str, parts: Iterable[str]) -> str:
    """The page around some parts of HTML."""
    return page.document(title, "\n".join(parts))
