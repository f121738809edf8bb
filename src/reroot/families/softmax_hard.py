"""The hard instance for exploration with a generator (arXiv 2503.07453, Theorem 2.1)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ..checks import check_between
from ..errors import InvalidInput
from ..types import FloatArray, IntArray
from .linear_optimum import LinearOptimum


class SoftmaxHard(LinearOptimum):
    """One token: 0 with probability 1 − ε, a secret y* with ε, no other ever; r = 1[y = y*].

    φ(y*) is a hidden unit vector and all other features are 0: until y* is drawn, nothing is known of
    it. With ε = e^{−1/(2β)} the optimum is worth at least ½, yet takes about 1/ε draws to see once.

    Args:
        vocab_size: K ≥ 3, so that y* is one of K − 1.
        epsilon: ε_ref.
        d: numbers of the features.
        seed: names y* and its feature vector.
    """

    family = "softmax_hard"

    def __init__(
        self, vocab_size: int, epsilon: float = math.exp(-5.0), d: int = 3, seed: int = 0
    ) -> None:
        super().__init__(vocab_size, 1, d, seed)
        if self.vocab_size < 3:
            raise InvalidInput(f"K must be at least 3, so that y* is hidden, got {vocab_size}")
        self.epsilon = check_between("epsilon", epsilon, 0.0, 1.0)
        rng = self._rng("answer")
        self.right = int(rng.integers(1, self.vocab_size))
        row = rng.standard_normal(self.d)
        self._direction = row / np.linalg.norm(row)

    @property
    def label(self) -> str:
        shape = f"K={self.vocab_size},H=1,epsilon={self.epsilon},d={self.d}"
        return f"{self.family}:{shape},seed={self.seed}"

    def describe(self) -> Mapping[str, object]:
        return {**super().describe(), "epsilon": self.epsilon}

    def _laws(self, states: IntArray) -> FloatArray:
        laws = np.full((len(states), self.vocab_size), -np.inf)
        laws[:, 0] = math.log1p(-self.epsilon)
        laws[:, self.right] = math.log(self.epsilon)
        return laws

    def _feature(self, tokens: tuple[int, ...]) -> FloatArray:
        return self._direction * self.mean_reward(tokens)

    def mean_reward(self, tokens: tuple[int, ...]) -> float:
        return float(tokens == (self.right,))

    def theta(self, h: int, beta: float) -> FloatArray:
        return self._direction

    def optimal_value(self, beta: float) -> float:
        """β·log(1 − ε + ε·e^{1/β})."""
        return beta * float(
            np.logaddexp(math.log1p(-self.epsilon), math.log(self.epsilon) + 1 / beta)
        )

    def coverage(self, beta: float) -> float:
        """e^{1/β}/(1 − ε + ε·e^{1/β})."""
        return math.exp((1.0 - self.optimal_value(beta)) / beta)

    def conditional_coverage(self, beta: float) -> float:
        return self.coverage(beta)

    def value(self, thetas: Sequence[FloatArray], beta: float) -> float:
        return self.sequence_value(thetas[0], beta)

    def sequence_value(self, theta: FloatArray, beta: float, summed: bool = False) -> float:
        """J_β of the policy ∝ P·e^{⟨θ, φ⟩/β}, exactly."""
        score = float(self._direction @ theta) / check_between("beta", beta, 0.0, math.inf)
        logs = np.array([math.log1p(-self.epsilon), math.log(self.epsilon)])
        tilted = logs + np.array([0.0, score])
        tilted -= np.logaddexp.reduce(tilted)
        p = np.exp(tilted)
        return float(p[1] - beta * (p @ (tilted - logs)))
