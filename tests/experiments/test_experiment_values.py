"""Hidden path, KL gap and KL estimators: what the quick runs find, and that each check can fail."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest

from experiment_rows import failing, markup_of, rows_of
from reroot import limits
from reroot.experiments import get_experiment
from reroot.experiments.base import Check, Row, where
from reroot.experiments.kl_gap import _explicit_worth, _steered_worth


@pytest.mark.slow
@pytest.mark.parametrize("id", ["hidden-path", "kl-gap", "kl-estimators"])
def test_quick_run_bears_the_claim_out_and_shows_it(id: str) -> None:
    checks: list[Check] = get_experiment(id).check(rows_of(id))
    assert all(check.holds for check in checks), [c for c in checks if not c.holds]
    parts = get_experiment(id).show(rows_of(id))
    assert "<svg" in markup_of(parts) or id == "kl-estimators"
    assert "<table>" in markup_of(parts)


@pytest.mark.slow
@pytest.mark.parametrize("id", ["kl-gap", "kl-estimators"])
def test_measurements_depend_on_the_setting_alone(id: str) -> None:
    experiment = get_experiment(id)
    number = experiment.quick[-1]
    first = experiment.measure(experiment.setting(number))
    assert experiment.measure(experiment.setting(number)) == first


def spoil(rows: list[Row], change: Callable[[Row], None], **at: object) -> list[Row]:
    spoiled = copy.deepcopy(rows)
    for row in where(spoiled, **at):
        change(row)
    return spoiled


@pytest.mark.slow
def test_checks_of_the_hidden_path_can_fail() -> None:
    rows = rows_of("hidden-path")

    def all_passed(row: Row) -> None:
        row["passed"] = row["attempts"]

    def shallow(row: Row) -> None:
        row["log_half"] *= 0.9

    def lost(row: Row) -> None:
        row["passed"] = False

    def wasteful(row: Row) -> None:
        row["draws"] *= 3

    id = "hidden-path"
    assert failing(id, spoil(rows, all_passed, kind="session")) == [
        "S_root is the success of root_bayes through a session"
    ]
    assert "half success takes 1/p" in failing(id, spoil(rows, shallow, kind="law"))[0]
    assert "fail with probability at most" in failing(id, spoil(rows, lost, walk="chernoff"))[0]
    assert "at most 2.6 times" in failing(id, spoil(rows, wasteful, walk="posterior"))[0]


@pytest.mark.slow
def test_checks_of_the_kl_gap_can_fail() -> None:
    rows, id = rows_of("kl-gap"), "kl-gap"

    def late(row: Row) -> None:
        row["power"] += 1

    def better(row: Row) -> None:
        row["mean"] = row["limit"] + 5 * row["error"]

    def missed(row: Row) -> None:
        row["passed"] //= 2

    assert len(failing(id, spoil(rows, late, kind="exact"))) == 1
    (name,) = failing(id, spoil(rows, better, kind="root", policy="steered generator"))
    assert "no more" in name
    assert len(failing(id, spoil(rows, missed, kind="reset"))) >= 1


def test_checks_of_the_estimators_can_fail() -> None:
    rows, id = rows_of("kl-estimators"), "kl-estimators"

    def slip(row: Row) -> None:
        row["gradient_error"] = 1e-6

    def lift(row: Row) -> None:
        row["value_bias"] += 1e-6

    k1 = {"start": "root", "estimator": "k1"}
    assert len(failing(id, spoil(rows, slip, **k1, place="reward"))) == 1
    assert len(failing(id, spoil(rows, slip, **k1, place="loss"))) == 1
    assert len(failing(id, spoil(rows, lift, **k1, place="loss"))) == 1


@pytest.mark.parametrize(("K", "H", "p"), [(2, 4, 0.6), (3, 3, 0.5)])
def test_worth_of_root_policies_is_that_of_the_limits(K: int, H: int, p: float) -> None:
    """By enumeration in the experiment, in closed form in ``limits``."""
    beta = limits.balancing_beta(H, p)
    for depth in range(H):
        explicit = limits.root_value_at_depth(depth, K, H, p, beta)
        assert _explicit_worth(K, H, p, depth + 1, beta) == pytest.approx(explicit, abs=1e-12)
        steered = beta * math.log1p(p ** (depth + 1) * math.expm1(p ** (H - depth - 1) / beta))
        assert _steered_worth(K, H, p, depth + 1, beta) == pytest.approx(steered, abs=1e-12)
