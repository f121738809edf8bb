"""Where groups of rollouts start: the only thing in which the arms of a comparison differ."""

from __future__ import annotations

import inspect
from typing import Any

from ...errors import InvalidInput, nearest
from .base import Start, Strategy
from .self_built import Argmax, Fork, Plurality, Root, SelfReset, VineValues
from .taught import POPE, R3, AdaBack, Verified

STRATEGIES: dict[str, type[Strategy]] = {
    kind.name: kind
    for kind in (Root, Plurality, Argmax, SelfReset, Fork, VineValues, Verified, AdaBack, R3, POPE)
}
"""Name → strategy, as ``reroot train --strategy`` takes them."""


def parse(text: str) -> Strategy:
    """The strategy that ``name`` or ``name:setting=value,…`` describes.

    Raises:
        InvalidInput: an unknown name or setting, or a value out of range.
    """
    name, _, rest = text.partition(":")
    if name not in STRATEGIES:
        raise InvalidInput(f"unknown strategy {name!r}.{nearest(name, STRATEGIES)}")
    kind = STRATEGIES[name]
    known = [p for p in inspect.signature(kind).parameters if p != "demonstrations"]
    settings: dict[str, Any] = {}
    for item in rest.split(",") if rest else ():
        key, equals, value = (part.strip() for part in item.partition("="))
        if key not in known or not equals:
            raise InvalidInput(f"strategy {name!r} has no setting {item!r}.{nearest(key, known)}")
        settings[key] = _value(value)
    return kind(**settings)


def _value(text: str) -> int | float | str | None:
    if text == "None":
        return None
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            pass
    return text


__all__ = [
    "POPE",
    "R3",
    "STRATEGIES",
    "AdaBack",
    "Argmax",
    "Fork",
    "Plurality",
    "Root",
    "SelfReset",
    "Start",
    "Strategy",
    "Verified",
    "VineValues",
    "parse",
]
