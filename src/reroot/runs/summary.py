"""``summary.json``: every number of a comparison, computed from its tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from ..contract import Contract, Control, Oracle
from ..diagnosis.clusters import cluster_means
from ..diagnosis.intervals import best_of_n, count_band
from ..diagnosis.verdict import MOST_LOST, Arm, Verdict, decide
from ..types import CURRENCIES, FloatArray
from .macro import macro
from .numbers import judged, mean_and_interval, paired, pass_numbers
from .results import UNIT, Learner, RunData, accepted_failures

if TYPE_CHECKING:
    import polars as pl

_CHECKPOINTS = (1, 8, 64, 512, 4096)


def summary_of(run: RunData) -> dict[str, Any]:
    """The summary of a comparison: the same tables give the same one.

    Returns:
        JSON-able: ``cells`` (contract x learner x task x horizon), ``exact`` (measured against exact
        best-of-N), ``reach`` (what teacher forcing says per task and horizon), ``differences``
        (prefix learners against the best root learner, paired), ``verdicts``, ``made`` (attempts
        that have finished, and in all), ``macro`` (where there are several data sets), and the
        configuration they belong to.
    """
    config, means = run.config, macro(run)
    return {
        "kind": "compare",
        "model": config.get("model", ""),
        "version": config.get("version", ""),
        "command": config.get("command", ""),
        "tasks": list(run.tasks),
        "horizons": {task: run.horizons(task) for task in run.tasks},
        "grants": list(config.get("grants", [])),
        "budget": config.get("budget", {}),
        "seeds": config.get("seeds"),
        "problems": config.get("problems"),
        "beta": run.beta,
        "learners": [_learner(x) for x in run.learners],
        "verdicts": [v for task in run.tasks for v in _verdicts(run, task)],
        "cells": [row for cell in _cells(run) for row in _cell_rows(run, *cell)],
        "differences": [row for t, h in _places(run) for row in _differences(run, t, h)],
        "exact": [row for cell in _cells(run) for row in _exact_rows(run, *cell)],
        "reach": [reach(run, t, h) for t, h in _places(run)],
        "accepted_failures": accepted_failures(run),
        "made": list(run.made),
        **({} if means is None else {"macro": means}),
        **({"isolation": config["isolation"]} if "isolation" in config else {}),
        **run.usage,
    }


def _places(run: RunData) -> Iterator[tuple[str, int]]:
    return ((task, horizon) for task in run.tasks for horizon in run.horizons(task))


def _cells(run: RunData) -> Iterator[tuple[Learner, str, int]]:
    return ((x, t, h) for t, h in _places(run) for x in run.ran(t, h))


def _learner(learner: Learner) -> dict[str, Any]:
    uses = [str(o) for o in Oracle if o in learner.uses]
    return {**named(learner), "uses": uses, "sampling": str(learner.sampling)}


def named(learner: Learner) -> dict[str, Any]:
    """A learner's names, and what it needs."""
    return {
        "label": learner.label,
        "short": learner.short,
        "requires": str(learner.requires),
        "control": str(learner.control),
    }


def _cell_rows(run: RunData, learner: Learner, task: str, horizon: int) -> list[dict[str, Any]]:
    """One entry per contract that permits the learner; the numbers are the same in each."""
    rows = run.attempts(learner, task, horizon)
    place = f"{task}/{horizon}/{learner.label}/{learner.sampling}"
    numbers = {
        "learner": learner.label,
        "short": learner.short,
        "sampling": str(learner.sampling),
        "oracles_used": "+".join(str(o) for o in Oracle if o in learner.uses),
        "task": task,
        "horizon": horizon,
        **pass_numbers(rows),
        "errors": len(rows) - rows["error"].null_count(),
        "error": next(iter(rows["error"].drop_nulls()), None),
        "budget_stops": int((rows["stopped"] == "budget").sum()),
        "unfinished": int((~rows["complete"]).sum()),
        **_mean(rows, "reward", rows["reward"].to_numpy(), place),
        **_mean(rows, "j_beta", j_beta(rows, run.beta), place),
        "cost": _mean_cost(run, rows),
    }
    granted = set(run.places.filter(task=task, horizon=horizon)["contract"])
    return [
        {"contract": c, "control": str((k := Contract.parse(c)).control), "report": str(k.report)}
        | numbers
        for c in learner.contracts
        if c in granted
    ]


def j_beta(rows: pl.DataFrame, beta: float) -> FloatArray:
    """(attempts,) reward − β·surprisal, whose mean is at most J_β; nan without an output."""
    return rows["reward"].to_numpy() - beta * rows["surprisal"].to_numpy()


def _mean(rows: pl.DataFrame, name: str, values: FloatArray, place: str) -> dict[str, Any]:
    """Mean and bootstrap interval over the attempts where ``values`` is not nan."""
    kept = int((~np.isnan(values)).sum())
    mean, interval = mean_and_interval(values, rows, place, name)
    mean = "-inf" if mean is None and kept else mean
    return {name: mean, f"{name}_interval": interval, f"{name}_attempts": kept}


