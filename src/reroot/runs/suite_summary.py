"""``summary.json`` of a suite: every number of its page, and both rankings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from ..contract import Contract, Oracle
from ..diagnosis.clusters import cluster_means
from ..types import CURRENCIES, FloatArray
from .numbers import judged, mean_and_interval, paired, pass_numbers
from .results import UNIT, Learner, RunData, accepted_failures
from .summary import named

if TYPE_CHECKING:
    import polars as pl

BUDGETS = ("tokens", "calls")
_PAID_IN = {"tokens": ("tokens",), "calls": ("rollouts", "queries")}
_SAME = 1e-9  # rewards closer than this are equal: their means come from sums in some order


def suite_summary_of(config: Mapping[str, Any], parts: Mapping[str, RunData]) -> dict[str, Any]:
    """The summary of a suite, from its configuration and its three parts.

    Returns:
        JSON-able: ``groups`` (the tasks that have the same oracles: the methods that ran there, with
        their numbers at either budget, ranks, and how many methods each passes or is passed by
        from one budget to the other), ``methods`` (what each needed), ``speed`` (generated tokens
        and seconds of each part), ``rewards`` (method x task), ``made`` (attempts that have
        finished, and in all), and what they belong to. In every mean reward an attempt without an
        output, or whose output could not be judged, counts like the worst output of any method on
        its task, and not more than 0; one on which the judge abstained counts nowhere; a method none of whose attempts was judged has no mean.
    """
    runs = _counted({budget: parts[budget] for budget in BUDGETS})
    tasks = list(runs["tokens"].tasks)
    in_both = {x.label for x in runs["calls"].learners}
    methods = [x for x in runs["tokens"].learners if x.label in in_both]
    kept = ("suite", "about", "model", "version", "beta", "oracles", "unable")
    return {
        "kind": "suite",
        **{key: config[key] for key in kept},
        "tasks": tasks,
        "horizons": runs["tokens"].config["horizons"],
        "seeds": runs["tokens"].config["seeds"],
        "problems": runs["tokens"].config["problems"],
        "budgets": {b: run.config["budget"][b] for b, run in runs.items()},
        "methods": [named(x) for x in methods],
        "groups": [_group(runs, methods, group) for group in _grouped(config["oracles"], tasks)],
        "rewards": [_rewards(runs, x, tasks) for x in methods],
        "speed": {part: _speed(parts[part]) for part in (*BUDGETS, "rollouts")},
        "errors": sum(_errors(run) for run in runs.values()),
        "accepted_failures": {b: accepted_failures(run) for b, run in runs.items()},
        "made": [sum(counts) for counts in zip(*(run.made for run in parts.values()), strict=True)],
    }


def _counted(runs: Mapping[str, RunData]) -> dict[str, RunData]:
    """The runs with a column ``counted``: the reward, or the least on the task where there is none.

    An attempt that gave no output has reward 0 in its table, which could be more than an output has.
    """
    import polars as pl

    there = pl.col("tokens_out").is_not_null() & pl.col("reward").is_not_null()
    both = pl.concat([run.table.select("task", "reward", "tokens_out") for run in runs.values()])
    lowest = both.filter(there).group_by("task").agg(pl.col("reward").min()).collect().rows()
    floors = {task: min(0.0, reward) for task, reward in lowest}
    floor = pl.col("task").replace_strict(floors, default=0.0, return_dtype=pl.Float64)
    counted = pl.when(there).then("reward").otherwise(floor).alias("counted")
    return {
        budget: replace(
            run,
            table=run.table.with_columns(counted),
            cells={key: rows.with_columns(counted) for key, rows in run.cells.items()},
        )
        for budget, run in runs.items()
    }


def _grouped(oracles: Mapping[str, Sequence[str]], tasks: Sequence[str]) -> list[list[str]]:
    """Tasks with the same oracles, those with the most first."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for task in tasks:
        groups.setdefault(tuple(oracles[task]), []).append(task)
    return sorted(groups.values(), key=lambda g: -len(oracles[g[0]]))


def _attempts(run: RunData, learner: Learner, tasks: Sequence[str]) -> pl.DataFrame:
    """The attempts of a learner on some tasks, at all horizons, once each."""
    import polars as pl

    return pl.concat([run.attempts(learner, t, h) for t in tasks for h in run.horizons(t)])


def _group(
    runs: Mapping[str, RunData], methods: Sequence[Learner], tasks: Sequence[str]
) -> dict[str, Any]:
    tables = {
        budget: {x.label: rows for x in methods if len(rows := _attempts(run, x, tasks))}
        for budget, run in runs.items()
    }
    ran = [x for x in methods if all(x.label in table for table in tables.values())]
    rows = [
        {
            "short": x.short,
            "control": str(x.control),
            **{b: _numbers(tables[b][x.label], x, runs[b], b) for b in BUDGETS},
        }
        for x in ran
    ]
    for budget in BUDGETS:
        _rank(rows, budget)
    flips = _flips(ran, rows, tables)
    for row in rows:
        row["passes"] = [f["behind"] for f in flips if f["ahead"] == row["short"]]
        row["passed_by"] = [f["ahead"] for f in flips if f["behind"] == row["short"]]
    return {
        "tasks": list(tasks),
        "attempts": max((row["tokens"]["attempts"] for row in rows), default=0),
        "rows": rows,
        "pairs": math.comb(len(rows), 2),
        "flips": flips,
        "without": [x.short for x in methods if x not in ran],
    }


