"""Noisy parity (Mahajan et al., COLT 2023, arXiv 2302.14753): a secret set of bits
whose parity the last bit tells, with noise."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ..checks import check_between, check_int
from ..errors import InvalidInput
from ..generators.base import check_prefix
from ..generators.tabular import MAX_HORIZON, IntegerGenerator
from ..randomness import keyed_rng, stream_key
from ..tasks.base import Problem
from ..types import FloatArray, IntArray, Output, as_tokens
from .hidden_path import digest

_MAX_ENUMERATED = 14
_ZERO = 1e-10  # singular values of at most 1 that are below are rounding


class NoisyParity(IntegerGenerator):
    """T bits: T - 1 uniform ones, then their parity over S, flipped with probability α.

    Root-start samples are those of learning parity with noise: enough of them tell S, but no fast
    way to read it from them is known. Asking again after the same T - 1 bits averages the noise
    away, and so does one log-probability there. A state is 2·(position) + (parity so far); O(T)
    memory.

    Attributes:
        secret: S as increasing indices.
        noise: α.

    Args:
        horizon: T, 2…10,000.
        noise: α, 0 < α < 1/2.
        secret: non-empty set of indices 0…T - 2; ``None``: drawn uniformly by ``seed``.
        seed: names the random secret.

    Raises:
        InvalidInput: T or α is out of range, or ``secret`` is no such set.
    """

    family = "noisy_parity"

    def __init__(
        self, horizon: int, noise: float, secret: Iterable[int] | None = None, seed: int = 0
    ) -> None:
        super().__init__(2, check_int("horizon", horizon, 2, MAX_HORIZON))
        self.noise = check_between("noise alpha", noise, 0.0, 0.5)
        self.seed = seed
        self._drawn = secret is None
        self.secret = self._draw_secret() if secret is None else self._read(secret)
        self._member = np.zeros(self.horizon, dtype=np.int64)
        self._member[list(self.secret)] = 1

    @property
    def indicator(self) -> tuple[int, ...]:
        """S as T - 1 bits: bit i is 1 if i is in S."""
        return tuple(self._member[:-1].tolist())

    @property
    def label(self) -> str:
        """The spec of this instance, with its seed (or a digest of a secret that was given)."""
        which = f"seed={self.seed}" if self._drawn else f"secret={digest(self.secret)}"
        return f"{self.family}:H={self.horizon},alpha={self.noise},{which}"

    def describe(self) -> Mapping[str, object]:
        return {
            "family": self.family,
            "vocab_size": self.vocab_size,
            "horizon": self.horizon,
            "alpha": self.noise,
            "secret": digest(self.secret),
        }

    def problem(self, id: str | None = None) -> Problem:
        """The task of naming S: empty prompt, outcome reward 1[y_<T is the indicator of S].

        The last token is free, so two outputs are right; the demonstration ends in 0. There is no
        process verifier.

        Args:
            id: the problem's id; ``None``: ``label``.
        """
        indicator, horizon = self.indicator, self.horizon

        def reward(output: Output) -> float:
            return float(len(output.tokens) == horizon and output.tokens[:-1] == indicator)

        return Problem(
            id=self.label if id is None else id,
            prompt=(),
            max_tokens=horizon,
            reward=reward,
            demonstration=(*indicator, 0),
            unique=False,  # the other right output is no variant with another stop token
            horizon=horizon,
            answer=self.decode(indicator),
        )

    def _start(self, prompt: Sequence[int], prefix: Sequence[int]) -> int:
        tokens = (*prompt, *prefix)
        check_prefix(tokens, self.vocab_size, self.horizon)
        return 2 * len(tokens) + int(self._member[: len(tokens)] @ np.array(tokens, np.int64)) % 2

    def _advance(self, states: IntArray, tokens: IntArray) -> IntArray:
        return (states + 2) ^ (tokens & self._member[states >> 1])

    def _laws(self, states: IntArray) -> FloatArray:
        laws = np.full((len(states), 2), -math.log(2))
        last = np.flatnonzero(states >> 1 == self.horizon - 1)
        parity = states[last] & 1
        laws[last, parity] = math.log1p(-self.noise)
        laws[last, 1 - parity] = math.log(self.noise)
        return laws

    def _draw_secret(self) -> tuple[int, ...]:
        rng = keyed_rng(stream_key(self.seed, self.family, "secret"))
        while not (bits := rng.integers(2, size=self.horizon - 1)).any():
            pass
        return tuple(np.flatnonzero(bits).tolist())

    def _read(self, secret: Iterable[int]) -> tuple[int, ...]:
        indices = as_tokens(secret)
        if not indices:
            raise InvalidInput("the secret must have at least one index")
        for index in indices:
            check_int("an index of the secret", index, 0, self.horizon - 2)
        if len(set(indices)) < len(indices):
            raise InvalidInput(f"the secret must be a set, got {indices} with an index twice")
        return tuple(sorted(indices))


def fidelity(generator: NoisyParity, t: int) -> float:
    """Fidelity at position t: how well the histories of t bits are told apart by their futures.

    The smallest non-zero singular value of S^½ Pr[F|H]ᵀ D⁻¹ Pr[F|H] S^½ (arXiv 2302.14753), by
    enumeration: H all 2^t histories with uniform weights S = I/2^t, F all futures of T - t bits,
    D = diag of the mean over H of Pr[f | h]. Histories differ in their parity so far and no more:
    (1 - 2α)² (rank 2) where t exceeds the first index of the secret, else 1 (rank 1).

    Args:
        generator: a noisy parity with T ≤ 14.
        t: 0…T - 1.

    Raises:
        InvalidInput: T or t is out of range.
    """
    T = check_int("horizon", generator.horizon, 2, _MAX_ENUMERATED)
    histories = 2 ** check_int("t", t, 0, T - 1)
    futures = np.ones((histories, 1))  # Pr[f | h], a row for each h
    for length in range(t, T):
        prefixes = list(itertools.product((0, 1), repeat=length))
        laws = np.exp(generator.log_laws((), prefixes)).reshape(histories, -1, 2)
        futures = (futures[:, :, None] * laws).reshape(histories, -1)
    weighted = futures / np.sqrt(histories * futures.mean(axis=0))
    values = np.linalg.svd(weighted, compute_uv=False)
    return float(values[values > _ZERO].min() ** 2)