def _groups(run: RunData, task: str) -> list[tuple[frozenset[Oracle], list[str]]]:
    """Contracts of a task by the oracles they grant, the most oracles first."""
    here = run.places.filter(task=task)["contract"].unique(maintain_order=True)
    groups: dict[frozenset[Oracle], list[str]] = {}
    for contract in here.to_list():
        groups.setdefault(Contract.parse(contract).oracles, []).append(contract)

    def controls(contracts: Sequence[str]) -> bool:
        levels = {Contract.parse(c).control for c in contracts}
        return Control.ROOT in levels and len(levels) > 1

    return sorted(groups.items(), key=lambda g: (-controls(g[1]), -len(g[0]), str(g[1])))


def _verdicts(run: RunData, task: str) -> list[dict[str, Any]]:
    """Verdicts of every horizon, the largest first; ``main`` marks the one that speaks for the task."""
    found: list[dict[str, Any]] = []
    for horizon in reversed(run.horizons(task)):
        for oracles, contracts in _groups(run, task):
            verdict = _verdict(run, task, horizon, oracles, contracts)
            names = [str(o) for o in Oracle if o in oracles]
            found.append({**verdict.to_dict(), "oracles": names, "main": not found})
    return found


def _verdict(
    run: RunData, task: str, horizon: int, oracles: frozenset[Oracle], contracts: Sequence[str]
) -> Verdict:
    import polars as pl

    tables = dict[Learner, pl.DataFrame]()
    for learner in run.ran(task, horizon):
        if set(learner.contracts) & set(contracts):
            tables[learner] = run.attempts(learner, task, horizon).select(
                *(*UNIT, "passed", "complete", "abstained", "cluster"),
                failed=pl.col("error").is_not_null(),
            )
    asked = oracles & {Oracle.REWARD, Oracle.VERIFIER}
    known = exact_with_budget(run, task, horizon) if asked else None
    return decide(_arms(tables), task=task, horizon=horizon, exact_root=known)


def _arms(tables: Mapping[Learner, pl.DataFrame]) -> list[Arm]:
    """The learners on the attempts that all of them made, judged wherever a learner is not left out."""
    if not tables:
        return []
    abstained = {x: int(rows["abstained"].sum()) for x, rows in tables.items()}
    units = [
        (rows if abstained[x] > MOST_LOST * len(rows) else judged(rows)).select(UNIT)
        for x, rows in tables.items()
    ]
    shared = reduce(lambda some, more: some.join(more, on=UNIT, how="semi"), units).sort(UNIT)
    clusters = shared.join(next(iter(tables.values())), on=UNIT, maintain_order="left")[
        "cluster"
    ].to_list()
    arms: list[Arm] = []
    for learner, rows in tables.items():
        rows = shared.join(rows, on=UNIT, maintain_order="left")
        arms.append(
            Arm(
                learner.short,
                learner.control,
                rows["passed"].to_numpy().astype(bool),
                learner.uses,
                learner.greedy,
                unfinished=int((~rows["complete"]).sum()),
                errors=int(rows["failed"].sum()),
                abstained=abstained[learner],
                clusters=clusters,
            )
        )
    return arms


def log_reach(run: RunData, task: str, horizon: int) -> dict[tuple[int, str], float] | None:
    """(seed, problem) → exact log-probability of the one right output; ``None`` if not all have it."""
    rows = run.problem_rows(task, horizon)
    if not len(rows) or not rows["unique"].all() or rows["log_reach"].null_count():
        return None
    return dict(
        zip(
            zip(rows["seed"], rows["problem"], strict=True),
            np.minimum(rows["log_reach"].to_numpy(), 0.0).tolist(),
            strict=True,
        )
    )


def tokens_per_rollout(run: RunData, task: str, horizon: int) -> float | None:
    """Mean tokens of a root-start rollout at temperature 1, from the ledgers of root learners."""
    tokens = rollouts = 0
    for learner in run.learners:
        if learner.requires.control == Control.ROOT and learner.sampling.is_base:
            tokens += run.paid(learner, task, horizon, "tokens").total
            rollouts += run.paid(learner, task, horizon, "rollouts").total
    return tokens / rollouts if rollouts and tokens else None


def _mean_cost(run: RunData, rows: pl.DataFrame) -> dict[str, float]:
    """Currency → mean per attempt; US dollars too, where tokens have prices."""
    cost = {c: float(rows[f"cost_{c}"].to_numpy().mean()) for c in CURRENCIES}
    if prices := run.config.get("prices"):
        paid = prices["prompt"] * cost["prefill"] + prices["generated"] * cost["tokens"]
        cost["usd"] = paid / 1e6
    return cost


def exact_with_budget(run: RunData, task: str, horizon: int) -> float | None:
    """Mean over lines of 1 − (1 − p)^N, N the rollouts that the whole budget buys."""
    reached, length = log_reach(run, task, horizon), tokens_per_rollout(run, task, horizon)
    budget = run.config.get("budget", {})
    limits = [float(budget[c]) for c in ("rollouts", "rewards", "calls") if c in budget]
    limits += [budget["tokens"] / length] if "tokens" in budget and length else []
    if reached is None or length is None or not limits:
        return None
    solved = best_of_n(list(reached.values()), min(limits))
    return float(cluster_means(solved, run.problem_rows(task, horizon)["cluster"].to_list()).mean())


