"""The training comparison: what its quick run finds, that each check can fail, and its fits."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import numpy as np
import pytest

import experiment_rows
from experiment_rows import markup_of
from reroot import InvalidInput, limits
from reroot.experiments import settle, settle_rows
from reroot.experiments.base import Row, where
from reroot.experiments.fits import growth
from reroot.experiments.settle import EXPERIMENT
from reroot.randomness import keyed_rng, stream_key


def failing(rows: list[Row]) -> list[str]:
    return experiment_rows.failing("settle", rows)


def rows_of() -> list[Row]:
    return experiment_rows.rows_of("settle")


def spoil(change: Callable[[Row], None], rows: list[Row] | None = None, **at: object) -> list[Row]:
    spoiled = rows_of() if rows is None else copy.deepcopy(rows)
    for row in where(spoiled, **at):
        change(row)
    return spoiled


def laid_out(root: float = math.log(2), prefix: float = 2.0) -> list[Row]:
    """Rows as of a full run, with waits and costs that follow given laws."""
    template, rng = rows_of(), keyed_rng(stream_key(0, "t", "settle"))
    rows: list[Row] = []
    for arm in ("root", "prefix"):
        for H in (4, 6, 8, 10, 12, 14):
            for path in range(20):
                row = copy.deepcopy(where(template, arm=arm)[0])
                wait = 1 + int(rng.exponential(math.exp(root * H)))
                paid = 100 * H**prefix * math.exp(rng.normal(scale=0.2))
                cost = 10 * H * (wait + 1) if arm == "root" else paid
                row |= {"H": H, "path": path, "wait": wait, "tokens": cost, "rollouts": wait}
                row["best"] = limits.optimal_value(4, H, 0.5, limits.balancing_beta(H, 0.5))
                own = 0.5**H
                row["curve"] = [
                    [0, 0, own],
                    [cost, wait, row["best"] / 2 if arm == "root" else own],
                ]
                rows.append(row)
    return rows


@pytest.mark.slow
def test_quick_run_bears_the_claim_out_and_shows_it() -> None:
    assert failing(rows_of()) == []
    page = markup_of(EXPERIMENT.show(rows_of()))
    assert page.count("<svg") >= 3
    assert page.count("<table>") == 3  # the growth laws need four horizons


@pytest.mark.slow
def test_rows_laid_out_as_theory_says_pass_and_show_both_laws() -> None:
    rows = laid_out()
    assert failing(rows) == []
    assert len(EXPERIMENT.check(rows)) == 8
    page = markup_of(EXPERIMENT.show(rows))
    assert page.count("<table>") == 4
    assert ">exponential<" in page
    assert ">polynomial<" in page


def test_measurements_depend_on_the_setting_alone() -> None:
    setting = EXPERIMENT.setting(EXPERIMENT.quick[0])
    assert EXPERIMENT.measure(setting) == EXPERIMENT.measure({**setting, "seed": 99})


def test_settings_pair_the_arms() -> None:
    """At every horizon of the root arm the prefix arm runs the same seeds with the same budget."""
    seeds: dict[str, dict[int, set[int]]] = {}
    for s in EXPERIMENT.settings:
        runs = range(s["offset"], s["offset"] + s["runs"])
        seeds.setdefault(s["arm"], {}).setdefault(s["H"], set()).update(runs)
    assert all(len(paths) >= 20 for arm in ("root", "prefix") for paths in seeds[arm].values())
    assert all(seeds["prefix"][H] == paths for H, paths in seeds["root"].items())
    assert all(settle.budget(H) >= 20 * 2**H * H for H in seeds["root"])


# ---- checks can fail ----------------------------------------------------------------------------


@pytest.mark.slow(1)
def test_censored_runs_are_told() -> None:
    def censor(row: Row) -> None:
        row["tokens"] = row["rollouts"] = None

    rows = spoil(censor, arm="root", H=8)
    assert failing(rows) == ["runs reach J*/2 within their budget (at most 1 in 50 does not)"]
    assert settle_rows.costs(rows, "root", "tokens").keys() == {4, 6}
    assert "not reached" in markup_of(EXPERIMENT.show(rows))


@pytest.mark.slow(1)
@pytest.mark.parametrize("factor", [0.2, 5.0])
def test_waits_off_the_law_fail(factor: float) -> None:
    def shift(row: Row) -> None:
        row["wait"] = max(1, round(row["wait"] * factor))

    (name, *_) = failing(spoil(shift, laid_out(), arm="root"))
    assert "geometric law" in name


@pytest.mark.slow(1)
def test_censored_waits_count_with_what_is_known_of_them() -> None:
    """Runs cut off at half their mean wait still give uniform transforms; error rate 1e-4."""
    from scipy.stats import kstest

    rows = laid_out()
    for row in where(rows, arm="root"):
        most = 2 ** (row["H"] - 1)
        if row["wait"] > most:
            row["wait"] = None
        row["curve"][-1][1] = most
    found = settle.transformed(where(rows, arm="root"))
    for u, row in zip(found.tolist(), where(rows, arm="root"), strict=True):
        left = 1 - 0.5 ** row["H"]
        wait = row["wait"] or math.inf
        assert 1 - left ** min(wait - 1, 2 ** (row["H"] - 1)) <= u <= 1 - left**wait
    assert sum(row["wait"] is None for row in rows) > 40
    assert kstest(found, "uniform").pvalue > 1e-4


@pytest.mark.slow(1)
@pytest.mark.parametrize("H", [4, 8])
def test_a_curve_above_the_limit_fails(H: int) -> None:
    def early(row: Row) -> None:
        row["curve"] = [[0, 0, row["best"]]]

    (name,) = failing(spoil(early, laid_out(), arm="root", H=H))
    assert "exceeds the exact limit" in name


def test_a_curve_at_the_limit_of_one_run_does_not_fail() -> None:
    """One early success in twenty is no excess: the interval is an interval."""
    rows = laid_out()
    row = where(rows, arm="root", H=8)[0]
    row["curve"] = [[0, 0, row["best"]]]
    assert failing(rows) == []


@pytest.mark.parametrize("name", ["config", "seed", "budget", "reward", "kl", "update", "prompt"])
def test_unequal_records_fail(name: str) -> None:
    def change(row: Row) -> None:
        row["equal"][name] = "another"

    (found,) = failing(spoil(change, arm="prefix", H=8))
    assert "recorded the same" in found


def test_records_without_a_pair_fail() -> None:
    (name,) = failing(where(rows_of(), arm="root"))
    assert "recorded the same" in name


@pytest.mark.parametrize(("arm", "part"), [("root", "reward"), ("root", "kl"), ("prefix", "kl")])
def test_rollouts_from_elsewhere_fail(arm: str, part: str) -> None:
    def move(row: Row) -> None:
        row["starts"][part] = [0, 3]

    (name,) = failing(spoil(move, arm=arm))
    assert "started at the empty prefix" in name


def test_the_other_growth_law_fails() -> None:
    rows = laid_out()
    for row in rows:  # both arms swap their costs
        H = row["H"]
        law = H**3 if row["arm"] == "root" else 2.0**H
        row["tokens"] = law * (1 + row["path"] / 20)
    names = failing(rows)
    assert any("root arm, in tokens" in name for name in names)
    assert any("prefix arm, in tokens" in name for name in names)


def test_another_slope_fails() -> None:
    names = failing(laid_out(root=0.45))
    assert any("log(1/p) nats per token" in name for name in names)


# ---- what the rows say --------------------------------------------------------------------------


def test_arms_share_their_records_and_the_root_arm_its_limit() -> None:
    rows = rows_of()
    shared = [arms for arms in settle.records(rows).values() if len(arms) > 1]
    assert len(shared) == 10
    assert all(len({*arms.values()}) == 1 for arms in shared)
    assert {r["contract"] for r in where(rows, arm="root")} != {
        r["contract"] for r in where(rows, arm="prefix")
    }
    for row in where(rows, arm="root"):
        before = [value for _, rollouts, value in row["curve"] if rollouts < row["wait"]]
        assert set(before) == {row["curve"][0][2]}
        assert row["tokens"] == settle.per_rollout(row["H"]) * row["rollouts"]


def test_values_hold_between_the_points_of_a_curve() -> None:
    rows: list[Row] = [{"curve": [[0, 0, 0.1], [40, 4, 0.2], [90, 8, 0.5]]}]
    assert settle.values(rows, [0, 39, 40, 89, 90, 500], 0).tolist() == [
        [0.1, 0.1, 0.2, 0.2, 0.5, 0.5]
    ]
    assert settle.values(rows, [3, 4, 8], 1).tolist() == [[0.1, 0.2, 0.5]]


# ---- fits ----------------------------------------------------------------------------------------

KEY = stream_key(1, "t", "fits")


def noisy(law: Callable[[float], float], scale: float, seed: int = 0) -> dict[int, list[float]]:
    rng = keyed_rng(stream_key(seed, "t", "noise"))
    return {
        H: [law(H) * math.exp(e) for e in rng.normal(scale=scale, size=20)]
        for H in (4, 6, 8, 10, 12, 16)
    }


def test_fits_recover_exact_laws() -> None:
    found = growth(noisy(lambda H: 3 * math.exp(0.7 * H), 0.0), KEY)
    line = found.exponential
    assert (line.slope, line.intercept) == pytest.approx((0.7, math.log(3)))
    assert (line.low, line.high) == pytest.approx((0.7, 0.7))
    assert found.preferred == "exponential"
    assert line.at(5) == pytest.approx(3 * math.exp(3.5))
    found = growth(noisy(lambda H: 3 * H**2.5, 0.0), KEY)
    assert found.polynomial.slope == pytest.approx(2.5)
    assert found.preferred == "polynomial"


def test_fits_are_those_of_least_squares() -> None:
    costs = noisy(lambda H: math.exp(0.3 * H), 0.5)
    costs[8] = costs[8][:7]
    x = np.concatenate([[H] * len(y) for H, y in costs.items()]).astype(float)
    y = np.log(np.concatenate(list(costs.values())))
    for line, at in (
        (growth(costs, KEY).exponential, x),
        (growth(costs, KEY).polynomial, np.log(x)),
    ):
        slope, intercept = np.polyfit(at, y, 1)
        assert (line.slope, line.intercept) == pytest.approx((slope, intercept))
        rss = ((y - intercept - slope * at) ** 2).sum()
        n = len(y)
        assert line.residual == pytest.approx(math.sqrt(rss / n))
        assert line.aic == pytest.approx(n * math.log(rss / n) + 6)
        assert line.bic == pytest.approx(n * math.log(rss / n) + 3 * math.log(n))


@pytest.mark.slow(1)
def test_intervals_cover_at_their_level() -> None:
    """200 draws of a known law: misses within the binomial of error rate 1e-4 (bootstrap: a little
    more than 5 %)."""
    from scipy.stats import binom

    missed = 0
    for seed in range(200):
        line = growth(noisy(lambda H: math.exp(0.7 * H), 1.2, seed), KEY).exponential
        missed += not line.low <= 0.7 <= line.high
    assert binom.ppf(1e-4, 200, 0.05) <= missed <= binom.ppf(1 - 1e-4, 200, 0.065)


@pytest.mark.parametrize("costs", [{4: [1.0]}, {4: [1.0], 6: []}, {4: [1.0], 6: [0.0]}])
def test_what_cannot_be_fitted_is_refused(costs: dict[int, list[float]]) -> None:
    with np.errstate(divide="ignore"), pytest.raises(InvalidInput):
        growth(costs, KEY)
