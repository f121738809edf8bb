"""A law by operators as a generator: what learners of low-rank laws return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..linear.operators import OperatorModel
from ..types import FloatArray, IntArray
from .base import Request, check_prefix
from .tabular import IntegerGenerator

_MOST_STORED = 1 << 18


class Operators(IntegerGenerator):
    """The generator of an ``OperatorModel``: k_t numbers are the state, each token one product.

    States of prefixes are stored once computed, and given up between calls when there are many.

    Args:
        model: the law; its end tokens end outputs.
    """

    family = "operators"

    def __init__(self, model: OperatorModel) -> None:
        super().__init__(model.vocab_size, model.horizon, model.end)
        self.model = model
        self._forget()

    @classmethod
    def from_json(cls, known: Mapping[str, Any]) -> Operators:
        """The generator of what a learner has found: ``attempt.metadata["model"]``.

        Raises:
            InvalidInput: these are no values of ``OperatorModel.to_json``.
        """
        return cls(OperatorModel.from_json(known))

    def describe(self) -> Mapping[str, object]:
        return {
            "family": self.family,
            "vocab_size": self.vocab_size,
            "horizon": self.horizon,
            "end": sorted(self.model.end),
            "digest": self.model.digest(),
        }

    def answer(self, requests: Sequence[Request]):
        if len(self._states) > _MOST_STORED:
            self._forget()
        return super().answer(requests)

    def _forget(self) -> None:
        self._children: dict[tuple[int, int], int] = {}
        self._states = [self.model.start]
        self._depths = [0]

    def _start(self, prompt: Sequence[int], prefix: Sequence[int]) -> int:
        tokens = (*prompt, *prefix)
        check_prefix(tokens, self.vocab_size, self.horizon)
        state = 0
        for token in tokens:
            state = self._children.get((state, token), -1)
            if state < 0:
                return self._walk(tokens)
        return state

    def _walk(self, tokens: Sequence[int]) -> int:
        state = 0
        for token in tokens:
            state = int(self._advance(np.array([state]), np.array([token]))[0])
        return state

    def _advance(self, states: IntArray, tokens: IntArray) -> IntArray:
        pairs = list(zip(states.tolist(), tokens.tolist(), strict=True))
        missing = [pair for pair in dict.fromkeys(pairs) if pair not in self._children]
        for t in {self._depths[state] for state, _ in missing}:
            here = [pair for pair in missing if self._depths[pair[0]] == t]
            weights = np.stack([self._states[state] for state, _ in here])
            moved = self.model.moved(t, weights, np.array([token for _, token in here]))
            for pair, row in zip(here, moved, strict=True):
                self._children[pair] = len(self._states)
                self._states.append(row)
                self._depths.append(t + 1)
        return np.array([self._children[pair] for pair in pairs], dtype=np.int64)

    def _laws(self, states: IntArray) -> FloatArray:
        depths = np.array([self._depths[state] for state in states.tolist()])
        laws = np.empty((len(states), self.vocab_size))
        with np.errstate(divide="ignore"):
            for t in set(depths.tolist()):
                here = np.flatnonzero(depths == t)
                weights = np.stack([self._states[state] for state in states[here].tolist()])
                laws[here] = np.log(self.model.laws(t, weights))
        return laws
