"""Zero-variance groups: how often all G rollouts of a group get the same reward, so that it teaches nothing.

Notation: problem i passes a rollout with probability p_i and passed c_i of n_i; G rollouts per group. A
group is silent with probability (1 − p_i)^G (all wrong) plus p_i^G (all right).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from ..checks import check_between, check_int
from ..errors import InvalidInput
from ..types import FloatArray
from .intervals import Interval, clopper_pearson


def signal_threshold(group: int) -> float:
    """τ = 1 − 2^(−1/G): at pass probability τ, and at 1 − τ, half of the groups of G are silent.

    Raises:
        InvalidInput: G < 1.
    """
    return float(-np.expm1(-np.log(2.0) / check_int("group", group, 1)))


@dataclass(frozen=True, slots=True)
class Share:
    """An expected share of groups.

    Attributes:
        mean: unbiased; ``nan`` where fewer rollouts than a group has determine none.
        interval: holds the expectation over problems like these.
    """

    mean: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class SilentGroups:
    """Shares of zero-variance groups at one group size.

    Attributes:
        group: G.
        wrong: all rollouts fail.
        right: all pass.
        total: either.
    """

    group: int
    wrong: Share
    right: Share
    total: Share


def silent_groups(
    passed: npt.ArrayLike,
    attempts: npt.ArrayLike,
    group: int,
    *,
    known: Mapping[int, float] | None = None,
    confidence: float = 0.95,
) -> SilentGroups:
    """Expected shares of zero-variance groups over problems, from c_i passes of n_i rollouts each.

    With at least G rollouts per problem the shares are means of C(n − c, G)/C(n, G) and C(c, G)/C(n, G), which
    are unbiased for (1 − p)^G and p^G, and the interval is Clopper-Pearson with their sum as a fractional
    count of problems: numbers in [0, 1] vary at most as much as indicators of the same mean. With n < G
    rollouts, q = E(1 − p)^n is estimated so, and q^(G/n) ≤ E(1 − p)^G ≤ q (Jensen; the powers fall with G).

    Args:
        passed: (N,) c_i.
        attempts: (N,) n_i ≥ 1, or one number.
        group: G.
        known: problem → p_i exactly, in place of its counts. Which problems are known must not depend on their
            counts: known rates of silent ones alone, in place of estimates that are too high just because they are
            silent, would pull the mean down.
        confidence: of each interval by itself.

    Raises:
        InvalidInput: no problems, not 0 ≤ c ≤ n, n < 1, G < 1, or ``known`` of no problem or out of [0, 1].
    """
    size = check_int("group", group, 1)
    check_between("confidence", confidence, 0.0, 1.0)
    c, n = check_counts(passed, attempts)
    subset = min(size, int(n.min()))
    wrong, right = _same(n - c, n, subset), _same(c, n, subset)
    for i, p in (known or {}).items():
        if not (0 <= i < len(c) and 0.0 <= p <= 1.0):
            raise InvalidInput(f"known must map problems 0 to {len(c) - 1} to rates, got {i}: {p}")
        wrong[i], right[i] = (1.0 - p) ** subset, p**subset
    if subset == 1:  # of one rollout all are alike
        total = (
            Share(1.0, Interval(1.0, 1.0)) if size == 1 else _either(wrong, right, size, confidence)
        )
    elif subset == size:
        total = _share(wrong + right, 1.0, confidence)
    else:
        total = _either(wrong, right, size / subset, confidence)
    power = size / subset
    return SilentGroups(
        size, _share(wrong, power, confidence), _share(right, power, confidence), total
    )


def _same(hits: FloatArray, n: FloatArray, size: int) -> FloatArray:
    """(N,) C(hits, size)/C(n, size)."""
    return special.binom(hits, size) / special.binom(n, size)


def _share(shares: FloatArray, power: float, confidence: float) -> Share:
    low, high = clopper_pearson(min(float(shares.sum()), len(shares)), len(shares), confidence)
    mean = float(shares.mean()) if power == 1.0 else float("nan")
    return Share(mean, Interval(low**power, high))


def _either(wrong: FloatArray, right: FloatArray, power: float, confidence: float) -> Share:
    """Both kinds together, half of the error probability on each."""
    half = (1.0 + confidence) / 2
    kinds = [_share(shares, power, half).interval for shares in (wrong, right)]
    return Share(
        float("nan"),
        Interval(sum(k.low for k in kinds), min(1.0, sum(k.high for k in kinds))),
    )


def check_counts(passed: npt.ArrayLike, attempts: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """(N,) passes and attempts of N ≥ 1 problems, or ``InvalidInput``."""
    c, n = np.broadcast_arrays(
        np.asarray(passed, dtype=np.float64), np.asarray(attempts, dtype=np.float64)
    )
    if c.ndim != 1 or not c.size or not ((c >= 0) & (c <= n) & (n >= 1)).all():
        raise InvalidInput(
            f"needs problems with 0 <= passed <= attempts and attempts >= 1, got {passed!r} of {attempts!r}"
        )
    if ((c % 1) != 0).any() or ((n % 1) != 0).any():
        raise InvalidInput(f"counts must be whole, got {passed!r} of {attempts!r}")
    return c, n
