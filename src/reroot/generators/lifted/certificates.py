"""What reports leave open: other laws with the same reports, and what truncation hides."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ...contract import Sampling
from ...errors import InvalidInput
from ...types import FloatArray
from ..base import Generator
from ..law import sampling_laws

_RANK = 1e-10  # singular values below that, relative to the largest, are rounding


class Call(NamedTuple):
    """One processed report: β (token → nats) and the tokens whose log-probabilities it showed, listed or drawn."""

    bias: Mapping[int, float]
    tokens: Sequence[int]


class Loss(NamedTuple):
    """Rollouts of a truncated law in place of those at temperature 1: total variation, and KL(truncated ‖ P), nats."""

    tv: float
    kl: float


def equations(law: FloatArray, calls: Sequence[Call]) -> FloatArray:
    """The linear equations of processed reports and of Σ P = 1. (m + 1, K).

    A token i that is shown is one: P_i·e^β_i = x_i·Σ_j P_j·e^β_j. Their number bounds calls from below: ⌈(K - 1)/k⌉
    for lists of k, ⌈(K - 1)/(k + n)⌉ with n reported draws.

    Args:
        law: (K,) nats, all finite.
        calls: what was asked.
    """
    size, rows = len(law), [np.ones(len(law))]
    for call in calls:
        weights = np.ones(size)
        weights[list(call.bias)] = np.exp(list(call.bias.values()))
        shown = np.exp(law) * weights
        for token in call.tokens:
            row = -shown[token] / shown.sum() * weights
            row[token] += weights[token]
            rows.append(row / weights.max())
    return np.array(rows)


def other_law(law: FloatArray, calls: Sequence[Call]) -> FloatArray | None:
    """Another law with the same reports, (K,) nats; ``None``: the reports determine the law.

    They do if and only if the equations have rank K. Else a null vector is added, so little that no
    probability moves by more than a tenth of itself; lists keep their order where no tie is so near.

    Raises:
        InvalidInput: the law has impossible tokens.
    """
    if not np.isfinite(law).all():
        raise InvalidInput("the certificate is of laws without impossible tokens")
    _, values, vectors = np.linalg.svd(equations(law, calls))
    values = np.append(values, np.zeros(len(law) - min(len(law), len(values))))
    if values[len(law) - 1] > _RANK * values[0]:
        return None
    p, step = np.exp(law), vectors[-1]
    return np.log(p + step * 0.1 * float((p / np.maximum(np.abs(step), 1e-300)).min()))


def truncation_diameter(least: float, vocab_size: int, kept: int) -> float:
    """Largest TV between two laws of which top-k sampling shows the same: nq/(1 + nq).

    Args:
        least: q, the least probability that is kept, after renormalization.
        vocab_size: K.
        kept: tokens that are kept, n = K - kept are not.
    """
    scaled = (vocab_size - kept) * least
    return scaled / (1 + scaled)


def min_p_diameter(largest: float, vocab_size: int, kept: int, mu: float) -> float:
    """The same for min-p, which keeps what has at least μ times the largest probability: q = μ·largest."""
    return truncation_diameter(mu * largest, vocab_size, kept)


def top_p_diameter(least: float, vocab_size: int, kept: int, p: float) -> float:
    """At most so much for top-p: min(1 - p, nq/(1 + nq)), as at most 1 - p is left out."""
    return min(1.0 - p, truncation_diameter(least, vocab_size, kept))


def truncation_loss(generator: Generator, sampling: Sampling, length: int) -> Loss:
    """Truncated rollouts served as they are: TV = 1 - P(all kept), KL = E Σ_t -log(1 - m_t), by enumeration.

    KL(P ‖ truncated) is infinite wherever something is left out.

    Args:
        generator: an exact law without end tokens.
        sampling: top-k, top-p, or both, at temperature 1.
        length: H, tokens; K^H outputs are walked through.

    Raises:
        InvalidInput: another temperature, which does more than to leave out.
    """
    if sampling.temperature != 1.0:
        raise InvalidInput(f"truncation alone is at temperature 1, got {sampling}")
    prefixes, log_p, log_q = [()], np.zeros(1), np.zeros(1)
    for _ in range(length):
        laws = generator.log_laws((), prefixes)
        cut = sampling_laws(laws, sampling)
        rows, tokens = np.nonzero(cut > -np.inf)
        log_p = log_p[rows] + laws[rows, tokens]
        log_q = log_q[rows] + cut[rows, tokens]
        prefixes = [(*prefixes[i], a) for i, a in zip(rows.tolist(), tokens.tolist(), strict=True)]
    kept = math.fsum(np.exp(log_p).tolist())
    return Loss(1.0 - kept, math.fsum((np.exp(log_q) * (log_q - log_p)).tolist()))
