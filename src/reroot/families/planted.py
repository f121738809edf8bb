"""Linear softmax policies with one right answer for each context, and how well they separate it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ..errors import InvalidInput
from ..generators.linear_softmax import LinearSoftmax
from ..tasks.base import Problem
from ..types import FloatArray, Output
from .hidden_path import digest


class Planted(LinearSoftmax):
    """A ``LinearSoftmax`` with a right answer y*(x) of N tokens for each context.

    The outcome reward is 1[y = y*(x)] (ORM); the process verifier says whether a prefix is one of y*(x)
    (PRM), and accepts a context alone.

    Args:
        answers: (m, N) tokens y*(x).
        slots, vectors, law, weights: as for ``LinearSoftmax``.

    Raises:
        InvalidInput: ``answers`` is no such array, or see ``LinearSoftmax``.
    """

    family = "planted"

    def __init__(
        self,
        answers: npt.ArrayLike,
        slots: npt.ArrayLike,
        vectors: npt.ArrayLike | None = None,
        law: npt.ArrayLike | None = None,
        weights: npt.ArrayLike | None = None,
    ) -> None:
        super().__init__(slots, vectors, law, weights)
        self.answers = np.asarray(answers)
        shape = (self.contexts, self.answer_length)
        tokens = np.issubdtype(self.answers.dtype, np.integer) and self.answers.shape == shape
        if not tokens or self.answers.min() < 0 or self.answers.max() >= self.vocab_size:
            raise InvalidInput(f"answers must be tokens {shape}, got shape {self.answers.shape}")

    @classmethod
    def table(
        cls,
        answers: npt.ArrayLike,
        vocab_size: int,
        law: npt.ArrayLike | None = None,
        weights: npt.ArrayLike | None = None,
    ) -> Planted:
        """Orthonormal features: every (context, position, token) has a weight of its own.

        The largest margin is γ² = K/((K − 1)·m·N).
        """
        m, N = np.asarray(answers).shape
        slots = np.arange(m * N * vocab_size).reshape(m, N, vocab_size)
        return cls(answers, slots, None, law, weights)

    @classmethod
    def shared(
        cls, answers: npt.ArrayLike, vocab_size: int, law: npt.ArrayLike | None = None
    ) -> Planted:
        """K features in all: slot 0 is the right token, whatever context and position: γ² = K/(K − 1)."""
        right = np.asarray(answers)
        return cls(answers, (np.arange(vocab_size) - right[..., None]) % vocab_size, None, law)

    def describe(self) -> Mapping[str, object]:
        return {
            **super().describe(),
            "family": self.family,
            "answers": digest(self.answers.ravel().tolist()),
        }

    def _at_answers(self) -> FloatArray:
        """(m, N, K) nats: the laws along y*(x)."""
        m, N = self.answers.shape
        before = np.concatenate([np.zeros((m, 1), np.int64), self.answers[:, :-1]], axis=1)
        x, i = np.divmod(np.arange(m * N), N)
        return self._token_laws(x, i, before.ravel()).reshape(m, N, self.vocab_size)

    def token_log_likelihoods(self) -> FloatArray:
        """(m, N) nats: log p_w(y*_i | x, y*_<i)."""
        return np.take_along_axis(self._at_answers(), self.answers[..., None], axis=2)[..., 0]

    def log_likelihoods(self) -> FloatArray:
        """(m,) nats: log p_w(y* | x)."""
        return self.token_log_likelihoods().sum(axis=1)

    def success(self) -> float:
        """E_x[p_w(y* | x)]: the expected outcome reward."""
        return float(self.law @ np.exp(self.log_likelihoods()))

    def margin(self, weights: npt.ArrayLike) -> float:
        """min ⟨w, φ(x, y*_<i, y*_i) − φ(x, y*_<i, a)⟩/‖w‖ over x, i and a ≠ y*_i, on right prefixes.

        Args:
            weights: (S, d) w ≠ 0; the best direction gives γ.

        Raises:
            InvalidInput: another shape, or all zeros.
        """
        with self.at(np.asarray(weights, dtype=np.float64)):
            norm = float(np.linalg.norm(self._weights))
            if norm == 0.0:
                raise InvalidInput("a margin needs weights that are not all 0")
            laws = self._at_answers()
        right = np.take_along_axis(laws, self.answers[..., None], axis=2)
        gaps = right - laws
        np.put_along_axis(gaps, self.answers[..., None], np.inf, axis=2)
        return float(gaps.min()) / norm

    def problem(self, id: str | None = None) -> Problem:
        """The task of answering: empty prompt, so that the context is drawn; at most H tokens.

        Args:
            id: the problem's id; ``None``: the family and a digest of the answers.
        """
        right = {self.string(x, answer) for x, answer in enumerate(self.answers.tolist())}
        prefixes = {y[:t] for y in right for t in range(len(y) + 1)}

        def reward(output: Output) -> float:
            return float(output.tokens in right)

        def verifier(output: Output) -> bool:
            return output.tokens in prefixes

        shown = self.string(0, self.answers[0].tolist())
        return Problem(
            id=f"{self.family}:{digest(self.answers.ravel().tolist())}" if id is None else id,
            prompt=(),
            max_tokens=self.horizon,
            reward=reward,
            verifier=verifier,
            demonstration=shown,
            unique=self.contexts == 1,
            horizon=self.horizon,
            answer=self.decode(shown),
        )
