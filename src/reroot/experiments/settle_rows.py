"""What the rows of ``settle`` say: settings that shape them, costs, curves and fits."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence

import numpy as np

from .. import limits
from ..randomness import stream_key
from ..training import Rule
from ..types import FloatArray
from .base import Row, where
from .fits import growth
from .waits import horizons, scores

K, P = 4, 0.5


NATS = -math.log(P)
"""log(1/p), the slope that theory gives."""


LEAST = 8
"""From this horizon on the mean wait of the root arm is several batches."""


def rule(H: int) -> Rule:
    """The hyper-parameters, the same in all arms: they depend on H through β alone."""
    return Rule(limits.balancing_beta(H, P), groups=4, size=16, kl_batch=16, rate=128.0, most=1.0)


def per_rollout(H: int) -> float:
    """Generated tokens of the root arm for each rewarded rollout, its share of the KL batch too."""
    r = rule(H)
    return H * (1 + r.kl_batch / (r.groups * r.size))


def costs(rows: Sequence[Row], arm: str, what: str, least: int = 0) -> dict[int, list[float]]:
    """H → N½ of each run; horizons with a run that its budget ended are left out."""
    found: dict[int, list[float]] = {}
    for H in horizons(rows, arm):
        values = [r[what] for r in where(rows, arm=arm, H=H)]
        if least <= H and None not in values:
            found[H] = values
    return found


def fitted(rows: Sequence[Row], arm: str, what: str, least: int = 0, level: float = 0.95):
    """Both growth laws of an arm's N½, or ``None`` with fewer than four horizons."""
    known = costs(rows, arm, what, least)
    if len(known) < 4:
        return None
    return growth(known, stream_key(0, "settle", f"{arm} {what} {least}"), level)


def values(rows: Sequence[Row], budgets: Sequence[float], column: int) -> FloatArray:
    """(runs, budgets) J of each run at budgets in tokens (column 0) or rewarded rollouts (1).

    A run that has reached its target keeps its policy.
    """
    found = np.empty((len(rows), len(budgets)))
    for i, row in enumerate(rows):
        curve = np.array(row["curve"])
        at = np.searchsorted(curve[:, column], budgets, side="right") - 1
        found[i] = curve[at, 2]
    return found


def transformed(rows: Sequence[Row]) -> FloatArray:
    """(runs,) F(wait − 1) + V·Pr(wait), V uniform: uniform if waits are geometric with p^H.

    A run that ended without success after N rollouts counts with F(N) + V·(1 − F(N)).
    """
    return scores(rows, "settle", lambda r: (r["curve"][-1][1], P ** r["H"]))


def rewarded(H: int) -> list[int]:
    """Budgets in rewarded rollouts: powers of 2 up to 8 mean waits."""
    return [1 << j for j in range(math.ceil(math.log2(8 * P**-H)) + 1)]


def records(rows: Sequence[Row]) -> dict[tuple[int, int], dict[str, str]]:
    """(H, path) → arm → digest of what the run recorded as equal."""
    found: dict[tuple[int, int], dict[str, str]] = {}
    for row in rows:
        text = json.dumps(row["equal"], sort_keys=True).encode()
        digest = hashlib.blake2b(text, digest_size=6).hexdigest()
        found.setdefault((row["H"], row["path"]), {})[row["arm"]] = digest
    return found