def _exact_rows(
    run: RunData, learner: Learner, task: str, horizon: int
) -> Iterator[dict[str, Any]]:
    """Measured successes of best-of-N and first-success beside their exact law.

    ``first_success`` is compared at fixed numbers of judged rollouts: its judge is asked one
    rollout at a time, so the number of judge calls is geometric whatever its batches.
    """
    reached = log_reach(run, task, horizon)
    if reached is None or not learner.sampling.is_base:
        return
    rows = judged(run.attempts(learner, task, horizon))
    rows = rows.filter(rows["error"].is_null())
    units = zip(rows["seed"], rows["problem"], strict=True)
    ps = np.array([reached.get(unit, np.nan) for unit in units])
    if not len(rows) or np.isnan(ps).any():
        return
    passed = rows["passed"].to_numpy().astype(bool)
    cases: list[
        tuple[np.ndarray, np.ndarray]
    ] = []  # (rollouts that were judged, whether it passed)
    if learner.name == "best_of_n":
        cases = [(rows["cost_rollouts"].to_numpy(), passed)]
    elif learner.name == "first_success":
        oracle = "verifications" if Oracle.VERIFIER in learner.uses else "rewards"
        asked = rows[f"cost_{oracle}"].to_numpy()
        cap = asked[~passed].min() if not passed.all() else asked.max()
        numbers = sorted({*(n for n in _CHECKPOINTS if n < cap), *([cap] * (not passed.all()))})
        cases = [(np.full(len(rows), int(n)), passed & (asked <= n)) for n in numbers]
    for drawn, solved in cases:
        exact = best_of_n(ps, drawn)
        low, high = count_band(exact)
        yield {
            "task": task,
            "horizon": horizon,
            "learner": learner.label,
            "short": learner.short,
            "rollouts": float(drawn.mean()),
            "attempts": len(exact),
            "passed": int(solved.sum()),
            "expected": float(exact.sum()),
            "band": [low, high],
            "inside": bool(low <= solved.sum() <= high),
        }


def reach(run: RunData, task: str, horizon: int) -> dict[str, Any]:
    """What teacher forcing along the demonstrations says: medians over problems, in nats.

    ``log_rollouts`` is −log p: that many root-start rollouts (as a logarithm) per right output;
    ``token_draws`` is Σ_t 1/P(a_t | a_<t): the draws needed with prefix control and a verifier that
    accepts the demonstrated token, one token at a time.
    """
    rows = run.problem_rows(task, horizon)
    lines = [np.array(line) for line in rows["demo_logprobs"].to_list() if line]
    known = log_reach(run, task, horizon)
    values = np.array(list(known.values())) if known else np.zeros(0)
    finite = len(values) > 0 and bool(np.isfinite(np.median(values)))
    draws = float(np.median([_token_draws(line) for line in lines])) if lines else math.inf
    return {
        "task": task,
        "horizon": horizon,
        "problems": len(rows),
        "unique": int(rows["unique"].sum()),
        "demonstrations": len(lines),
        "log_rollouts": -float(np.median(values)) if finite else None,
        "token_draws": draws if math.isfinite(draws) else None,
        "tokens": float(np.mean([len(line) for line in lines])) if lines else None,
        "tokens_per_rollout": tokens_per_rollout(run, task, horizon),
        "exact_with_budget": exact_with_budget(run, task, horizon),
    }


def _token_draws(line: FloatArray) -> float:
    with np.errstate(over="ignore"):
        return float(np.exp(-line).sum())


def _differences(run: RunData, task: str, horizon: int) -> Iterator[dict[str, Any]]:
    """Every learner that needs prefix control minus the best root learner, on the same attempts."""
    roots = [x for x in run.ran(task, horizon) if x.control == Control.ROOT]
    others = [x for x in run.ran(task, horizon) if x.control != Control.ROOT]
    if not roots or not others:
        return
    rates = {x: pass_numbers(run.attempts(x, task, horizon))["pass_rate"] for x in roots}
    best = max(roots, key=lambda x: rates[x] or 0.0)
    root = run.attempts(best, task, horizon)
    for learner in others:
        found = paired(run.attempts(learner, task, horizon), root, UNIT)
        if found.difference is None:
            continue
        pair = found.rows
        gap = (pair["reward"] - pair["reward_other"]).to_numpy()
        place = f"{task}/{horizon}/{learner.label}"
        mean, interval = mean_and_interval(gap, pair, place, "difference")
        yield {
            "task": task,
            "horizon": horizon,
            "learner": learner.short,
            "root": best.short,
            "attempts": len(pair),
            "wins": found.won,
            "losses": found.lost,
            "pass_difference": found.difference,
            "pass_interval": list(found.interval),
            "reward_difference": mean,
            "reward_interval": interval,
        }
