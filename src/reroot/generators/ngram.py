"""A character n-gram model: a small real distribution over text whose laws can be enumerated."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..checks import check_between, check_int
from ..errors import InvalidInput
from ..types import FloatArray, IntArray
from .base import check_prefix
from .characters import Characters
from .stepping import SteppingGenerator


class CharNgram(Characters, SteppingGenerator):
    """Interpolated n-gram model with a Dirichlet prior (MacKay & Peto, 1995) at every order.

    P_j(a | last j characters) = (n(c_j a) + s·P_{j−1}(a)) / (n(c_j) + s), down to the uniform law.
    Every token is possible everywhere. The tokens are the characters of the text, sorted, and an
    end token K − 1. Documents are the non-empty pieces between separators; each starts from an
    empty context and ends with the end token, after which a new document starts.

    Args:
        text: what to fit.
        order: n: the law depends on the last n − 1 characters; at least 1.
        smoothing: s > 0, weight of the lower order in observations.
        separator: splits the text into documents; ``None``: all of it is one.

    Raises:
        InvalidInput: no characters, or order, smoothing or separator out of range.
    """

    def __init__(
        self, text: str, order: int = 3, smoothing: float = 1.0, separator: str | None = "\n"
    ) -> None:
        SteppingGenerator.__init__(self)
        self.order = check_int("order", order, 1, 64)
        self.smoothing = check_between("smoothing", smoothing, 0.0, float("inf"))
        if separator == "":
            raise InvalidInput("separator must be a non-empty text or None, got ''")
        pieces = [text] if separator is None else text.split(separator)
        documents = [piece for piece in pieces if piece]
        if not documents:
            raise InvalidInput("the text to fit has no characters")
        Characters.__init__(self, set().union(*documents), "the fitted text")
        # a state is the last order − 1 symbols as digits, the newest lowest: token + 1, 0 for none
        self._base = len(self.characters) + 2
        self._states = self._base ** (self.order - 1)
        if self._states > 1 << 62:
            raise InvalidInput(
                f"order {order} is too high for {len(self.characters)} different characters"
            )
        self._digest = hashlib.blake2b("\0".join(documents).encode(), digest_size=8).hexdigest()
        self._fit(documents)

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        order: int = 3,
        smoothing: float = 1.0,
        separator: str | None = "\n",
    ) -> CharNgram:
        """Fit a UTF-8 text file.

        Raises:
            InvalidInput: the file can't be read as UTF-8 text, or see the class.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:  # not UTF-8, or NUL in the path
            raise InvalidInput(f"can't read the text file {str(path)!r}: {error}") from None
        return cls(text, order, smoothing, separator)

    def describe(self) -> Mapping[str, object]:
        return {
            "family": "char_ngram",
            "vocab_size": self.vocab_size,
            "order": self.order,
            "smoothing": self.smoothing,
            "text": self._digest,
        }

    def _start(self, prompt: Sequence[int], prefix: Sequence[int]) -> int:
        tokens = (*prompt, *prefix)
        check_prefix(tokens, self.vocab_size)
        state = 0
        for token in tokens[max(0, len(tokens) - self.order + 1) :]:
            state = 0 if token == self.end_token else (state * self._base + token + 1)
        return state % self._states

    def _advance(self, states: IntArray, tokens: IntArray) -> IntArray:
        # the oldest digit goes first, so that nothing overflows
        kept = states % max(1, self._states // self._base)
        moved = (kept * self._base + tokens + 1) % self._states
        return np.where(tokens == self.end_token, 0, moved)

    def _laws(self, states: IntArray) -> FloatArray:
        return np.log(np.stack([self._law(state) for state in states.tolist()]))

    def _law(self, state: int) -> FloatArray:
        """(K,) probabilities, from the uniform law up to the longest context."""
        p = np.full(self.vocab_size, 1.0 / self.vocab_size)
        for j, (slots, tokens, counts) in enumerate(self._tables):
            slot = slots.get(state % self._base**j)
            if slot is not None:
                seen = counts[slot]
                p *= self.smoothing / (seen.sum() + self.smoothing)
                p[tokens[slot]] += seen / (seen.sum() + self.smoothing)
        return p

    def _fit(self, documents: Sequence[str]) -> None:
        """Count the tokens after every context of 0 … order − 1 symbols."""
        none = [0] * (self.order - 1)
        digits: list[int] = []
        for document in documents:
            ids = [*(self._ids[character] for character in document), self.end_token]
            digits += [*none, *(i + 1 for i in ids)]
        symbols = np.array(digits, dtype=np.int64)
        at = np.flatnonzero(symbols)
        context = np.zeros(len(at), dtype=np.int64)
        self._tables: list[tuple[dict[int, slice], IntArray, FloatArray]] = []
        for j in range(self.order):
            if j:
                context += symbols[at - j] * self._base ** (j - 1)
            self._tables.append(_count(context, symbols[at] - 1))


def _count(
    contexts: IntArray, tokens: IntArray
) -> tuple[dict[int, slice], IntArray, npt.NDArray[np.float64]]:
    """(context → slice, tokens, counts): which tokens follow each context, and how often."""
    pairs, counts = np.unique(np.stack([contexts, tokens], axis=1), axis=0, return_counts=True)
    distinct, first = np.unique(pairs[:, 0], return_index=True)
    bounds = [*first.tolist(), len(pairs)]
    slots = {c: slice(bounds[i], bounds[i + 1]) for i, c in enumerate(distinct.tolist())}
    return slots, pairs[:, 1], counts.astype(np.float64)
