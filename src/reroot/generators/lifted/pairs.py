"""Pairs of generators, and the total variation between N answers of two laws at one prefix, by enumeration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...contract import Contract, Report, Sampling
from ...types import FloatArray
from ..law import log_normalize, most_likely, sampling_laws

Shown = Mapping[tuple[object, ...], float]
"""What one answer shows → its probability."""

DIGITS = 9
"""Reports that differ by less than rounding to so many digits are equal."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two generators.

    Attributes:
        first, second: next-token probabilities, at ``where``.
        where: the prefix at which they differ; elsewhere they agree.
        why: what the weaker interface misses.
        tv: of one stronger answer.
    """

    first: tuple[float, ...]
    second: tuple[float, ...]
    where: str
    why: str
    tv: float

    def __str__(self) -> str:
        shown = [f"({', '.join(f'{p:.3g}' for p in law)})" for law in (self.first, self.second)]
        return f"{shown[0]} and {shown[1]} at {self.where}: {self.why}"


def shown(
    law: FloatArray, report: Report, sampling: Sampling, shift: FloatArray | float = 0.0
) -> Shown:
    """What one answer at a prefix with this law (K,) nats shows, with its probability."""
    row = sampling_laws(log_normalize(law + shift)[None], sampling)[0]
    # + 0.0: no negative zeros
    values = np.round(row, DIGITS) + 0.0
    base: tuple[object, ...] = ()
    if report.top:
        ids = most_likely(row[None], report.top)[0].tolist()
        base = tuple((i, float(values[i])) for i in ids if row[i] > -np.inf)
    if report.has_law:
        base = tuple(values.tolist())
    if not report.draws:
        return {base: 1.0}
    drawn = ((a, float(np.exp(row[a]))) for a in range(len(row)) if row[a] > -np.inf)
    return {(a, *((float(values[a]),) if report.has_logprob else ()), *base): p for a, p in drawn}


def total_variation(first: Shown, second: Shown, n: int = 1) -> float:
    """Between n independent answers, by enumeration of all of them."""
    keys = list(dict.fromkeys((*first, *second)))
    p, q = (np.array([law.get(key, 0.0) for key in keys]) for law in (first, second))
    joint_p, joint_q = p, q
    for _ in range(n - 1):
        joint_p, joint_q = np.outer(joint_p, p).ravel(), np.outer(joint_q, q).ravel()
    return 0.5 * float(np.abs(joint_p - joint_q).sum())


def told_apart(
    p: tuple[float, ...], q: tuple[float, ...], contract: Contract | str, n: int = 1
) -> float:
    """TV between n answers under a contract at a prefix where the laws are p and q."""
    one = Contract.parse(contract)
    sampling = one.sampling or Sampling()
    with np.errstate(divide="ignore"):
        laws = [np.log(np.array(law)) for law in (p, q)]
    first, second = (shown(law, one.report, sampling) for law in laws)
    return total_variation(first, second, n)


def narrow(report: Report, sampling: Sampling) -> bool:
    """Whether some tokens are never emitted: modes only, or a truncated law."""
    truncated = bool(sampling.top_k) or sampling.top_p < 1
    return not report.draws or not sampling.temperature or truncated


def text_prefixes(length: int) -> int:
    """Sequences of tokens {a, b, ab} that the tokenizer itself makes (longest match): 3, 8, 21, 55, …

    Those in which no b follows an a, of all 3^length: a prefix of text reaches no other.
    """
    ends_in_a, other = 0, 1
    for _ in range(length):
        ends_in_a, other = ends_in_a + other, 2 * other + ends_in_a
    return ends_in_a + other


def half_reach(p: float, depth: int) -> float:
    """p^d: the best reach of a balanced path of K tokens under any constant bias (``depth`` = d)."""
    return math.exp(depth * math.log(p))
