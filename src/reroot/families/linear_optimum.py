"""Uniform generators with features in which optimal policies of the KL-regularized reward are linear
(Foster, Mhammedi & Rohatgi, COLT 2025, arXiv 2503.07453)."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np

from ..checks import check_between, check_int
from ..errors import InvalidInput
from ..generators.base import Capabilities, check_prefix
from ..generators.tabular import MAX_HORIZON, IntegerGenerator
from ..linear.operators import all_strings
from ..randomness import keyed_rng, stream_key
from ..tasks.base import Problem
from ..types import FloatArray, IntArray, Output

MAX_LEAVES = 1 << 18
"""Most outputs that are enumerated."""


class LinearOptimum(IntegerGenerator):
    """P uniform on K^H, and features φ_h(y_{1:h}) with Q*_h(y_{1:h}) = ⟨θ_h, φ_h⟩ + a constant at each
    prefix: π* = P·e^{⟨θ_h, φ_h⟩/β}, normalized token by token.

    Features are shown as hidden states (``Session.features``, oracle ``+hidden``): below chosen control
    only those of strings that the generator emitted, which is what makes them an oracle.

    Args:
        vocab_size: K.
        horizon: H.
        d: numbers of a feature vector, at least 2.
        seed: names the secret and the features.

    Raises:
        InvalidInput: K, H or d is out of range.
    """

    family: ClassVar[str]

    def __init__(self, vocab_size: int, horizon: int, d: int = 3, seed: int = 0) -> None:
        super().__init__(vocab_size, check_int("horizon", horizon, 1, MAX_HORIZON))
        self.d = check_int("d", d, 2, 1000)
        self.seed = seed
        self._known: dict[tuple[int, ...], FloatArray] = {}

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(hidden=True)

    @property
    def label(self) -> str:
        """The spec of this instance, with its seed."""
        shape = f"K={self.vocab_size},H={self.horizon},d={self.d}"
        return f"{self.family}:{shape},seed={self.seed}"

    def describe(self) -> Mapping[str, object]:
        return {
            "family": self.family,
            "vocab_size": self.vocab_size,
            "horizon": self.horizon,
            "d": self.d,
            "seed": self.seed,
        }

    # ---- the generator ---------------------------------------------------------------------------

    def _start(self, prompt: Sequence[int], prefix: Sequence[int]) -> int:
        tokens = (*prompt, *prefix)
        check_prefix(tokens, self.vocab_size, self.horizon)
        return len(tokens)

    def _advance(self, states: IntArray, tokens: IntArray) -> IntArray:
        return states + 1

    def _laws(self, states: IntArray) -> FloatArray:
        return np.full((len(states), self.vocab_size), -math.log(self.vocab_size))

    def layer_laws(
        self, prompts: Sequence[Sequence[int]], prefixes: Sequence[Sequence[int]], layers: int
    ) -> FloatArray:
        """(n, 1, K) nats: it has one layer, see ``ShowsHiddenStates``."""
        return np.stack([self.log_laws(x, [u]) for x, u in zip(prompts, prefixes, strict=True)])

    def features(
        self, prompts: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]
    ) -> FloatArray:
        """(n, d) φ_h of each string of h ≥ 1 tokens, prompt included, see ``ShowsHiddenStates``."""
        return np.array([self.feature((*x, *y)) for x, y in zip(prompts, outputs, strict=True)])

    def feature(self, tokens: tuple[int, ...]) -> FloatArray:
        """(d,) φ_h of h ≥ 1 tokens."""
        if tokens not in self._known:
            self._known[tokens] = self._feature(tokens)
        return self._known[tokens]

    @abstractmethod
    def _feature(self, tokens: tuple[int, ...]) -> FloatArray: ...

    def _rng(self, purpose: str, tokens: Sequence[int] = ()) -> np.random.Generator:
        return keyed_rng(stream_key(self.seed, self.family, purpose, tokens))

    # ---- exact values ----------------------------------------------------------------------------

    @abstractmethod
    def mean_reward(self, tokens: tuple[int, ...]) -> float:
        """E[r | y] of a complete output."""

    @abstractmethod
    def theta(self, h: int, beta: float) -> FloatArray:
        """(d,) θ_h of Q*_h, h = 1 … H."""

    @abstractmethod
    def optimal_value(self, beta: float) -> float:
        """J* = β·log E_P[e^{r/β}], reward."""

    @abstractmethod
    def coverage(self, beta: float) -> float:
        """C_cov = max_y π*(y)/P(y)."""

    @abstractmethod
    def conditional_coverage(self, beta: float) -> float:
        """C_cond = max over prefixes and tokens of π*(a | u)/P(a | u)."""

    @cached_property
    def _levels(self) -> list[FloatArray]:
        """(K^h, d) features of all strings of h = 1 … H tokens."""
        levels = [self._strings(h + 1) for h in range(self.horizon)]
        return [np.array([self.feature(y) for y in level]) for level in levels]

    @cached_property
    def _rewards(self) -> FloatArray:
        """(K^H,) mean rewards of all outputs."""
        return np.array([self.mean_reward(y) for y in self._strings(self.horizon)])

    @property
    def outputs(self) -> list[tuple[int, ...]]:
        """All K^H outputs, in lexicographic order (``InvalidInput``: too many to enumerate)."""
        return self._strings(self.horizon)

    @property
    def output_features(self) -> FloatArray:
        """(K^H, d) φ_H of all outputs."""
        return self._levels[-1]

    def _strings(self, length: int) -> list[tuple[int, ...]]:
        count = self.vocab_size**self.horizon
        if count > MAX_LEAVES:
            raise InvalidInput(
                f"{count:,} outputs are too many to enumerate; at most {MAX_LEAVES:,}"
            )
        return [tuple(y) for y in all_strings(self.vocab_size, length).tolist()]

    def optimal_values(self, beta: float) -> list[FloatArray]:
        """V*_h of all strings of h = 0 … H tokens, by enumeration of J* below each."""
        below = self._rewards / beta
        found = [below]
        for _ in range(self.horizon):
            below = np.logaddexp.reduce(below.reshape(-1, self.vocab_size), axis=1)
            below = below - math.log(self.vocab_size)
            found.append(below)
        return [beta * level for level in reversed(found)]

    def value(self, thetas: Sequence[FloatArray], beta: float) -> float:
        """J_β of the policy e^{⟨θ_h, φ_h⟩/β}, normalized token by token, exactly.

        Args:
            thetas: H vectors (d,).
            beta: β > 0.
        """
        check_between("beta", beta, 0.0, math.inf)
        K, below = self.vocab_size, self._rewards
        for level, theta in zip(self._levels[::-1], thetas[::-1], strict=True):
            scores = (level @ np.asarray(theta) / beta).reshape(-1, K)
            logs = scores - np.logaddexp.reduce(scores, axis=1)[:, None]
            gains = below.reshape(-1, K) - beta * (logs + math.log(K))
            below = (np.exp(logs) * gains).sum(axis=1)
        return float(below[0])

    def sequence_value(self, theta: FloatArray, beta: float, summed: bool = False) -> float:
        """J_β of the policy ∝ P·e^{⟨θ, φ(y)⟩/β} on whole outputs, exactly; φ = φ_H, or Σ_h φ_h."""
        rows = self._levels[-1]
        if summed:
            K, H = self.vocab_size, self.horizon
            parts = (np.repeat(row, K ** (H - h), axis=0) for h, row in enumerate(self._levels, 1))
            rows = np.sum(list(parts), axis=0)
        logs = rows @ np.asarray(theta) / check_between("beta", beta, 0.0, math.inf)
        logs -= np.logaddexp.reduce(logs)
        kl = logs + self.horizon * math.log(self.vocab_size)
        return float(np.exp(logs) @ (self._rewards - beta * kl))

    def problem(self, id: str | None = None) -> Problem:
        """The task of a high reward (``mean_reward``); an output passes from reward 1 on.

        Args:
            id: the problem's id; ``None``: ``label``.
        """
        return Problem(
            id=self.label if id is None else id,
            prompt=(),
            max_tokens=self.horizon,
            reward=self._reward(),
            horizon=self.horizon,
        )

    def _reward(self):
        def reward(output: Output) -> float:
            return self.mean_reward(output.tokens) if output.complete else 0.0

        return reward


class Needle(LinearOptimum):
    """r = 1[y = y*]; φ_h is u_h on the path of y*, and a vector of norm ½ that is orthogonal to u_h at
    every other prefix. The rotation of each level is hidden.

    C_cov is exponential in H where β is about 1/(H·log K), and C_cond is below K.
    """

    family = "needle"

    def __init__(self, vocab_size: int, horizon: int, d: int = 3, seed: int = 0) -> None:
        super().__init__(vocab_size, horizon, d, seed)
        rng = self._rng("path")
        self.path = tuple(rng.integers(self.vocab_size, size=self.horizon).tolist())
        rows = rng.standard_normal((self.horizon, self.d))
        self._directions = rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def _feature(self, tokens: tuple[int, ...]) -> FloatArray:
        u = self._directions[len(tokens) - 1]
        if tokens == self.path[: len(tokens)]:
            return u
        other = self._rng("feature", tokens).standard_normal(self.d)
        other -= (other @ u) * u
        return 0.5 * other / np.linalg.norm(other)

    def mean_reward(self, tokens: tuple[int, ...]) -> float:
        return float(tokens == self.path)

    def _path_value(self, h: int, beta: float) -> float:
        """V*_h on the path: β·log(1 + K^{h−H}·(e^{1/β} − 1))."""
        share = float(self.vocab_size) ** (h - self.horizon)
        return beta * math.log1p(share * math.expm1(1.0 / beta))

    def theta(self, h: int, beta: float) -> FloatArray:
        return self._path_value(h, beta) * self._directions[h - 1]

    def optimal_value(self, beta: float) -> float:
        return self._path_value(0, beta)

    def coverage(self, beta: float) -> float:
        return math.exp((1.0 - self._path_value(0, beta)) / beta)

    def conditional_coverage(self, beta: float) -> float:
        gains = (self._path_value(h, beta) - self._path_value(h - 1, beta) for h in self._depths)
        return math.exp(max(gains) / beta)

    @property
    def _depths(self) -> range:
        return range(1, self.horizon + 1)
