"""What one draw can tell: capacities and the floors they set."""

from __future__ import annotations

import math

from ..checks import check_between
from .hidden_path import other_probability


def capacity(vocab_size: int, p: float) -> float:
    """C = p·log(pK) + (1 - p)·log(qK), nats: most that one conditional draw tells about its token.

    Args:
        vocab_size: K >= 2.
        p: probability of the path token, 1/K < p < 1.

    Raises:
        InvalidInput: an argument is out of range.
    """
    q = other_probability(vocab_size, 1, p)
    return p * math.log(p * vocab_size) + (1.0 - p) * math.log(q * vocab_size)


def capacity_floor(vocab_size: int, horizon: int, p: float) -> float:
    """H·log K / C, draws: what it takes to learn H tokens of log K nats at C nats per draw.

    A learner with SAMPLE reports that finds the path with probability 1 - δ needs at least 1 - δ
    times that many draws, up to a vanishing term (Fano): the yardstick of every local-reset
    learner.

    Raises:
        InvalidInput: an argument is out of range.
    """
    other_probability(vocab_size, horizon, p)
    return horizon * math.log(vocab_size) / capacity(vocab_size, p)


def two_point_floor(vocab_size: int, p: float, delta: float) -> float:
    """log(1/δ)/KL draws to tell the path token from one other token, KL = (p - q)·log(p/q).

    The floor of a stage that is decided by itself (Wald), to first order in log(1/δ).

    Raises:
        InvalidInput: an argument is out of range.
    """
    q = other_probability(vocab_size, 1, p)
    return -math.log(check_between("delta", delta, 0.0, 1.0)) / ((p - q) * math.log(p / q))
