"""Macro-averages: what a learner makes of several data sets, each of which counts the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..diagnosis.clusters import mean_of_means
from .numbers import judged, mean_and_interval, pass_numbers
from .results import Learner, RunData

if TYPE_CHECKING:
    import polars as pl


def macro(run: RunData) -> dict[str, Any] | None:
    """Unweighted means over the data sets of a comparison; ``None`` where there is one alone.

    A data set is a task, or a ``group`` of its problems where it mixes several, at all horizons.

    Returns:
        JSON-able: ``sets`` (their names) and ``rows``, one per contract and learner: ``pass_rate`` and
        ``reward``, each with an interval (``diagnosis.mean_of_means`` of those of the data sets), the
        rate of each data set, and ``missing``: the data sets without a judged attempt, because of
        which there is no mean.
    """
    import polars as pl

    parts = [
        (task, group)
        for task in run.tasks
        for group in run.table.filter(task=task)
        .select(pl.col("group").unique().sort())
        .collect()["group"]
    ]
    if len(parts) < 2:
        return None
    names = [f"{task}: {group}" if group else task for task, group in parts]
    rows = [row for x in run.learners for row in _rows(run, x, parts, names)]
    return {"sets": names, "rows": rows}


def _rows(
    run: RunData, learner: Learner, parts: Sequence[tuple[str, str]], names: Sequence[str]
) -> list[dict[str, Any]]:
    sets = [_numbers(run, learner, *part) for part in parts]
    missing = [name for name, one in zip(names, sets, strict=True) if one["pass_rate"] is None]
    numbers = {
        "learner": learner.label,
        "short": learner.short,
        "control": str(learner.control),
        "sampling": str(learner.sampling),
        "sets": {
            name: {"pass_rate": one["pass_rate"], "pass_interval": one["pass_interval"]}
            for name, one in zip(names, sets, strict=True)
        },
        "missing": missing,
        **_mean("pass", "pass_rate", sets),
        **_mean("reward", "reward", sets),
    }
    return [{"contract": contract, **numbers} for contract in learner.contracts]


def _numbers(run: RunData, learner: Learner, task: str, group: str) -> dict[str, Any]:
    """Rate and mean reward of a learner on one data set."""
    import polars as pl

    rows: pl.DataFrame = pl.concat([run.attempts(learner, task, h) for h in run.horizons(task)])
    rows = judged(rows.filter(rows["group"] == group))
    place = f"macro/{task}/{group}/{learner.label}/{learner.sampling}"
    reward, around = mean_and_interval(rows["reward"].to_numpy(), rows, place, "reward")
    return {**pass_numbers(rows), "reward": reward, "reward_interval": around}


def _mean(stem: str, name: str, sets: Sequence[dict[str, Any]]) -> dict[str, Any]:
    interval = f"{stem}_interval"
    if any(one[name] is None for one in sets):
        return {name: None, interval: None}
    means, ends = [one[name] for one in sets], [one[interval] for one in sets]
    if any(end is None for end in ends):  # one line alone
        return {name: sum(means) / len(means), interval: None}
    mean, around = mean_of_means(means, ends)
    return {name: mean, interval: list(around)}
