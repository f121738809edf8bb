"""The law of a certificate, drawn: what was found as bars, what is stated, and what it is compared with, as marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_WIDTH, _HEIGHT, _LEFT, _FOOT, _TOP = 440.0, 150.0, 34.0, 20.0, 8.0
_MOST_NAMED = 16  # more outputs than this are not named below their bars

LEGEND = (
    '<svg class="swatch" viewBox="0 0 32 14" aria-hidden="true">'
    '<rect x="9" y="2" width="14" height="12" fill="var(--reset)"/></svg>found',
    '<svg class="swatch" viewBox="0 0 32 14" aria-hidden="true">'
    '<path d="M6 7H26" stroke="var(--ink)" stroke-width="2"/></svg>stated',
    '<svg class="swatch" viewBox="0 0 32 14" aria-hidden="true">'
    '<circle cx="16" cy="7" r="3.5" fill="var(--paper)" stroke="var(--root)" stroke-width="1.6"/></svg>'
    "compared with",
)


def law_chart(law: Sequence[Mapping[str, Any]], description: str) -> str:
    """An ``<svg>``: a bar of the found probability of each output, a line at the stated one and a ring
    at the one that it is compared with.

    Args:
        law: ``output, found, stated, aimed`` of each output, as in a record.
        description: read by screen readers.
    """
    top = max(
        p for row in law for p in (row["found"], row["stated"], row["aimed"]) if p is not None
    )
    step = (_WIDTH - _LEFT) / len(law)
    base = _HEIGHT - _FOOT

    def height(p: float) -> float:
        return base - (base - _TOP) * p / top

    parts = [_axis(top, base)]
    for i, row in enumerate(law):
        parts.append(_output(row, _LEFT + step * (i + 0.5), step, base, height, len(law)))
    return (
        f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" aria-label="{escape(description)}" '
        f'font-size="11" style="max-width: {1.12 * _WIDTH:.0f}px">{"".join(parts)}</svg>'
    )


def _axis(top: float, base: float) -> str:
    def label(y: float, text: str) -> str:
        return f'<text x="{_LEFT - 6:g}" y="{y + 4:.1f}" text-anchor="end" fill="var(--muted)">{text}</text>'

    return (
        f'<path d="M{_LEFT:g} {_TOP:g}H{_WIDTH:g}" stroke="var(--line)"/>'
        f'<path d="M{_LEFT:g} {base:g}H{_WIDTH:g}" stroke="var(--muted)"/>'
        f"{label(_TOP, f'{top:.2g}')}{label(base, '0')}"
    )


def _output(
    row: Mapping[str, Any], x: float, step: float, base: float, height: Any, count: int
) -> str:
    """One output: its bar, marks, name, and the exact numbers as a tooltip."""
    name = output_name(row["output"])
    bar = min(0.62 * step, 40.0)
    y = height(row["found"])
    numbers = [
        f"{key} {row[key]:.6f}" for key in ("found", "stated", "aimed") if row[key] is not None
    ]
    parts = [
        f"<title>{name}: {', '.join(numbers)}</title>",
        f'<rect x="{x - bar / 2:.1f}" y="{y:.1f}" width="{bar:.1f}" height="{base - y:.1f}" '
        'fill="var(--reset)"/>',
    ]
    if row["stated"] is not None:
        half, level = min(0.46 * step, 28.0), height(row["stated"])
        parts.append(
            f'<path d="M{x - half:.1f} {level:.1f}h{2 * half:.1f}" stroke="var(--ink)" '
            'stroke-width="1.6"/>'
        )
    if row["aimed"] is not None:
        parts.append(
            f'<circle cx="{x:.1f}" cy="{height(row["aimed"]):.1f}" r="{min(3.5, 0.4 * step):.1f}" '
            'fill="var(--paper)" stroke="var(--root)" stroke-width="1.6"/>'
        )
    if count <= _MOST_NAMED:
        parts.append(
            f'<text x="{x:.1f}" y="{_HEIGHT - 5:g}" text-anchor="middle" fill="var(--ink)">{name}</text>'
        )
    return f"<g>{''.join(parts)}</g>"


def output_name(tokens: Sequence[int] | None) -> str:
    """``0 1 2`` as ``012``; ``none`` where there is no output."""
    return "none" if tokens is None else "".join(map(str, tokens))
