"""What the rows of ``settle-neural`` say: medians, fits and waits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import chi2

from ...randomness import stream_key
from ...types import FloatArray
from ..base import Row, where
from ..fits import Growth, growth
from ..waits import horizons, scores

P = 0.6


NATS = -float(np.log(P))
"""log(1/p), nats per token: the rate that theory gives to the wait."""


MAIN = "running_parity"


def main_task(rows: Sequence[Row]) -> list[Row]:
    """The rows of running parity, which the checks and figures are of."""
    return where(rows, task=MAIN)


def plain(rows: Sequence[Row]) -> list[Row]:
    """The rows of runs without a KL term."""
    return [row for row in rows if row.get("beta") is None]


def regularized(rows: Sequence[Row]) -> list[Row]:
    """The rows of runs with a KL term."""
    return [row for row in rows if row.get("beta") is not None]


def median_tokens(rows: Sequence[Row], arm: str, H: int) -> float | None:
    """Median tokens to the target; ``None`` if fewer than half of the runs got there."""
    ended = [np.inf if r["tokens"] is None else r["tokens"] for r in where(rows, arm=arm, H=H)]
    middle = float(np.quantile(ended, 0.5, method="higher")) if ended else np.inf
    return middle if np.isfinite(middle) else None


def fitted(rows: Sequence[Row], arm: str) -> Growth | None:
    """Growth of the tokens to the target where every run got there; ``None`` below four horizons."""
    known = {H: [r["tokens"] for r in where(rows, arm=arm, H=H)] for H in horizons(rows, arm)}
    whole = {H: values for H, values in known.items() if None not in values}
    if len(whole) < 4:
        return None
    return growth(whole, stream_key(0, "settle-neural", arm))


def transformed(rows: Sequence[Row]) -> FloatArray:
    """(runs,) uniform if waits are geometric with the reach of the base policy."""
    return scores(rows, "settle-neural", lambda r: (r["rollouts"], r["base"]))


def rate_of_waits(root: Sequence[Row], level: float = 0.95) -> tuple[float, float, float]:
    """(b, low, high), nats per token: waits are geometric with parameter e^(−b·H).

    Maximum likelihood, and the values of b whose log-likelihood is within χ²₁(level)/2 of it. A run
    without a reward counts with the rollouts that it made.
    """
    H = np.array([r["H"] for r in root], dtype=np.float64)
    came = np.array([r["wait"] is not None for r in root])
    failures = np.array([r["rollouts"] if r["wait"] is None else r["wait"] - 1 for r in root])

    def loss(b: float) -> float:
        return float((b * H * came).sum() - (failures * np.log(-np.expm1(-b * H))).sum())

    best: Any = minimize_scalar(
        loss, bounds=(1e-3, 5.0), method="bounded", options={"xatol": 1e-10}
    )
    allowed = best.fun + chi2.ppf(level, 1) / 2
    low: Any = brentq(lambda b: loss(b) - allowed, 1e-3, best.x)
    high: Any = brentq(lambda b: loss(b) - allowed, best.x, 5.0)
    return float(best.x), float(low), float(high)
