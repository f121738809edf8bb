"""Rates, means and differences of attempts, each with its interval: what summaries are made of.

Attempts on one line are a cluster and count once (``diagnosis.clusters``). Attempts on which the
judge abstained are in no rate, mean or difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..diagnosis.clusters import bounded_interval, cluster_means, cluster_weights, standard_error
from ..diagnosis.intervals import Interval, bootstrap_interval, paired_difference
from ..randomness import keyed_rng, stream_key
from ..types import FloatArray

if TYPE_CHECKING:
    import polars as pl


class Paired(NamedTuple):
    """Two learners on the same attempts.

    Attributes:
        rows: the attempts that both made and that were judged, ``…_other`` of the second.
        won, lost: how many only the first passed, and only the second.
        difference: of the pass rates, each line once; ``None`` without attempts.
        interval: exact 95 % bounds of it, wrong at either side with at most 2.5 %; each of k attempts on
            a line counts as 1/k of a win or loss, as in verdicts.
    """

    rows: pl.DataFrame
    won: int
    lost: int
    difference: float | None
    interval: Interval


def judged(rows: pl.DataFrame) -> pl.DataFrame:
    """The attempts on which the judge did not abstain."""
    return rows.filter(~rows["abstained"])


def pass_numbers(rows: pl.DataFrame) -> dict[str, Any]:
    """How many attempts passed, on how many lines, and the rate: of what was judged, if anything was.

    ``pass_stderr`` is s/√C of the C shares of lines, ``None`` of fewer than two lines.
    """
    kept = judged(rows)
    shares = cluster_means(kept["passed"].to_numpy(), kept["cluster"].to_list())
    return {
        "attempts": len(rows),
        "abstained": len(rows) - len(kept),
        "clusters": len(shares),
        "passed": int(kept["passed"].sum()),
        "pass_rate": float(shares.mean()) if len(shares) else None,
        "pass_stderr": standard_error(shares),
        "pass_interval": list(bounded_interval(shares)),
    }


def mean_and_interval(
    values: FloatArray, rows: pl.DataFrame, place: str, name: str
) -> tuple[float | None, list[float] | None]:
    """Mean and bootstrap interval over lines of what is not nan; neither unless all of it is finite."""
    defined = ~np.isnan(values)
    kept = values[defined]
    if not len(kept) or not np.isfinite(kept).all():
        return None, None
    means = cluster_means(kept, rows["cluster"].filter(defined).to_list())
    rng = keyed_rng(stream_key(0, place, f"bootstrap {name}"))
    around = bootstrap_interval(means, range(len(means)), rng=rng)
    return float(means.mean()), None if math.isnan(around.low) else list(around)


def paired(rows: pl.DataFrame, others: pl.DataFrame, on: Sequence[str]) -> Paired:
    """The first learner against the second, attempt by attempt."""
    pair = judged(rows).join(judged(others), on=on, suffix="_other")
    mine, other = pair["passed"].to_numpy(), pair["passed_other"].to_numpy()
    won, lost = mine & ~other, ~mine & other
    weights, lines = cluster_weights(pair["cluster"].to_list()), pair["cluster"].n_unique()
    wins, losses = float(weights[won].sum()), float(weights[lost].sum())
    low, high = paired_difference(wins, losses, lines, alpha_low=0.025, alpha_high=0.025)
    difference = (wins - losses) / lines if lines else None
    return Paired(
        pair, int(won.sum()), int(lost.sum()), difference, Interval(float(low), float(high))
    )
