"""Whether draws follow the law that is stated for them.

The null hypothesis: the n draws at a prefix are independent, with the stated probabilities; what is not
listed is one outcome. Three statistics, each with an exact or conservative p-value for any n:

* **Surprisal.** Σ −log p(draw) over all draws and prefixes, its mean the entropy; z is its distance in standard
  deviations. Its law is that of a sum of independent variables with known values: surprisals are rounded to a
  lattice (the rounded sum *is* the statistic), so the convolution is exact; far out in the tails, where the
  convolution is rounding, Chernoff's bound takes over. Sees temperature and truncation.
* **Counts** of the most likely tokens. A multinomial is a chain of binomials, the j-th count given those before
  it; each has an exact two-sided p-value whatever came before, so that Fisher's combination of them is
  conservative. Sees what the entropy does not: exchanged ids, penalties, biases.
* **The tail.** With F the mass of all tokens at least as likely as the least likely draw, Pr = Fⁿ; prefixes
  are combined by Fisher. Sees truncation, at any prefix with a tail.

Bonferroni over the three. Stated log-probabilities may be right (they are those of the raw law) while draws
are not: llama-server's and vLLM's defaults are of that kind.

``estimate`` then says which settings were hidden (``hidden_settings``), ``plan`` where to draw so that they show,
``same_law`` and ``two_samples`` compare with a reference model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import special

from ..checks import check_between
from ..types import FloatArray, IntArray
from .drawn import Drawn, Finding, Setting, as_draws
from .hidden_settings import estimate
from .penalties import log_partition
from .plan import plan
from .same_law import same_law, two_samples

__all__ = [
    "Drawn",
    "Finding",
    "Setting",
    "estimate",
    "follows",
    "log_partition",
    "plan",
    "same_law",
    "two_samples",
]

_STEPS = 128
"""Points of the lattice of surprisals, from that of the most likely token to ``_MOST``."""
_MOST = 25.0
"""Nats from which on surprisals count alike."""
_EXPECTED, _BINS = 4.0, 40
"""Counts are tested of the tokens that are expected so often, and of so many at most."""
_ERROR = 1e-11
"""Of a convolution, at most."""


def follows(drawn: Drawn | Sequence[Drawn], level: float) -> Finding:
    """Whether draws follow the stated law; it is wrongly denied with probability at most ``level``.

    Args:
        drawn: draws at one prefix or at several, independent given the prefixes.
        level: error rate of the three tests together.

    Raises:
        InvalidInput: nothing was drawn, or ``level`` is outside (0, 1).
    """
    check_between("level", level, 0, 1)
    draws = as_draws(drawn)
    laws, ranks = [one.law() for one in draws], [one.ranks() for one in draws]
    z, surprise = surprisal(laws, ranks)
    bins, counts = top_counts(laws, ranks)
    tail = never_drawn(laws, ranks)
    p = min(1.0, 3 * min(surprise, counts, tail))
    total = sum(one.n for one in draws)
    where = "1 prefix" if len(draws) == 1 else f"{len(draws)} prefixes"
    said = (
        f"{total:,} draws at {where}: mean surprisal z = {z:.1f} (p = {surprise:.2g}), "
        f"counts of the {bins} most likely p = {counts:.2g}, none less likely than those drawn p = {tail:.2g}"
    )
    return Finding("draws follow the stated law", p > level, said, p)


def surprisal(laws: Sequence[FloatArray], ranks: Sequence[IntArray]) -> tuple[float, float]:
    """z of the summed surprisal, and its two-sided p-value.

    Args:
        laws: per prefix the probabilities of all outcomes.
        ranks: per prefix the outcome of each draw.
    """
    if any((law[rank] == 0).any() for law, rank in zip(laws, ranks, strict=True)):
        return float("inf"), 0.0
    step, total, mean, variance, seen = _MOST / _STEPS, 0, 0.0, 0.0, 0.0
    places: list[tuple[int, FloatArray]] = []
    for law, rank in zip(laws, ranks, strict=True):
        some = law > 0
        s = np.zeros(len(law))
        s[some] = np.minimum(-np.log(law[some]), _MOST)
        place = np.minimum(np.rint(s / step).astype(np.int64), _STEPS)
        masses = np.bincount(place, law, _STEPS + 1).astype(np.float64)
        places.append((len(rank), masses))
        total += int(place[rank].sum())
        seen += float(s[rank].sum())
        mean += len(rank) * float(law @ s)
        variance += len(rank) * float(law @ s**2 - (law @ s) ** 2)
    p = _convolved(places, total)
    if p < 1e3 * _ERROR:  # the convolution is rounding here
        p = min(p, *_chernoff(places, total))
    return (seen - mean) / variance**0.5 if variance > 1e-12 else 0.0, min(1.0, 2 * p)


def _convolved(places: Sequence[tuple[int, FloatArray]], total: int) -> float:
    """Probability of the smaller side of ``total`` among the sums of lattice places, at most ``_ERROR`` too large.

    Sums are worked out modulo a length that all but ``_ERROR`` of them are within.
    """
    at = np.arange(_STEPS + 1)
    means = [float(masses @ at) for _, masses in places]
    center = round(sum(n * mean for (n, _), mean in zip(places, means, strict=True)))
    spread = sum(n * (m @ at**2 - mean**2) for (n, m), mean in zip(places, means, strict=True))
    length, full = 4 * _STEPS, sum(n for n, _ in places) * _STEPS + 1
    while length < min(full, 20 * max(spread, 0.0) ** 0.5):
        length *= 2
    while length < 2 * full:
        beyond = (
            _chernoff(places, center - length // 2)[0],
            _chernoff(places, center + length // 2)[1],
        )
        if sum(beyond) < _ERROR:
            break
        length *= 2
    transform = np.ones(length // 2 + 1, dtype=np.complex128)
    for n, masses in places:
        transform *= np.fft.rfft(masses, length) ** n
    first = center - length // 2
    sums = np.roll(np.fft.irfft(transform, length), -(first % length))
    here = int(np.clip(total - first, 0, length - 1))
    return max(min(float(sums[: here + 1].sum()), float(sums[here:].sum())), 0.0) + _ERROR


def _chernoff(places: Sequence[tuple[int, FloatArray]], total: int) -> tuple[float, float]:
    """Bounds of the probabilities that the summed lattice places are at most, and at least, ``total``."""
    tilts, at = np.geomspace(1e-4, 2.0, 120), np.arange(_STEPS + 1)

    def bound(sign: float) -> float:
        exponent: FloatArray = -sign * tilts * total
        for n, masses in places:
            some = masses > 0
            moments = (
                np.exp(sign * tilts[:, None] * (at[some] - at[some].max() * (sign > 0)))
                @ masses[some]
            )
            exponent = exponent + n * (np.log(moments) + tilts * at[some].max() * (sign > 0))
        return float(np.exp(min(0.0, exponent.min())))

    return bound(-1.0), bound(1.0)


def top_counts(laws: Sequence[FloatArray], ranks: Sequence[IntArray]) -> tuple[int, float]:
    """How many counts were tested, and their p-value: each binomial given those before it, combined."""
    logs, bins = 0.0, 0
    for law, rank in zip(laws, ranks, strict=True):
        left, mass = len(rank), 1.0
        counts = np.bincount(rank, minlength=len(law))
        for i in range(min(_BINS, len(law))):
            if len(rank) * law[i] < _EXPECTED or left == 0 or mass - law[i] < 1e-9:
                break
            share, count = min(law[i] / mass, 1.0), int(counts[i])
            below = special.bdtr(count, left, share)
            above = special.bdtrc(count - 1, left, share) if count else 1.0
            logs += np.log(max(min(1.0, 2 * min(below, above)), 1e-300))
            left, mass, bins = left - count, mass - law[i], bins + 1
    return bins, float(special.chdtrc(2 * bins, -2 * logs)) if bins else 1.0


def never_drawn(laws: Sequence[FloatArray], ranks: Sequence[IntArray]) -> float:
    """p-value of what is less likely than every draw: that it was never drawn."""
    logs = 0.0
    for law, rank in zip(laws, ranks, strict=True):
        listed, drawn = law[:-1], law[rank.max()] * (1 - 1e-9)
        tail = 0.0 if rank.max() == len(listed) else float(listed[listed < drawn].sum() + law[-1])
        logs += len(rank) * np.log1p(-min(tail, 1 - 1e-12))
    return float(special.chdtrc(2 * len(laws), -2 * logs))
