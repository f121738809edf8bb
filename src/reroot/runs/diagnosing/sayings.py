"""A generator that says one of a few texts, so that what limits a reward is known by construction."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from ...errors import InvalidInput
from ...generators.base import check_prefix
from ...generators.stepping import SteppingGenerator
from ...generators.stops import Stop
from ...generators.token_bytes import Pieces, encoded
from ...types import FloatArray, IntArray

_LOST = 0
"""The state of every prefix that no text starts with: the output ends there."""


class Sayings(SteppingGenerator):
    """Prompt → texts with probabilities, drawn character by character; the token K − 1 ends an output.

    Args:
        texts: prompt → (text → weight > 0).

    Raises:
        InvalidInput: no texts, or a weight that is not positive.
    """

    def __init__(self, texts: Mapping[str, Mapping[str, float]]) -> None:
        super().__init__()
        if not texts or not all(said and min(said.values()) > 0 for said in texts.values()):
            raise InvalidInput("every prompt needs texts with weights > 0")
        letters = set("".join(texts)).union(*("".join(said) for said in texts.values()))
        self.characters = "".join(sorted(letters))
        self._ids = {c: i for i, c in enumerate(self.characters)}
        self._pieces = Pieces((*map(encoded, self.characters), b""))
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

    @property
    def vocab_size(self) -> int:
        return len(self.characters) + 1

    @property
    def end_token(self) -> int:
        return len(self.characters)

    def encode(self, text: str) -> tuple[int, ...]:
        """One token per character (``InvalidInput``: one that no text has)."""
        try:
            return tuple(self._ids[c] for c in text)
        except KeyError as error:
            raise InvalidInput(f"no text has the character {error.args[0]!r}") from None

    def encode_continuation(self, text: str) -> tuple[int, ...]:
        return self.encode(text)

    def decode(self, tokens: Sequence[int]) -> str:
        check_prefix(tokens, self.vocab_size)
        return "".join(self.characters[t] for t in tokens if t != self.end_token)

    def stops(self, texts: Sequence[str]) -> Stop:
        return Stop.of(self._pieces, texts, {self.end_token})

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
