"""Waits of training runs for their first reward: what both training experiments check and draw."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

from ..randomness import keyed_rng, stream_key
from ..types import FloatArray
from .base import Check, Row, where
from .fits import geometric_score
from .plots import Axes, Line, plot

ERROR = 1e-3
"""Probability that a statistical check of training runs fails though all is right."""

UNFITTED = "<p>Growth laws are fitted from four horizons on.</p>"


def horizons(rows: Sequence[Row], arm: str) -> list[int]:
    """The horizons at which an arm was run."""
    return sorted({r["H"] for r in where(rows, arm=arm)})


def median_wait(chance: float) -> float:
    """Rollouts to the first reward, each with that chance: where (1 − chance)^N = 1/2."""
    return math.log(0.5) / math.log1p(-chance)


def scores(
    rows: Sequence[Row], name: str, trials: Callable[[Row], tuple[int, float]]
) -> FloatArray:
    """(runs,) uniform if waits are geometric (``geometric_score``).

    Args:
        rows: of the experiment ``name``, each with its ``wait``.
        name: keys the random numbers.
        trials: row → rollouts of a run that ended without a reward, and the chance of each.
    """
    found: list[float] = []
    for row in rows:
        rng = keyed_rng(stream_key(row["path"], name, f"wait {row['H']}"))
        found.append(geometric_score(row["wait"], *trials(row), rng.random()))
    return np.array(found)


def check(uniform: FloatArray) -> Check:
    """Kolmogorov's test of all root runs together."""
    result = stats.kstest(uniform, "uniform")
    return Check(
        "root-start training waits for its first reward as long as the geometric law says",
        bool(result.pvalue > ERROR),
        f"Kolmogorov distance {result.statistic:.3f} over {len(uniform)} runs, p-value "
        f"{result.pvalue:.2f}; error rate {ERROR:g}",
    )


def figure(name: str, runs: str, rollouts: str, uniform: FloatArray) -> str:
    """Share of root runs still without a reward after x mean waits."""
    x = np.sort(-np.log1p(-uniform))
    left = 1 - np.arange(len(x)) / max(1, len(x))
    every = np.linspace(0, max(4.0, float(x.max(initial=0.0))), 50).tolist()
    lines = [
        Line.law("geometric with parameter p^H, exact", every, lambda t: np.exp(-t)),
        Line(runs, x.tolist(), left.tolist(), points=True),
    ]
    axes = Axes(f"{rollouts} / mean wait", "share without a reward yet", log_y=True)
    return plot(name, "How long root-start training waits for its first reward", axes, lines)
