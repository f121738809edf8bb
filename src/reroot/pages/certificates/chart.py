"""The law of a certificate, drawn: what was found as bars, what is stated, and what it is compared with, as marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_WIDTH, _HEIGHT, _LEFT, _FOOT, _TOP = 440.0, 150.0, 34.0, 20.0, 8.0
_MOST_NAMED = 16  # more outputs than this are not named below their bars

_RINGS = {"aimed": ("root", "compared with"), "own": ("visited", "its own output")}


def law_legend(laws: Sequence[Sequence[Mapping[str, Any]]]) -> list[str]:
    """Entries of the legend of some charts."""

    def entry(shape: str, name: str) -> str:
        return f'<svg class="swatch" viewBox="0 0 32 14" aria-hidden="true">{shape}</svg>{name}'

    rings = {_ring(law) for law in laws}
    return [
        entry('<rect x="9" y="2" width="14" height="12" fill="var(--reset)"/>', "found"),
        entry('<path d="M6 7H26" stroke="var(--ink)" stroke-width="2"/>', "stated"),
        *(
            entry(_circle(16, 7, 3.5, color), name)
            for ring, (color, name) in _RINGS.items()
            if ring in rings
        ),
    ]


def _ring(law: Sequence[Mapping[str, Any]]) -> str | None:
    """Which law the rings show: the learner's own, where it is not the one that was checked."""
    return next((ring for ring in ("own", "aimed") if law[0][ring] is not None), None)


def _circle(x: float, y: float, r: float, color: str) -> str:
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}" fill="var(--paper)" stroke="var(--{color})" '
        'stroke-width="1.6"/>'
    )


def law_chart(law: Sequence[Mapping[str, Any]], description: str) -> str:
    """An ``<svg>``: a bar of the found probability of each output, a line at the stated one, and a ring
    at that of the learner's own output, or else at the one that it is compared with.

    Args:
        law: ``output, found, stated, aimed, own`` of each output, as in a record.
        description: read by screen readers.
    """
    ring = _ring(law)
    shown = [key for key in ("found", "stated", ring) if key and law[0][key] is not None]
    top = max(row[key] for row in law for key in shown)
    step, base = (_WIDTH - _LEFT) / len(law), _HEIGHT - _FOOT
    parts = [_axis(top, base)]
    for i, row in enumerate(law):
        x, name = _LEFT + step * (i + 0.5), output_name(row["output"])
        y = {key: base - (base - _TOP) * row[key] / top for key in shown}
        numbers = ", ".join(f"{key} {row[key]:.6f}" for key in shown)
        parts.append(f"<g><title>{name}: {numbers}</title>{_marks(x, step, base, y, ring)}")
        if len(law) <= _MOST_NAMED:
            at = f'x="{x:.1f}" y="{_HEIGHT - 5:g}" text-anchor="middle"'
            parts.append(f'<text {at} fill="var(--ink)">{name}</text>')
        parts.append("</g>")
    return (
        f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" aria-label="{escape(description)}" '
        f'font-size="11" style="max-width: {1.12 * _WIDTH:.0f}px">{"".join(parts)}</svg>'
    )


def _axis(top: float, base: float) -> str:
    def label(y: float, text: str) -> str:
        at = f'x="{_LEFT - 6:g}" y="{y + 4:.1f}" text-anchor="end"'
        return f'<text {at} fill="var(--muted)">{text}</text>'

    return (
        f'<path d="M{_LEFT:g} {_TOP:g}H{_WIDTH:g}" stroke="var(--line)"/>'
        f'<path d="M{_LEFT:g} {base:g}H{_WIDTH:g}" stroke="var(--muted)"/>'
        f"{label(_TOP, f'{top:.2g}')}{label(base, '0')}"
    )


def _marks(x: float, step: float, base: float, y: Mapping[str, float], ring: str | None) -> str:
    """The bar, line and ring of one output around ``x``, at the heights ``y``."""
    bar, half = min(0.62 * step, 40.0), min(0.46 * step, 28.0)
    box = f'x="{x - bar / 2:.1f}" y="{y["found"]:.1f}" width="{bar:.1f}"'
    drawn = f'<rect {box} height="{base - y["found"]:.1f}" fill="var(--reset)"/>'
    if "stated" in y:
        line = f"M{x - half:.1f} {y['stated']:.1f}h{2 * half:.1f}"
        drawn += f'<path d="{line}" stroke="var(--ink)" stroke-width="1.6"/>'
    if ring:
        drawn += _circle(x, y[ring], min(3.5, 0.4 * step), _RINGS[ring][0])
    return drawn


def output_name(tokens: Sequence[int] | None) -> str:
    """``0 1 2`` as ``012``; ``none`` where there is no output."""
    return "none" if tokens is None else "".join(map(str, tokens))
