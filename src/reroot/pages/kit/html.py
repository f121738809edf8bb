"""Building blocks of a page: figures with captions and legends, panels, the document around them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from ...errors import visible
from ...runs.folder import write_atomically
from .style import CSS


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
    """A self-contained page; whatever text is in it, no control or bidi character is."""
    body = "\n".join(parts)
    return visible(
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def write_page(path: Path, page: str) -> Path:
    """Write a page, whole or not at all; its path.

    Raises:
        RunFolderError: it cannot be written.
    """
    write_atomically(path, page)
    return path
