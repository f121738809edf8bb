"""Laws of a user's arrays of logits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import InvalidInput
from ..generators.base import check_prefix
from ..generators.law import log_normalize
from ..generators.tabular import IntegerGenerator
from ..tasks.base import Problem
from ..types import FloatArray, IntArray, Output

_REWARDS = "rewards"


class FromLogits(IntegerGenerator):
    """P(a | u) ∝ exp(logits_t[last j tokens of u, a]) at position t = |u|.

    Array t has shape (K,) where all prefixes share a law, (K, K) where the last token decides, and
    (K,)·(j + 1) where the last j tokens do, j ≤ t; with j = t it is the whole tree.

    Args:
        logits: H arrays, nats up to a constant for each law; -inf is probability 0.
        rewards: (K,)·H rewards of all outputs; ``None``: 1 for every output that is possible.

    Attributes:
        logits: log-probabilities, normalized.

    Raises:
        InvalidInput: an array has another shape, an entry is nan or +inf, or a law has no token.
    """

    family = "from_logits"

    def __init__(
        self, logits: Sequence[npt.ArrayLike], rewards: npt.ArrayLike | None = None
    ) -> None:
        given = [_numbers(f"logits of position {t}", array) for t, array in enumerate(logits)]
        if not given:
            raise InvalidInput("logits need an array for each position, got none")
        K = given[0].shape[-1] if given[0].ndim else 0
        for t, array in enumerate(given):
            if not 1 <= array.ndim <= t + 1 or array.shape != (K,) * array.ndim:
                raise InvalidInput(
                    f"logits of position {t} must have shape ({K},)·(j + 1) with j <= {t}, got {array.shape}"
                )
            if np.isposinf(array).any() or np.isneginf(array).all(axis=-1).any():
                raise InvalidInput(
                    f"logits of position {t} must be below +inf, and above -inf for some token of each law"
                )
        super().__init__(K, len(given))
        self.logits = [log_normalize(array) for array in given]
        self._tables = [array.reshape(-1, K) for array in self.logits]
        self._span = K ** (max(array.ndim for array in given) - 1)
        self.rewards = None if rewards is None else _numbers("rewards", rewards)
        if self.rewards is not None and (
            self.rewards.shape != (K,) * len(given) or not np.isfinite(self.rewards).all()
        ):
            raise InvalidInput(
                f"rewards must be finite and of shape ({K},)·{len(given)}, got {self.rewards.shape}"
            )

    @classmethod
    def load(cls, file: str | Path) -> FromLogits:
        """Of an .npz file: its arrays in order, as ``np.savez(file, *logits)`` writes them, and
        ``rewards`` by that name.

        Raises:
            InvalidInput: the file cannot be read, or see the class.
        """
        try:
            with np.load(file, allow_pickle=False) as arrays:
                found = {name: arrays[name] for name in arrays.files}
        except (OSError, ValueError, EOFError, AttributeError, KeyError) as error:
            raise InvalidInput(f"{str(file)!r} is no .npz file of arrays: {error}") from error
        rewards = found.pop(_REWARDS, None)
        return cls(list(found.values()), rewards)

    @property
    def label(self) -> str:
        """The family with a digest of the arrays."""
        digest = hashlib.blake2b(digest_size=8)
        for array in (*self.logits, *(() if self.rewards is None else (self.rewards,))):
            digest.update(np.ascontiguousarray(array).tobytes())
        return f"{self.family}:digest={digest.hexdigest()}"

    def describe(self) -> Mapping[str, object]:
        return {
            "family": self.family,
            "vocab_size": self.vocab_size,
            "horizon": self.horizon,
            "digest": self.label.partition("=")[2],
        }

    def log_probability(self, tokens: Sequence[int]) -> float:
        """Nats: log P of a string of H tokens, or of a prefix."""
        pairs = ((tuple(tokens[:t]), a) for t, a in enumerate(tokens))
        return float(sum(self._tables[len(u)][self._row(u)][a] for u, a in pairs))

    def problem(self, id: str | None = None) -> Problem:
        """The task of a high reward; it passes from 1 on.

        Args:
            id: the problem's id; ``None``: ``label``.
        """

        def reward(output: Output) -> float:
            if len(output.tokens) != self.horizon:
                return 0.0
            if self.rewards is not None:
                return float(self.rewards[output.tokens])
            return float(self.log_probability(output.tokens) > -np.inf)

        return Problem(
            id=self.label if id is None else id,
            prompt=(),
            max_tokens=self.horizon,
            reward=reward,
            horizon=self.horizon,
        )

    def _row(self, prefix: Sequence[int]) -> int:
        return self._code(prefix) % len(self._tables[len(prefix)])

    def _code(self, tokens: Sequence[int]) -> int:
        """The last tokens that any array looks at, in base K."""
        code = 0
        for token in tokens:
            code = (code * self.vocab_size + int(token)) % self._span
        return code

    # a state is (depth, code of the last tokens)

    def _start(self, prompt: Sequence[int], prefix: Sequence[int]) -> int:
        tokens = (*prompt, *prefix)
        check_prefix(tokens, self.vocab_size, self.horizon)
        return len(tokens) * self._span + self._code(tokens)

    def _advance(self, states: IntArray, tokens: IntArray) -> IntArray:
        depths, codes = np.divmod(states, self._span)
        return (depths + 1) * self._span + (codes * self.vocab_size + tokens) % self._span

    def _laws(self, states: IntArray) -> FloatArray:
        depths, codes = np.divmod(states, self._span)
        laws = np.empty((len(states), self.vocab_size))
        for t in set(depths.tolist()):
            here, table = depths == t, self._tables[t]
            laws[here] = table[codes[here] % len(table)]
        return laws


def _numbers(name: str, given: npt.ArrayLike) -> FloatArray:
    try:
        array = np.array(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{name} must be an array of numbers: {error}") from None
    if np.isnan(array).any():
        raise InvalidInput(f"{name} must be numbers, and has nan")
    return array
