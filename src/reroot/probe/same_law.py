"""Whether a server's law is that of a reference model: token by token, or by samples.

**With ids and log-probabilities** nothing is left to chance: each stated log-probability is compared with that of the
reference at the same prefix, of tokens that either gives 10⁻⁵. What differs is named by its shape:

* **equal within rounding**: at most 0.005 nats anywhere;
* **a temperature**: stated against reference log-probabilities lie on a line, per prefix, of slope 1/T ≠ 1 (F-test);
* **renormalized**: all of a list are off by the same amount, as where a list sums to 1;
* **other template**: some prefixes agree within rounding and others do not, so it is their reading that differs;
* **quantized weights** or another precision: unstructured differences, with a median KL of at most 0.3 nats;
* **other weights**: anything else. A template that changes every prefix looks the same.

**By samples**, where there are no log-probabilities, a permutation test compares rows drawn at one prompt. It is
exact at any number of rows; with some hundred it sees differences of some tenths in probability, not quantization.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from ..checks import check_between
from ..errors import InvalidInput
from ..types import FloatArray, IntArray
from .drawn import Finding

_ROUNDING = 5e-3
"""Nats by which two computations of one law may differ, of tokens that are likely enough to matter."""
_MATTERS = 1e-5
"""Probability below which differences are not compared: they are of the size of rounding."""
_QUANTIZED = 0.3
"""KL in nats up to which unstructured differences are taken for those of coarser weights."""
_TEMPERED = 0.2
"""Share of the variance that a straight line may leave where a temperature explains differences."""
_DEPTH, _ENOUGH = 4, 25
"""Tokens of a row that samples are compared by; exceedances after which a permutation test stops."""


@dataclass(frozen=True, slots=True)
class _Compared:
    """One prefix: stated and reference log-probabilities (nats) of the same tokens."""

    stated: FloatArray
    reference: FloatArray

    @property
    def off(self) -> FloatArray:
        return self.stated - self.reference

    @property
    def kl(self) -> float:
        """Σ p log p/q of the listed tokens, and of all others as one outcome; nats."""
        p, q = np.exp(self.stated), np.exp(self.reference)
        listed = float(p @ self.off)
        rests = 1 - p.sum(), 1 - q.sum()
        return listed + (
            float(rests[0] * np.log(rests[0] / rests[1])) if min(rests) > 1e-6 else 0.0
        )


def same_law(
    stated: Sequence[tuple[IntArray, FloatArray]], reference: Sequence[FloatArray], level: float
) -> Finding:
    """Whether stated lists are those of reference laws, and if not, what kind of difference it is.

    Args:
        stated: per prefix the ids of the list and their log-probabilities, nats.
        reference: per prefix the log-probabilities of all K tokens, nats.
        level: error rate of the statement that differences follow a temperature.

    Returns:
        It holds where no likely token differs by more than rounding; ``p_value`` is then 1, else 0: nothing
        is drawn here.

    Raises:
        InvalidInput: no or unequal numbers of prefixes, or a token outside a reference law.
    """
    check_between("level", level, 0, 1)
    found = [_compared(*one, law) for one, law in _paired(stated, reference)]
    off = np.concatenate([np.abs(one.off) for one in found])
    kl = np.array([one.kl for one in found])
    worst = np.array([float(np.abs(one.off).max()) for one in found])
    holds = bool(worst.max() <= _ROUNDING)
    kind = "equal within rounding" if holds else _kind(found, kl, worst, level)
    said = (
        f"{kind}: {len(off):,} log-probabilities at {len(found)} prefixes differ by at most {off.max():.3g} nats, "
        f"{off.mean():.2g} in the mean; KL of the listed part {kl.mean():.2g} nats in the mean, at most {kl.max():.2g}"
    )
    return Finding("same law as the reference", holds, said, float(holds))


def _paired(
    stated: Sequence[tuple[IntArray, FloatArray]], reference: Sequence[FloatArray]
) -> list[tuple[tuple[IntArray, FloatArray], FloatArray]]:
    if not stated or len(stated) != len(reference):
        raise InvalidInput(
            f"one reference law per stated list is compared, got {len(reference)} for {len(stated)}"
        )
    return list(zip(stated, reference, strict=True))


def _compared(ids: IntArray, logs: FloatArray, law: FloatArray) -> _Compared:
    ids, logs = np.asarray(ids, dtype=np.int64), np.asarray(logs, dtype=np.float64)
    if len(ids) and not (ids.min() >= 0 and ids.max() < len(law)):
        raise InvalidInput(f"token {int(ids.max())} is outside a reference law of {len(law):,}")
    own = np.asarray(law, dtype=np.float64)[ids]
    matters = np.maximum(logs, own) > np.log(_MATTERS)
    if not matters.any():
        raise InvalidInput("a stated list has no token that is likely under either law")
    floor = np.log(_MATTERS) - 10  # −inf of a truncated law is as good as this
    return _Compared(np.maximum(logs[matters], floor), np.maximum(own[matters], floor))


def _kind(found: Sequence[_Compared], kl: FloatArray, worst: FloatArray, level: float) -> str:
    """The likely kind of a difference."""
    same = int((worst <= _ROUNDING).sum())
    line = _line(found, level)
    if line is not None:
        slope, left = line
        noise = f", beside differences of {left:.2g} nats" if left > _ROUNDING else ""
        return f"a temperature of {1 / slope:.3g}{noise}"
    constant = [float(one.off.std()) for one in found]
    if max(constant) <= _ROUNDING:
        return "renormalized: ratios are those of the reference, masses are not"
    if same:
        return f"other template: {same} prefixes agree within rounding and {len(found) - same} are read otherwise"
    if float(np.median(kl)) <= _QUANTIZED:
        return "quantized weights, or another precision"
    return "other weights, or another template"


def _line(found: Sequence[_Compared], level: float) -> tuple[float, float] | None:
    """Slope of stated on reference log-probabilities, and the deviation left; ``None``: it is 1, or no line fits.

    Each prefix has its own intercept, the normalizer at another temperature. F-test of slope 1.
    """
    x = np.concatenate([one.reference - one.reference.mean() for one in found])
    y = np.concatenate([one.stated - one.stated.mean() for one in found])
    free = len(x) - len(found) - 1
    if free < 3 or float(x @ x) < 1e-9:
        return None
    slope = float(x @ y / (x @ x))
    left, all_of_it = float(((y - slope * x) ** 2).sum()), float(((y - x) ** 2).sum())
    f = (all_of_it - left) / max(left / free, 1e-300)
    tempered = left <= _TEMPERED * all_of_it and special.fdtrc(1, free, f) < level
    return (slope, (left / free) ** 0.5) if tempered and slope > 0 else None


def two_samples(
    ours: Sequence[Sequence[int]], theirs: Sequence[Sequence[int]], level: float, seed: int = 0
) -> Finding:
    """Whether two sets of token rows come from one law: an exact permutation test.

    The statistic is χ²-like: over all beginnings of up to 4 tokens, and all tokens at each of 4 places, the squared
    difference of their shares in both sets over how often they occur at all. Permutations stop early once the p-value cannot be small
    (Besag & Clifford 1991), which leaves it exact.

    Args:
        ours: rows of tokens, drawn independently.
        theirs: rows at the same prompt, drawn by the other generator.
        level: error rate.
        seed: of the permutations.

    Raises:
        InvalidInput: a set has fewer than two rows.
    """
    check_between("level", level, 0, 1)
    if min(len(ours), len(theirs)) < 2:
        raise InvalidInput(f"two samples need two rows each, got {len(ours)} and {len(theirs)}")
    gram = _likeness([tuple(row) for row in (*ours, *theirs)])
    side = np.concatenate(
        [np.full(len(ours), 1 / len(ours)), np.full(len(theirs), -1 / len(theirs))]
    )
    seen = float(side @ gram @ side) * (1 - 1e-9)
    rng = np.random.default_rng((seed, len(ours), len(theirs)))
    most, made, beyond = int(np.ceil(10 / level)), 0, 0
    while made < most and beyond < _ENOUGH:
        block = np.array([rng.permutation(side) for _ in range(min(64, most - made))])
        exceed = np.cumsum(((block @ gram) * block).sum(axis=1) >= seen)
        stop = int(np.searchsorted(exceed, _ENOUGH - beyond))
        if stop < len(block):
            made, beyond = made + stop + 1, _ENOUGH
        else:
            made, beyond = made + len(block), beyond + int(exceed[-1])
    p = beyond / made if beyond == _ENOUGH else (beyond + 1) / (made + 1)
    said = f"{len(ours)} rows of ours and {len(theirs)} of theirs: permutation p = {p:.2g} ({made:,} permutations)"
    return Finding("same law as the reference, by samples", p > level, said, p)


def _likeness(rows: Sequence[tuple[int, ...]]) -> FloatArray:
    """(rows, rows) Σ over what two rows have in common of 1/how many rows have it."""
    gram = np.zeros((len(rows), len(rows)))
    beginnings = [[row[: t + 1] for row in rows] for t in range(_DEPTH)]
    places = [[row[t : t + 1] for row in rows] for t in range(1, _DEPTH)]
    for parts in beginnings + places:
        index = {part: i for i, part in enumerate(dict.fromkeys(parts))}
        code, counts = np.array([index[part] for part in parts]), Counter(parts)
        weight = np.array([1 / counts[part] for part in parts])
        gram += (code[:, None] == code[None, :]) * weight[:, None]
    return gram
