"""A generator that says one of a few texts, so that what limits a reward is known by construction."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from ...errors import InvalidInput
from ...generators.base import check_prefix
from ...generators.characters import Characters
from ...generators.stepping import SteppingGenerator
from ...types import FloatArray, IntArray

_LOST = 0
"""The state of every prefix that no text starts with: the output ends there."""


class Sayings(Characters, SteppingGenerator):
    """Prompt → texts with probabilities, drawn character by character; the token K − 1 ends an output.

    Args:
        texts: prompt → (text → weight > 0).

    Raises:
        InvalidInput: no texts, or a weight that is not positive.
    """

    def __init__(self, texts: Mapping[str, Mapping[str, float]]) -> None:
        SteppingGenerator.__init__(self)
        if not texts or not all(said and min(said.values()) > 0 for said in texts.values()):
            raise InvalidInput("every prompt needs texts with weights > 0")
        letters = set("".join(texts)).union(*("".join(said) for said in texts.values()))
        Characters.__init__(self, letters, "any text")
        self._digest = hashlib.blake2b(
            repr(sorted(texts.items())).encode(), digest_size=8
        ).hexdigest()
        self._next: list[dict[int, int]] = [{}]
        self._mass: list[dict[int, float]] = [{}]
        self._roots = {self.encode(prompt): self._grow(said) for prompt, said in texts.items()}

    def _grow(self, said: Mapping[str, float]) -> int:
        """The trie of one prompt; its root."""
        root = self._node()
        for text, weight in said.items():
            node = root
            for token in (*self.encode(text), self.end_token):
                self._mass[node][token] = self._mass[node].get(token, 0.0) + weight
                if token == self.end_token:
                    break
                if token not in self._next[node]:
                    self._next[node][token] = self._node()
                node = self._next[node][token]
        return root

    def _node(self) -> int:
        self._next.append({})
        self._mass.append({})
        return len(self._next) - 1

    def describe(self) -> Mapping[str, object]:
        return {"family": "sayings", "texts": self._digest}

    def _start(self, prompt: Sequence[int], prefix: Sequence[int]) -> int:
        check_prefix(prefix, self.vocab_size)
        root = self._roots.get(tuple(prompt))
        if root is None:
            raise InvalidInput(f"nothing is said to the prompt {self.decode(prompt)!r}")
        for token in prefix:
            root = self._next[root].get(token, _LOST)
        return root

    def _advance(self, states: IntArray, tokens: IntArray) -> IntArray:
        moves = zip(states.tolist(), tokens.tolist(), strict=True)
        return np.array([self._next[s].get(t, _LOST) for s, t in moves], dtype=np.int64)

    def _laws(self, states: IntArray) -> FloatArray:
        laws = np.full((len(states), self.vocab_size), -np.inf)
        for row, state in zip(laws, states.tolist(), strict=True):
            mass = self._mass[state] or {self.end_token: 1.0}
            row[list(mass)] = np.log(list(mass.values())) - np.log(sum(mass.values()))
        return laws
