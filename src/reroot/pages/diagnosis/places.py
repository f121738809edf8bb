"""A right output with the places where rollouts are lost marked in it."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from ..kit.markup import Html
from .words import small

_COLORS = {"bottleneck": "#f4b6ac", "paraphrase": "#cfe8c6", "unknown": "#f3e3a6"}
"""Behind dark text, whatever the colors of the page."""
_MEANINGS = {
    "bottleneck": "V falls by more than half without it",
    "paraphrase": "rollouts before it pass at least half as often: others do as well",
    "unknown": "the rollouts do not decide",
}


def marked(lost: Mapping[str, Any]) -> Html:
    """The text of a right output, its rare places marked with their probability and what they are."""
    places = {p["start"]: p for p in lost["places"]}
    tokens, parts, k = lost["tokens"], list[str](), 0
    while k < len(tokens):
        place = places.get(k)
        if place is None:
            text, probability = tokens[k]
            parts.append(f'<span title="P = {small(probability)}">{_shown(text)}</span>')
            k += 1
            continue
        parts.append(_mark(place))
        k = place["end"]
    return Html(
        f"<p>{escape(lost['of']).capitalize()}, by {escape(lost['how'])}; P and what each rare {lost['level']} is:</p>"
        f'<pre style="white-space:pre-wrap">{"".join(parts)}</pre>'
    )


def _mark(place: Mapping[str, Any]) -> str:
    kind = place["is"]
    counts = [place[side] for side in ("before", "after")]
    passed = (
        f"; {counts[0][0]} of {counts[0][1]} pass before it, {counts[1][0]} of {counts[1][1]} after it"
        if all(counts)
        else ""
    )
    return (
        f'<mark style="background:{_COLORS[kind]};color:#111" title="{escape(_MEANINGS[kind] + passed)}">'
        f"{_shown(place['text'])}<small> [{small(place['probability'])} {kind}]</small></mark>"
    )


def _shown(text: str) -> str:
    """Line breaks by themselves would not be seen."""
    return escape(text).replace("\n", "↵\n")