def _numbers(rows: pl.DataFrame, learner: Learner, run: RunData, budget: str) -> dict[str, Any]:
    cost = {c: float(rows[f"cost_{c}"].to_numpy().mean()) for c in CURRENCIES}
    kept = judged(rows)
    surprisal = kept["surprisal"].to_numpy()
    charged = np.where(kept["tokens_out"].is_null().to_numpy(), 0.0, surprisal)
    rewards, net = _counts(kept), _counts(kept) - run.beta * charged
    return {
        **pass_numbers(rows),
        **_mean("reward", rewards, kept, learner),
        **_mean("j_beta", net, kept, learner),
        **_mean("surprisal", surprisal, kept, learner),
        "cost": cost,
        "used": sum(cost[c] for c in _PAID_IN[budget]) / run.config["budget"][budget],
        "unfinished": int((~rows["complete"]).sum()),
        "errors": len(rows) - rows["error"].null_count(),
        "error": next(iter(rows["error"].drop_nulls()), None),
    }


def _counts(rows: pl.DataFrame) -> FloatArray:
    """(attempts,) rewards as they count in means; nan where not one attempt was judged."""
    counted = rows["counted"].to_numpy()
    return np.full(len(rows), np.nan) if rows["reward"].is_null().all() else counted


def _mean(name: str, values: FloatArray, rows: pl.DataFrame, learner: Learner) -> dict[str, Any]:
    """Mean and bootstrap interval over lines, where the values are finite; else neither."""
    place = f"suite/{'+'.join(rows['task'].unique(maintain_order=True))}/{learner.label}"
    mean, around = mean_and_interval(np.asarray(values, dtype=np.float64), rows, place, name)
    return {name: mean, f"{name}_interval": around}


def _rank(rows: Sequence[dict[str, Any]], budget: str) -> None:
    """Rank by mean reward; equal rewards share the better rank."""
    rewards = [_reward(row[budget]) for row in rows]
    for row, mine in zip(rows, rewards, strict=True):
        row[budget]["rank"] = 1 + sum(other > mine + _SAME for other in rewards)


def _reward(numbers: Mapping[str, Any]) -> float:
    return -math.inf if numbers["reward"] is None else numbers["reward"]


def _flips(
    methods: Sequence[Learner],
    rows: Sequence[Mapping[str, Any]],
    tables: Mapping[str, Mapping[str, pl.DataFrame]],
) -> list[dict[str, Any]]:
    """Pairs that change places: ``behind`` leads at equal tokens, ``ahead`` at equal calls."""
    found: list[dict[str, Any]] = []
    for (one, a), (two, b) in combinations(zip(methods, rows, strict=True), 2):
        gaps = [_gap(a[budget], b[budget]) for budget in BUDGETS]
        if min(map(abs, gaps)) <= _SAME or (gaps[0] > 0) == (gaps[1] > 0):
            continue
        behind, ahead = (one, two) if gaps[0] > 0 else (two, one)
        orders = {"tokens": (behind, ahead), "calls": (ahead, behind)}
        clear = all(
            _passes_more(*(tables[budget][x.label] for x in order))
            for budget, order in orders.items()
        )
        found.append({"ahead": ahead.short, "behind": behind.short, "clear": clear})
    return found


def _gap(one: Mapping[str, Any], two: Mapping[str, Any]) -> float:
    """What the first leads by in mean reward; 0 where neither has one."""
    a, b = _reward(one), _reward(two)
    return 0.0 if a == b else a - b


def _passes_more(rows: pl.DataFrame, others: pl.DataFrame) -> bool:
    """Whether the first passes more often, by an exact paired bound at 2.5 %."""
    return paired(rows, others, ("task", "horizon", *UNIT)).interval.low > 0


def _rewards(runs: Mapping[str, RunData], learner: Learner, tasks: Sequence[str]) -> dict[str, Any]:
    """Mean reward per task at either budget; ``None`` where it did not run."""
    means = {
        budget: [_task_mean(_attempts(run, learner, [task])) for task in tasks]
        for budget, run in runs.items()
    }
    return {"short": learner.short, "control": str(learner.control), **means}


def _task_mean(rows: pl.DataFrame) -> float | None:
    kept = judged(rows)
    means = cluster_means(_counts(kept), kept["cluster"].to_list())
    mean = float(means.mean()) if len(means) else math.nan
    return None if math.isnan(mean) else mean


def _speed(run: RunData) -> dict[str, Any]:
    """Generated tokens, seconds, and tokens per second of all processes that worked on a part."""
    tokens = sum(int(rows["cost_tokens"].sum()) for rows in run.cells.values())
    seconds = run.usage.get("seconds")
    rate = tokens / seconds if seconds else None
    return {"tokens": tokens, "seconds": seconds, "per_second": rate}


def _errors(run: RunData) -> int:
    return sum(len(rows) - rows["error"].null_count() for rows in run.cells.values())


def lacking(summary: Mapping[str, Any], group: Mapping[str, Any]) -> dict[str, list[str]]:
    """Oracle that the tasks of a group lack → the methods that need it."""
    have = set(summary["oracles"][group["tasks"][0]]) | {str(Oracle.HIDDEN)}
    found: dict[str, list[str]] = {}
    for method in summary["methods"]:
        if method["short"] in group["without"]:
            for oracle in Contract.parse(method["requires"]).oracles:
                if str(oracle) not in have:
                    found.setdefault(str(oracle), []).append(method["short"])
    return found
