"""Draws from P·e^{f/β} by rejection, with an estimate of their density (SoftmaxSampler)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ...types import FloatArray


class Normalizer(NamedTuple):
    """Ẑ of N draws from P.

    Attributes:
        log_z: log of the mean of their weights e^{f/β}.
        correction: s²/(2N·Ẑ²), s² the variance of the weights: the bias of log Ẑ is about its
            negative.
    """

    log_z: float
    correction: float


def normalizer(exponents: FloatArray) -> Normalizer:
    """Ẑ from the (N,) exponents f/β of draws from P."""
    top = float(exponents.max())
    weights = np.exp(exponents - top)
    mean, n = float(weights.mean()), len(weights)
    spread = float(weights.var(ddof=1)) if n > 1 else 0.0
    return Normalizer(top + math.log(mean), spread / (2 * n * mean * mean))


def first_accepted(
    exponents: FloatArray, z: Normalizer, bound: float, rng: np.random.Generator
) -> int | None:
    """Which of the proposals, with these exponents, is accepted first, each with probability
    min(1, e^{f/β}/(Ẑ·M)); ``None``: none of them."""
    coins = rng.random(len(exponents))
    accepted = np.log1p(-coins) < exponents - z.log_z - math.log(bound)
    return int(accepted.argmax()) if accepted.any() else None


def log_density(exponent: float, z: Normalizer) -> float:
    """log ρ, an estimate of log π_f(y)/P(y): nearly unbiased by the correction."""
    return exponent - z.log_z - z.correction
