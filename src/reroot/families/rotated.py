"""Rewards that add up along the tokens, linear in rotated features (after arXiv 2503.07453)."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from ..types import FloatArray, Output
from .linear_optimum import LinearOptimum


class Rotated(LinearOptimum):
    """r is Bernoulli with mean Σ_h c_h/H, c_h the place of token h in a hidden order at its prefix, out of
    {0, 1/(K − 1), …, 1}; φ_h is (c_h, nuisance) in a hidden rotation.

    V*_h counts what is collected and is the same for all that follows: C_cov = C_cond^H. The noise of a
    reward is keyed by the output and by how often one problem was asked about it, so equal runs on new
    problems see equal rewards.
    """

    family = "rotated"

    def __init__(self, vocab_size: int, horizon: int, d: int = 3, seed: int = 0) -> None:
        super().__init__(vocab_size, horizon, d, seed)
        square = self._rng("rotation").standard_normal((self.d, self.d))
        self._rotation = np.linalg.qr(square)[0]

    def _gain(self, tokens: tuple[int, ...]) -> float:
        order = self._rng("order", tokens[:-1]).permutation(self.vocab_size)
        return float(order[tokens[-1]]) / (self.vocab_size - 1)

    def _feature(self, tokens: tuple[int, ...]) -> FloatArray:
        nuisance = self._rng("feature", tokens).standard_normal(self.d - 1)
        nuisance *= 0.5 / np.linalg.norm(nuisance)
        return self._rotation @ np.concatenate([[self._gain(tokens)], nuisance])

    def mean_reward(self, tokens: tuple[int, ...]) -> float:
        gains = [self._gain(tokens[:h]) for h in range(1, self.horizon + 1)]
        return math.fsum(gains) / self.horizon

    def _reward(self):
        asked: Counter[tuple[int, ...]] = Counter()

        def reward(output: Output) -> float:
            if not output.complete:
                return 0.0
            asked[output.tokens] += 1
            rng = self._rng(f"reward {asked[output.tokens]}", output.tokens)
            return float(rng.random() < self.mean_reward(output.tokens))

        return reward

    def theta(self, h: int, beta: float) -> FloatArray:
        return self._rotation[:, 0] / self.horizon

    def _tilts(self, beta: float) -> tuple[float, float]:
        """(log mean of e^{c/(βH)} over a token, its largest exponent)."""
        most = 1.0 / (beta * self.horizon)
        exponents = most * np.arange(self.vocab_size) / (self.vocab_size - 1)
        return float(np.logaddexp.reduce(exponents)) - math.log(self.vocab_size), most

    def optimal_value(self, beta: float) -> float:
        return beta * self.horizon * self._tilts(beta)[0]

    def conditional_coverage(self, beta: float) -> float:
        mean, most = self._tilts(beta)
        return math.exp(most - mean)

    def coverage(self, beta: float) -> float:
        return self.conditional_coverage(beta) ** self.horizon
