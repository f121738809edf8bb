"""Calls: rollouts and queries limited together, for every learner and in comparisons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import reroot
from reroot import Budget, InvalidInput
from reroot.families import HiddenPath
from reroot.learners import get_learner
from reroot.runs.suite import SUITES

SPENDERS = ("best_of_n:n=1000", "self_consistency:n=1000", "soft_best_of_n:n=1000", "plurality_walk",
            "smc:particles=none", "power_sampling:moves=1000",
            "smc:particles=none,twist=rollouts,samples=2,stride=3")  # fmt: skip
"""Learners that go on until the budget ends."""


def attempt(spec: str, budget: Budget) -> reroot.Attempt:
    family = HiddenPath(4, 12, 0.5)
    learner = get_learner(spec)
    problem = family.problem()
    return reroot.run(learner, [problem], family, grants=learner.requires, budget=budget).attempts[
        0
    ]


@pytest.mark.parametrize("calls", [1, 2, 9, 40])
@pytest.mark.parametrize("spec", SUITES["sampling"].learners)
def test_no_learner_dies_or_overspends(spec: str, calls: int) -> None:
    if "hidden" in str(get_learner(spec).requires):
        pytest.skip("exact families have no hidden states")
    made = attempt(spec, Budget(calls=calls))
    assert made.error is None
    assert made.cost.calls <= calls


@pytest.mark.parametrize("spec", SPENDERS)
@pytest.mark.parametrize("budget", [Budget(calls=120), Budget(calls=120, tokens=10_000)])
def test_learners_that_are_bounded_by_calls_use_them_up(spec: str, budget: Budget) -> None:
    made = attempt(spec, budget)
    assert made.complete
    assert 0.7 * 120 < made.cost.calls <= 120, made.cost


def test_the_cost_of_a_particle_is_what_the_budget_must_hold() -> None:
    """A step of 3 tokens is one query: 4 per particle at H = 12, so 10 particles for 40 calls."""
    made = attempt("smc:particles=none,twist=none,stride=3", Budget(calls=40))
    assert made.cost.calls == 40


def compared(out: Path, **budgets: Any) -> reroot.Comparison:
    return reroot.compare(
        model="hidden_path:K=3,H=4,p=0.6",
        learners=["best_of_n:n=1000", "greedy_walk", "first_success"],
        seeds=1,
        problems=3,
        out=out,
        **budgets,
    )


def test_a_comparison_at_equal_calls(tmp_path: Path) -> None:
    result = compared(tmp_path / "run", budget_calls=31)
    rows = result.results.with_columns(calls=pl.col("cost_rollouts") + pl.col("cost_queries"))
    best = rows.filter(pl.col("learner").str.starts_with("best_of_n"))
    assert best["calls"].to_list() == [10] * len(best)
    assert rows["calls"].max() == 10
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["budget"] == {"calls": 10}
    assert "--budget-calls 31" in config["command"]
    assert "--budget-tokens" not in config["command"]
    assert result.summary["reach"][0]["exact_with_budget"] == pytest.approx(1 - (1 - 0.6**4) ** 10)


def test_both_budgets_bind(tmp_path: Path) -> None:
    result = compared(tmp_path / "run", budget_calls=30, budget_tokens=60)
    best = result.results.filter(pl.col("learner").str.starts_with("best_of_n"))
    assert set(best["cost_rollouts"]) == {5}  # 20 tokens each, 4 a rollout


@pytest.mark.parametrize(
    ("budgets", "message"),
    [
        ({"budget_calls": 0}, "budget_calls"),
        ({"budget_calls": 2}, "budget_calls=2 leaves no call for each of 3 problems"),
        ({"budget_calls": 1.5}, "budget_calls"),
    ],
)
def test_bad_budgets_are_named(tmp_path: Path, budgets: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        compared(tmp_path / "run", **budgets)
