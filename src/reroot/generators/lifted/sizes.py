"""The sizes at which prices are worked out."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...checks import check_between, check_float, check_int
from ...types import FloatArray


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes at which prices are worked out.

    Attributes:
        vocab_size: K.
        length: |u|, tokens of the prefix.
        surprise: -log P(u_t|u_<t), nats, the same at every place; the law at each place gives that token
            e^(-surprise) and shares the rest evenly, where ``law`` is not given.
        epsilon: ε: total variation of a law; nats of a log-probability.
        gap: R, largest log-odds, nats.
        law: (K,) probabilities at the prefix.

    Raises:
        InvalidInput: a size is out of range.
    """

    vocab_size: int = 49_152
    length: int = 256
    surprise: float = 0.5
    epsilon: float = 0.05
    gap: float = 64.0
    law: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        check_int("vocab_size", self.vocab_size, 2)
        check_int("length", self.length)
        check_float("surprise", self.surprise, 0.0)
        check_between("epsilon", self.epsilon, 0.0, 1.0)
        check_float("gap", self.gap, self.epsilon)

    def log_law(self) -> FloatArray:
        """(K,) nats."""
        return _log_law(self)

    @property
    def surprises(self) -> Sequence[float]:
        """|u| surprises, nats."""
        return [self.surprise] * self.length


@functools.lru_cache(maxsize=16)
def _log_law(sizes: Sizes) -> FloatArray:
    if sizes.law is not None:
        with np.errstate(divide="ignore"):
            return np.log(np.array(sizes.law))
    K, top = sizes.vocab_size, math.exp(-sizes.surprise)
    law = np.full(K, math.log((1 - top) / (K - 1)) if top < 1 else -np.inf)
    law[0] = -sizes.surprise
    return law
