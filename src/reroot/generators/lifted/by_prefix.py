"""Generators whose state is the prefix itself, as a number: for laws that are known prefix by prefix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...types import IntArray
from ..base import check_prefix
from ..stepping import SteppingGenerator

_Where = tuple[tuple[int, ...], tuple[int, ...]]
"""Prompt and prefix."""


class ByPrefix(SteppingGenerator):
    """States are the places seen so far, in that order; subclasses give the laws there."""

    def __init__(self) -> None:
        super().__init__()
        self._number: dict[_Where, int] = {}
        self._places: list[_Where] = []

    def _start(self, prompt: Sequence[int], prefix: Sequence[int]) -> int:
        check_prefix((*prompt, *prefix), self.vocab_size, self.max_length())
        return self._state(tuple(prompt), tuple(prefix))

    def _state(self, prompt: tuple[int, ...], prefix: tuple[int, ...]) -> int:
        number = self._number.setdefault((prompt, prefix), len(self._places))
        if number == len(self._places):
            self._places.append((prompt, prefix))
        return number

    def _advance(self, states: IntArray, tokens: IntArray) -> IntArray:
        pairs = zip(states.tolist(), tokens.tolist(), strict=True)
        moved = [self._state(self._places[s][0], (*self._places[s][1], t)) for s, t in pairs]
        return np.array(moved, dtype=np.int64)
