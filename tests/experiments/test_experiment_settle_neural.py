"""The comparison on neural policies: each check can fail, the committed results bear it out."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiment_rows import markup_of
from reroot.experiments import get_experiment
from reroot.experiments.base import Row, where
from reroot.experiments.records import read_rows
from reroot.experiments.settle_neural.arms import ARMS, GROUPS, OUTCOME_ONLY, SIZE
from reroot.experiments.settle_neural.experiment import EXPERIMENT, P, median_tokens, transformed
from reroot.experiments.settle_neural.page_kl import missing
from reroot.experiments.settle_neural.rows import regularized

HORIZONS = (4, 8, 12, 16, 20, 32)


def row(arm: str, H: int, path: int, wait: int | None, tokens: int | None, spent: int) -> Row:
    base = P**H
    rollouts = spent // H
    end = [spent, rollouts, 0.95 if tokens else base]
    return {
        "task": "running_parity", "arm": arm, "H": H, "path": path, "budget": spent,
        "oracles": "outcome" if arm in OUTCOME_ONLY else "outcome and more", "strategy": ARMS[arm],
        "base": base, "tokens": tokens, "spent": spent, "rollouts": rollouts, "wait": wait,
        "building": spent // 10, "curve": [[0, 0, base], end], "groups": GROUPS, "size": SIZE,
        "rate": 1e-3, "target": 0.9, "seed": 0,
    }  # fmt: skip


def laid_out() -> list[Row]:
    """Rows as of a full run: geometric waits of the root, polynomial costs of the others."""
    rng = np.random.default_rng(1)
    rows: list[Row] = []
    for H in HORIZONS:
        for path in range(3):
            wait = int(rng.geometric(P**H)) if H < 32 else None
            cost = H * wait + 2000 * H if wait else None
            rows.append(row("root", H, path, wait, cost, cost or 10_000_000))
            for arm in ("argmax", "plurality", "adaback"):
                paid = 60 * H**2
                rows.append(row(arm, H, path, 3, paid, paid))
    return rows


def failing(rows: list[Row]) -> list[str]:
    return [check.name for check in EXPERIMENT.check(rows) if not check.holds]


def test_rows_that_follow_theory_pass_every_check() -> None:
    assert failing(laid_out()) == []
    assert len(EXPERIMENT.check(laid_out())) == 6


def spoil(change: Callable[[Row], Any], **at: object) -> list[Row]:
    rows = copy.deepcopy(laid_out())
    for each in where(rows, **at):
        change(each)
    return rows


@pytest.mark.parametrize(
    ("change", "at", "said"),
    [
        (lambda r: r.update(base=1.2 * r["base"]), {"H": 16}, "untrained policy"),
        (lambda r: r.update(wait=r["wait"] and 1), {"arm": "root"}, "geometric law"),
        (lambda r: r.update(wait=r["wait"] and 1 + int(r["wait"] * 1.2 ** r["H"])), {"arm": "root"}, r"log\(1/p\)"),
        (lambda r: r.update(tokens=10**6), {"arm": "argmax", "H": 20}, "outcome reward alone"),
        (lambda r: r.update(tokens=10**6), {"H": 20}, "best arm"),
        (lambda r: r.update(wait=5), {"arm": "root", "H": 32}, "20 times"),
        (lambda r: r.update(spent=10**5), {"arm": "root", "H": 32}, "20 times"),
    ],
)  # fmt: skip
def test_each_check_can_fail(change: Callable[[Row], Any], at: dict[str, Any], said: str) -> None:
    rows = spoil(change, **at)
    if at.get("arm") == "argmax":
        for each in where(rows, arm="plurality", H=20):
            change(each)
    names = failing(rows)
    import re

    assert any(re.search(said, name) for name in names), names


def test_censored_runs_are_counted_not_dropped() -> None:
    rows = laid_out()
    assert median_tokens(rows, "root", 32) is None
    half = where(rows, arm="root", H=20)
    half[0]["tokens"] = half[1]["tokens"] = None
    assert median_tokens(rows, "root", 20) is None
    scores = transformed(where(rows, arm="root"))
    assert len(scores) == 3 * len(HORIZONS)
    assert ((scores >= 0) & (scores <= 1)).all()
    late = [row("root", 8, 0, None, None, 8 * math.ceil(20 * P**-8))]
    assert transformed(late)[0] > 1 - 1e-6  # 20 mean waits without a reward are unlikely


def test_it_is_measured_only_where_it_is_named() -> None:
    from reroot.experiments.runner import command
    from reroot.experiments.suite import list_experiments, usual

    assert "settle-neural" in list_experiments()
    assert "settle-neural" not in usual()
    assert command(usual(), quick=False) == "reroot reproduce"


@pytest.mark.slow(1)
def test_the_page_shows_every_arm_and_what_was_not_reached() -> None:
    parts = markup_of(EXPERIMENT.show(laid_out()))
    for arm in ("root", "argmax", "plurality", "adaback (more oracles)"):
        assert arm in parts
    assert "not reached" in parts
    assert "none came" in parts


@pytest.mark.slow(20)
@pytest.mark.xdist_group("settle-neural")
def test_a_small_run_reaches_its_target(shared_cache: Path) -> None:
    pytest.importorskip("trl")
    quick = get_experiment("settle-neural")
    (number,) = [
        n
        for n in quick.quick
        if quick.settings[n]["arm"] == "argmax" and quick.settings[n]["H"] == 4
    ]
    (found,) = quick.measure(quick.setting(number))
    assert found["base"] == pytest.approx(P**4, rel=0.05)
    assert found["curve"][-1][2] >= 0.9
    assert 0 < found["building"] < found["tokens"] == found["spent"]
    assert found["wait"] >= 1


RECORD = Path(__file__).parents[2] / "docs" / "results" / "settle-neural.parquet"
WITHOUT_KL = 47


def recorded() -> list[Row]:
    """The rows of the full run, as committed."""
    return read_rows(RECORD)["settle-neural"]


def test_the_recorded_run_is_of_the_released_settings_and_bears_the_claim_out() -> None:
    rows = recorded()
    numbers = [row["seed"] for row in rows]
    assert numbers == sorted(set(numbers))
    for row in rows:
        setting = EXPERIMENT.setting(row["seed"])
        assert {name: row[name] for name in setting} == setting
    assert numbers[:WITHOUT_KL] == list(range(WITHOUT_KL))
    checks = EXPERIMENT.check(rows)
    assert len(checks) >= 6
    assert [c.name for c in checks if not c.holds] == []


@pytest.mark.slow(4)
def test_the_page_of_the_record_names_every_run_that_it_lacks() -> None:
    """A horizon of an arm is there with all its seeds, or the page says which are not."""
    rows = recorded()
    with_kl = regularized(rows)
    lacking = {
        n for n, s in enumerate(EXPERIMENT.settings) if "beta" in s
    } - {row["seed"] for row in with_kl}  # fmt: skip
    said = missing(with_kl)
    assert sum(text.count(",") + 1 for text in said) == len(lacking)
    for n in lacking:
        s = EXPERIMENT.settings[n]
        (line,) = [t for t in said if t.startswith(f"{s['arm']} at H = {s['H']} (")]
        assert str(s["path"]) in line
    page = markup_of(EXPERIMENT.show(rows))
    assert ("Not measured yet" in page) == bool(lacking)
    assert all(text in page for text in said) or not with_kl
