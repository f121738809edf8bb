"""Where groups of rollouts start: the only thing in which the arms of a comparison differ."""

from __future__ import annotations

from ... import specs
from ...errors import InvalidInput
from .base import Start, Strategy
from .front import PluralityFront
from .self_built import Argmax, Fork, Plurality, Root, SelfReset, VineValues
from .taught import POPE, R3, AdaBack, Verified

STRATEGIES: dict[str, type[Strategy]] = {
    kind.name: kind
    for kind in (Root, Plurality, Argmax, SelfReset, Fork, VineValues, Verified, AdaBack, R3, POPE)
}
"""Name → strategy, as ``reroot train --strategy`` takes them."""


def get_strategy(strategy: str | Strategy) -> Strategy:
    """The strategy that ``name``, ``FILE.py:NAME`` or either with ``:key=value,…`` describes.

    A strategy is returned as it is. What a name stands for is a class of strategies, or one of them.

    Raises:
        InvalidInput: an unknown name or setting, a value out of range, or no strategy.
    """
    if isinstance(strategy, Strategy):
        return strategy
    spec = specs.parse(strategy, "strategy")
    found = specs.find("strategy", spec.name, STRATEGIES)
    if not isinstance(found, Strategy) or spec.settings:
        if not callable(found):
            raise InvalidInput(f"strategy {spec.name!r} takes no settings, got {strategy!r}")
        found = specs.call(f"strategy {spec.name!r}", found, spec.settings)
    if not isinstance(found, Strategy):
        raise InvalidInput(f"strategy {strategy!r} must be a Strategy, got {found!r}")
    return found


__all__ = [
    "POPE",
    "R3",
    "STRATEGIES",
    "AdaBack",
    "Argmax",
    "Fork",
    "Plurality",
    "PluralityFront",
    "Root",
    "SelfReset",
    "Start",
    "Strategy",
    "Verified",
    "VineValues",
    "get_strategy",
]
