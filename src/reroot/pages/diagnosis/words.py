"""A diagnosis in words, for the page and the terminal alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..kit.formatting import quantity, rounded

MEANINGS = {
    "learnable": "some rollouts of a group pass and some fail: it has signal",
    "solved": "nearly all rollouts pass: no signal is left in it",
    "access-limited": "right outputs are in the model prefix by prefix, but a rollout almost never gets there",
    "base-limited": "at some place the right continuation is too rare for any access",
    "judge-limited": "right-looking outputs score 0, or the judge fails",
    "format-limited": "the answer is there, the form that the judge wants is not",
    "truncated": "the horizon ends first",
    "law-limited": "the trainer's sampling law takes the right tokens away",
    "undetermined": "the attempts do not decide",
}
"""What limits a problem → what that means."""

NEXT = {
    "learnable": "Train from the root.",
    "solved": "Leave these problems out, or take harder ones.",
    "access-limited": "Start groups from prefixes: demonstrations, a verifier's walks, or the model's own.",
    "base-limited": "Teach the step first (SFT on demonstrations), or take a stronger model.",
    "judge-limited": "Mend the judge before anything is trained.",
    "format-limited": "Mend the prompt or the extraction; show the form in an example.",
    "truncated": "Raise the horizon.",
    "law-limited": "Sample at temperature 1 without truncation, or nearer to it.",
    "undetermined": "A larger --budget-tokens decides more.",
}
"""What limits a problem → what to do first."""


def headline(summary: Mapping[str, Any]) -> str:
    """What most problems are limited by, in one sentence."""
    shares = {k: v["problems"] for k, v in summary["shares"].items() if v["problems"]}
    count = sum(shares.values())
    ranked = sorted(shares.items(), key=lambda item: -item[1])
    return "; ".join(f"{n} of {count} {cause}" for cause, n in ranked) + "."


def tokens_words(tokens: Mapping[str, int | None] | None) -> tuple[str, str]:
    """(median, 95 % interval) of tokens to the first signal, in words."""
    if tokens is None:
        return "unknown", ""
    if tokens["median"] is None:
        return "none in 10⁹ steps", ""
    high = "∞" if tokens["high"] is None else quantity(float(tokens["high"]))
    low = 0 if tokens["low"] is None else tokens["low"]
    return rounded(float(tokens["median"]), 2), f"{quantity(float(low))} to {high}"


def reach_words(problem: Mapping[str, Any]) -> tuple[str, str]:
    """(reach, 95 % interval)."""
    low, high = problem["interval"]
    return small(problem["reach"]), f"{small(low)} to {small(high)}"


def small(value: float) -> str:
    """A probability, two digits."""
    return "0" if value == 0 else quantity(float(f"{value:.2g}")) if value > 1e-300 else "< 10⁻³⁰⁰"


def where_lost(problem: Mapping[str, Any], most: int = 3) -> str:
    """Its rarest places along a right output, with their probabilities, and what they are."""
    lost = problem.get("lost")
    if lost:
        rare = sorted(lost["places"], key=lambda place: place["probability"])[:most]
        return ", ".join(
            f"{p['start']} {p['text']!r}: {small(p['probability'])} ({p['is']})" for p in rare
        )
    logs = problem["forced_logprobs"] or []
    told = [(t, 0.0 if x is None else math.exp(x)) for t, x in enumerate(logs)]
    rarest = sorted((p for p in told if p[1] < 0.25), key=lambda pair: pair[1])[:most]
    return ", ".join(f"{t}: {small(x)}" for t, x in rarest)
