"""settle-neural with a KL term: each check can fail, and the page says what is equal and what is missing."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from experiment_rows import markup_of
from reroot.experiments.base import Row, where
from reroot.experiments.settle_neural.arms import ARMS, GROUPS, OUTCOME_ONLY, SIZE
from reroot.experiments.settle_neural.experiment import EXPERIMENT
from reroot.experiments.settle_neural.page_kl import falls_first, missing
from reroot.experiments.settle_neural.rows import P, plain, regularized
from reroot.experiments.settle_neural.settings import BALANCE, FIRST_SEED, SETTINGS
from reroot.limits import balancing_beta, optimal_value

RELEASED = [dict(s) for s in SETTINGS if "beta" in s]


def row(setting: dict[str, Any], wait: int | None, tokens: int | None) -> Row:
    H, beta, base = setting["H"], setting["beta"], P ** setting["H"]
    best = optimal_value(2, H, P, beta)
    spent = tokens or setting["budget"]
    root = setting["arm"] == "root"
    end = [spent, spent // H, best * 0.51, 0.6, (0.6 - best * 0.51) / beta, 0.01]
    return {
        **setting, "oracles": "outcome" if setting["arm"] in OUTCOME_ONLY else "outcome and more",
        "strategy": ARMS[setting["arm"]], "base": base, "tokens": tokens, "spent": spent,
        "rollouts": spent // H, "wait": wait, "building": spent // 10,
        "curve": [[0, 0, base, base, 0.0, 0.0], *([end] if tokens else [])], "groups": GROUPS,
        "size": SIZE, "rate": 1e-3, "target": best / 2, "best": best, "seed": 0,
        "starts": [0, 0 if root else H - 1], "roots": 16 if root else 2,
        "equal": {"model": "abc", "problems": f"{H}/{setting['path']}", "held_out": str(H), "seed": setting["path"],
                  "update": "SessionTrainer 12", "settings": {"learning_rate": 1e-3}, "roots": 2,
                  "kl": {"estimator": "k1_reward", "beta": beta}, "budget": setting["budget"],
                  "measured": {"every": 2}, "versions": {"trl": "1"}},
    }  # fmt: skip


def laid_out() -> list[Row]:
    """Rows as of a full run: geometric waits of the root, polynomial costs of the others."""
    rng = np.random.default_rng(1)
    rows: list[Row] = []
    for setting in RELEASED:
        H = setting["H"]
        wait: int | None = 3
        if setting["arm"] == "root":
            wait = int(rng.geometric(P**H))
            cost = H * wait + 2000 * H
            if H == 32:
                wait = cost = None
            elif cost > setting["budget"]:
                cost, wait = None, wait if H * wait <= setting["budget"] else None
        else:
            cost = 100 * H**2
        rows.append(row(dict(setting), wait, cost))
    return rows


def failing(rows: list[Row]) -> list[str]:
    return [check.name for check in EXPERIMENT.check(rows) if not check.holds]


def test_rows_that_follow_theory_pass_every_check() -> None:
    rows = laid_out()
    assert failing(rows) == []
    assert len(EXPERIMENT.check(rows)) == 9
    assert plain(rows) == []
    assert regularized(rows) == rows


def test_beta_is_a_share_of_the_balancing_one_and_seeds_are_new() -> None:
    for s in RELEASED:
        assert s["beta"] == pytest.approx(balancing_beta(s["H"], P) / BALANCE, abs=1e-9)
        best = optimal_value(2, s["H"], P, s["beta"])
        assert best == pytest.approx(1 - 1 / (2 * BALANCE), abs=0.01)
        assert s["path"] >= FIRST_SEED
    assert all(s["path"] < FIRST_SEED for s in SETTINGS if "beta" not in s)
    budgets = {(s["H"], s["budget"]) for s in RELEASED}
    assert len(budgets) == len({H for H, _ in budgets})  # the same in all arms
    for arm, H in {(s["arm"], s["H"]) for s in RELEASED}:
        assert len(where(RELEASED, arm=arm, H=H)) >= (6 if H <= 16 else 3)


def test_from_some_horizon_on_the_kl_costs_more_than_the_reward_brings_at_first() -> None:
    assert [H for H in range(2, 33) if falls_first(H)] == list(range(15, 33))


def _unequal(r: Row) -> None:
    r["equal"]["update"] += "3"


def _above(r: Row) -> None:
    r["curve"].append([r["spent"], 1, r["best"] + 0.01, 1.0, 0.1, 0.01])


@pytest.mark.parametrize(
    ("change", "at", "said"),
    [
        (lambda r: r.update(base=1.2 * r["base"]), {"H": 16}, "untrained policy"),
        (_unequal, {"arm": "argmax", "H": 8, "path": FIRST_SEED}, "recorded the same"),
        (lambda r: r["equal"].update(model="other"), {"H": 8}, "recorded the same"),
        (lambda r: r.update(roots=1), {"arm": "argmax", "H": 8}, "root rollouts"),
        (lambda r: r.update(starts=[0, 1]), {"arm": "root", "H": 4}, "root rollouts"),
        (_above, {"arm": "root", "H": 4}, "exact J"),
        (lambda r: r.update(wait=r["wait"] and 1), {"arm": "root"}, "geometric law"),
        (lambda r: r.update(wait=r["wait"] and 1 + int(r["wait"] * 1.3 ** r["H"])), {"arm": "root"}, r"log\(1/p\)"),
        (lambda r: r.update(tokens=None), {"H": 16}, "reach J"),
        (lambda r: r.update(tokens=100_000), {"arm": "root", "H": 20}, "at H = 20"),
        (lambda r: r.update(wait=5), {"arm": "root", "H": 32}, "sees no signal"),
        (lambda r: r.update(spent=10**5), {"arm": "root", "H": 32}, "sees no signal"),
    ],
)  # fmt: skip
def test_each_check_can_fail(change: Callable[[Row], Any], at: dict[str, Any], said: str) -> None:
    rows = copy.deepcopy(laid_out())
    for each in where(rows, **at):
        change(each)
    names = failing(rows)
    assert any(re.search(said, name) for name in names), names


@pytest.mark.slow(2)
def test_a_part_of_the_runs_is_shown_and_what_is_missing_is_named() -> None:
    rows = laid_out()
    assert missing(rows) == []
    parts = markup_of(EXPERIMENT.show(rows))
    assert "Not measured yet" not in parts
    assert "all equal" in parts
    assert "unequal" not in parts
    assert parts.count("<small>") >= 4  # slopes of two arms, with intervals over seeds
    single = markup_of(EXPERIMENT.show(where(rows, path=FIRST_SEED)))
    assert "<small>" not in single
    for arm in ("root", "argmax", "r3 (more oracles)"):
        assert arm in parts
    short = [r for r in rows if (r["arm"], r["H"]) != ("argmax", 32)][:60]
    assert "argmax at H = 32 (seeds 10, 11, 12)" in missing(short)
    assert "argmax at H = 32 (seeds 10, 11, 12)" in markup_of(EXPERIMENT.show(short))
    _unequal(where(rows, arm="argmax", H=8)[0])
    assert "<b>unequal</b>" in markup_of(EXPERIMENT.show(rows))


@pytest.mark.slow(4)
def test_a_recording_that_is_cut_anywhere_is_checked_and_shown() -> None:
    rows = laid_out()
    for count in (1, 2, 5, 14, 15, 40, 70):
        assert EXPERIMENT.check(rows[:count])
        assert EXPERIMENT.show(rows[:count])
