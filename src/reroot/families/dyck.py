"""Dyck strings with noise (Botta et al. 2025, arXiv 2502.12123): well-bracketed strings
of several types of brackets, which a process verifier makes cheap to find."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np

from ..checks import check_float, check_int
from ..errors import InvalidInput
from ..generators.base import check_prefix
from ..generators.tabular import IntegerGenerator
from ..randomness import keyed_rng, stream_key
from ..tasks.base import Problem
from ..types import FloatArray, IntArray, Output
from .dyck_grammar import BracketGrammar, DyckError

OFF = -1
"""The state of every prefix that no string completes."""

_SUM = 1e-9  # most that the probabilities of the types may miss 1 by
_MOST_STATES = 2**62


class Dyck(IntegerGenerator):
    """Bracket strings of exactly H tokens; token 2i opens type i, token 2i + 1 closes it.

    Without noise: with nothing open, a bracket opens; else one closes with probability 1/2, and
    surely where as many are open as tokens remain or the greatest depth is reached. What opens has type i
    with probability types[i]; what closes has the innermost open type. Every string is then valid:
    H tokens, well-bracketed, never deeper than ``depth``. No begin or end tokens are needed, as the
    length is fixed.

    With noise ε each token is, with probability ε, drawn uniformly from all K = 2·(types) tokens
    instead. After an error (see ``error_of``) the law is uniform.

    A state is position and stack, as one integer; ``OFF`` after an error. O(H + depth) memory.

    Attributes:
        types: probability of each type of bracket.
        depth: most brackets that may be open at once.
        noise: ε; at 1 the law is uniform.

    Args:
        horizon: H, even, 2…10,000.
        types, depth, noise: as above; probabilities are positive and sum to 1 (within 1e-9).
        seed: names the valid string that ``problem`` demonstrates, a draw of the law without noise.

    Raises:
        InvalidInput: a parameter is out of range, or there are more than 2^62 states.
    """

    family = "dyck"

    def __init__(
        self,
        horizon: int = 32,
        types: Sequence[float] = (0.2, 0.8),
        depth: int = 12,
        noise: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.types = _probabilities(types)
        self._kinds = len(self.types)
        super().__init__(2 * self._kinds, horizon)
        if self.horizon % 2:
            raise InvalidInput(f"horizon must be even, as brackets come in pairs, got {horizon}")
        self.depth = check_int("depth", depth, 1)
        self._grammar = BracketGrammar(self.horizon, self.depth)
        self.noise = check_float("noise", noise, 0.0)
        if self.noise > 1.0:
            raise InvalidInput(f"noise must lie in [0, 1], got {noise!r}")
        self.seed = seed
        self._deepest = min(self.depth, self.horizon // 2)  # no valid string goes deeper
        # stacks are numbered by depth, then as digits: those of depth d start at _first[d]
        first = [0]
        while len(first) < self._deepest + 2 and first[-1] <= _MOST_STATES:
            first.append(first[-1] * self._kinds + 1)
        self._stacks = first[-1]
        if self._stacks * self.horizon > _MOST_STATES:
            raise InvalidInput(
                f"{self._kinds} types to depth {self._deepest} and H = {self.horizon} make more "
                f"than 2^62 states; lower depth, got {depth}"
            )
        self._first = np.array(first, dtype=np.int64)

    @property
    def label(self) -> str:
        """The spec of this instance, with its seed."""
        shown = f"p={self.types[0]}" if self._kinds == 2 else f"types={self.types}"
        return (
            f"{self.family}:H={self.horizon},{shown},depth={self.depth},noise={self.noise},"
            f"seed={self.seed}"
        )

    def describe(self) -> Mapping[str, object]:
        return {
            "family": self.family,
            "vocab_size": self.vocab_size,
            "horizon": self.horizon,
            "types": list(self.types),
            "depth": self.depth,
            "noise": self.noise,
        }

    def error_of(self, tokens: Sequence[int]) -> DyckError | None:
        """The first error in ``tokens``; ``None`` exactly if they can be completed to (at H tokens:
        are) a valid string.

        Raises:
            InvalidInput: a token is outside the vocabulary, or there are more than H.
        """
        check_prefix(tokens, self.vocab_size)
        if len(tokens) > self.horizon:
            raise InvalidInput(f"a string has at most {self.horizon} tokens, got {len(tokens)}")
        return self._grammar.read(tokens)[1]

    def problem(self, id: str | None = None) -> Problem:
        """The task of writing a valid string: empty prompt, outcome reward 1[y is valid].

        The process verifier says whether a prefix can be completed (V of Botta et al.); the
        demonstration is a valid string, drawn by ``seed``.

        Args:
            id: the problem's id; ``None``: ``label``.
        """
        error_of, horizon = self.error_of, self.horizon

        def verifier(output: Output) -> bool:
            return error_of(output.tokens) is None

        def reward(output: Output) -> float:
            return float(len(output.tokens) == horizon and verifier(output))

        return Problem(
            id=self.label if id is None else id,
            prompt=(),
            max_tokens=horizon,
            reward=reward,
            verifier=verifier,
            demonstration=self.demonstration,
            unique=False,
            horizon=horizon,
            answer=self.decode(self.demonstration),
        )

    @cached_property
    def demonstration(self) -> tuple[int, ...]:
        """A valid string, drawn by ``seed`` from the law without noise."""
        rng = keyed_rng(stream_key(self.seed, self.family, "demonstration"))
        tokens: list[int] = []
        stack: list[int] = []
        for left in range(self.horizon, 0, -1):
            if rng.random() < self._opens(np.array(len(stack)), np.array(left)):
                stack.append(int(rng.choice(self._kinds, p=self.types)))
                tokens.append(2 * stack[-1])
            else:
                tokens.append(2 * stack.pop() + 1)
        return tuple(tokens)

    # ---- exact quantities, over depths alone: one token closes whatever is innermost ----------

    @cached_property
    def valid_strings(self) -> int:
        """How many strings are valid."""
        ways = [1] + [0] * self._deepest
        for _ in range(self.horizon):
            ways = [
                (self._kinds * ways[d + 1] if d < self._deepest else 0) + (ways[d - 1] if d else 0)
                for d in range(self._deepest + 1)
            ]
        return ways[0]

    @cached_property
    def log_valid(self) -> float:
        """log P(a rollout is valid), nats."""
        ahead = np.full(self._deepest + 1, -np.inf)
        ahead[0] = 0.0
        for left in range(1, self.horizon + 1):
            opens, closes = self._right_steps(left)
            deeper, back = np.append(ahead[1:], -np.inf), np.append(-np.inf, ahead[:-1])
            with np.errstate(divide="ignore"):
                ahead = np.logaddexp(np.log(opens) + deeper, np.log(closes) + back)
        return min(0.0, float(ahead[0]))  # 0 without noise, up to rounding

    @cached_property
    def rejection_draws(self) -> float:
        """Expected draws of tokenwise rejection, one at a time, for one valid string.

        At a prefix u it draws until the verifier accepts: 1/A(u) times in the mean, A(u) being the
        probability of all acceptable tokens. With noise 1 this is at most K·H.
        """
        law = np.zeros(self._deepest + 1)  # of the depth, under tokenwise rejection
        law[0] = 1.0
        draws = 0.0
        for left in range(self.horizon, 0, -1):
            opens, closes = self._right_steps(left)
            wait = np.divide(law, opens + closes, out=np.zeros_like(law), where=law > 0)
            draws += float(wait.sum())
            law = np.append(0.0, (wait * opens)[:-1]) + np.append((wait * closes)[1:], 0.0)
        return draws

    def _right_steps(self, left: int) -> tuple[FloatArray, FloatArray]:
        """(deepest + 1,) each: probability that at this depth, before the last ``left`` tokens, the
        next one opens a bracket that may open, and that it closes the innermost."""
        depth = np.arange(self._deepest + 1)
        opens = self._opens(depth, np.full_like(depth, left))
        may_open = (depth < self._deepest) & (depth + 1 < left)
        noisy_open = (1.0 - self.noise) * opens + self.noise / 2
        noisy_close = (1.0 - self.noise) * (1.0 - opens) + self.noise / self.vocab_size
        return np.where(may_open, noisy_open, 0.0), np.where(depth > 0, noisy_close, 0.0)

    def _opens(self, depth: IntArray, left: IntArray) -> FloatArray:
        """Probability, without noise, that the next token opens."""
        must_close = (depth >= left) | (depth >= self._deepest)
        return np.where(depth == 0, 1.0, np.where(must_close, 0.0, 0.5))

    # ---- states ---------------------------------------------------------------------------------

    def _start(self, prompt: Sequence[int], prefix: Sequence[int]) -> int:
        tokens = (*prompt, *prefix)
        check_prefix(tokens, self.vocab_size, self.horizon)
        stack, error = self._grammar.read(tokens)
        if error is not None:
            return OFF
        number = 0
        for kind in stack:
            number = number * self._kinds + kind + 1
        return len(tokens) * self._stacks + number

    def _advance(self, states: IntArray, tokens: IntArray) -> IntArray:
        position, stack = np.divmod(states, self._stacks)
        depth, kind = self._depths(stack), tokens >> 1
        left = self.horizon - position - 1
        may_open = (depth < self._deepest) & (depth < left)
        may_close = (depth > 0) & ((stack - 1) % self._kinds == kind)
        opens = tokens & 1 == 0
        # pushed only where it may be: the number of a deeper stack could be too large
        pushed = np.where(may_open, stack, 0) * self._kinds + kind + 1
        after = np.where(opens, pushed, (stack - 1) // self._kinds)
        right = (states != OFF) & np.where(opens, may_open, may_close)
        return np.where(right, (position + 1) * self._stacks + after, OFF)

    def _laws(self, states: IntArray) -> FloatArray:
        position, stack = np.divmod(states, self._stacks)
        depth = self._depths(stack)
        opens = self._opens(depth, self.horizon - position)
        p = np.zeros((len(states), self.vocab_size))
        p[:, ::2] = opens[:, None] * np.array(self.types)
        rows = np.flatnonzero(depth)
        p[rows, 2 * ((stack[rows] - 1) % self._kinds) + 1] = 1.0 - opens[rows]
        p = (1.0 - self.noise) * p + self.noise / self.vocab_size
        p[states == OFF] = 1.0 / self.vocab_size
        with np.errstate(divide="ignore"):
            return np.log(p)

    def _depths(self, stacks: IntArray) -> IntArray:
        return np.searchsorted(self._first, stacks, side="right") - 1


def _probabilities(types: Iterable[float]) -> tuple[float, ...]:
    """``types`` as probabilities that sum to 1 to the last bit."""
    try:
        p = tuple(float(x) for x in types)
    except (TypeError, ValueError):
        raise InvalidInput(f"types must be probabilities, got {types!r}") from None
    total = math.fsum(p)
    if not p or not all(x > 0 for x in p) or not abs(total - 1.0) <= _SUM:
        raise InvalidInput(f"types must be positive probabilities that sum to 1, got {types!r}")
    return tuple(x / total for x in p)
