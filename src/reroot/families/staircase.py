"""The staircase: contexts that are half as common are a power rarer in their likelihood.

A lower bound for outcome rewards needs contexts of every difficulty at once: to err on fewer than ε of
them, the last steps must be climbed, and their likelihood is the quantile Q(ε) of Mousavi-Hosseini & Erdogdu
(arXiv 2603.06957). Theirs was not at hand; this family is ours, with the same quantiles.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from ..checks import check_between, check_int
from ..errors import InvalidInput
from ..generators.linear_softmax import context_digits
from ..generators.tabular import MAX_HORIZON, MAX_VOCABULARY
from ..randomness import keyed_rng, stream_key
from ..types import FloatArray
from .planted import Planted


class Staircase(Planted):
    """Steps j = 1…J of probability 2^−j (the last one doubled) and base likelihood α^j of the one right answer.

    Context x is step x + 1. A right token has probability α^(j/N) at every position, the others share the
    rest; features are orthonormal, so no step helps another.

    Attributes:
        steps: J.
        alpha: α.
        answers: (J, N) the secret right answers.

    Args:
        vocab_size: K ≥ 2.
        horizon: H, the tokens of a context and N ≥ 1 of an answer.
        steps: J.
        alpha: α, the factor between the likelihoods of two steps, with α^J ≥ K^−N.
        seed: names the right answers.

    Raises:
        InvalidInput: a number is out of range, or the last step would be below uniform.
    """

    family = "staircase"

    def __init__(
        self, vocab_size: int, horizon: int, steps: int = 4, alpha: float = 0.25, seed: int = 0
    ) -> None:
        K = check_int("vocab_size", vocab_size, 2, MAX_VOCABULARY)
        J = check_int("steps", steps, 1, 1000)
        digits = context_digits(J, K)
        H = check_int("horizon", horizon, digits + 1, MAX_HORIZON)
        self.steps, self.seed = J, seed
        self.alpha = check_between("alpha", alpha, 0.0, 1.0)
        N = H - digits
        if J * math.log(1 / self.alpha) > N * math.log(K) * (1 + 1e-12):
            raise InvalidInput(
                f"steps must leave alpha^steps >= K^-N = {K}^-{N}, got alpha = {self.alpha:g} and "
                f"steps = {J}: the last step would be below uniform"
            )
        rng = keyed_rng(stream_key(seed, self.family, "answers"))
        answers = rng.integers(K, size=(J, N))
        j = np.arange(1, J + 1)
        law = 2.0 ** -np.minimum(j, max(1, J - 1)) if J > 1 else np.ones(1)
        token = self.alpha ** (j / N)
        weights = np.zeros((J, N, K))
        gap = np.log(token) - np.log((1 - token) / (K - 1))
        np.put_along_axis(weights, answers[..., None], gap[:, None, None], axis=2)
        slots = np.arange(weights.size).reshape(weights.shape)
        super().__init__(answers, slots, None, law, weights.reshape(-1, 1))

    @property
    def likelihoods(self) -> FloatArray:
        """(J,) α^j: the base likelihoods of the right answers, whatever training has done since."""
        return self.alpha ** np.arange(1.0, self.steps + 1)

    @property
    def label(self) -> str:
        """The spec of this instance, with its seed."""
        shown = f"K={self.vocab_size},H={self.horizon},steps={self.steps},alpha={self.alpha:g}"
        return f"{self.family}:{shown},seed={self.seed}"

    def describe(self) -> Mapping[str, object]:
        return {**super().describe(), "steps": self.steps, "alpha": self.alpha}

    def problem(self, id: str | None = None):
        """See ``Planted.problem``; the id is ``label`` by default."""
        return super().problem(self.label if id is None else id)
