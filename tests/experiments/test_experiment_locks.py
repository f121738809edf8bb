"""Fits of ``locks`` beside what is stated: their intervals, and the checks on made-up rows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from reroot.experiments.base import Row
from reroot.experiments.fits import beside, growth
from reroot.experiments.locks_contexts import separation_checks, separation_table
from reroot.randomness import stream_key


def test_the_interval_by_scatter_is_that_of_the_textbook() -> None:
    costs = {2: [3.0, 4.0], 3: [7.0], 5: [20.0, 35.0], 8: [90.0]}
    line = growth(costs, stream_key(0, "fit", "costs")).exponential
    x = [H for H, some in costs.items() for _ in some]
    known = stats.linregress(x, np.log(np.concatenate([*costs.values()])))
    away = known.stderr * stats.t.ppf(0.975, len(x) - 2)
    assert line.scattered() == pytest.approx((known.slope - away, known.slope + away))


def test_a_stated_exponent_outside_is_said_to_be() -> None:
    assert (
        beside(0.72, (0.44, 0.98), 1.0)
        == "0.72 (0.44 to 0.98), stated 1.00, 0.02 above the interval"
    )
    assert beside(1.0, (0.9, 1.1), 1.0) == "1.00 (0.90 to 1.10), stated 1.00"
    assert beside(1.3, (1.2, 1.4), 1.0).endswith("0.20 below the interval")


def rows_with(one: float) -> list[Row]:
    """Budgets of one context that grow by e^one a layer; the others' are the same at every H."""
    usual: Row = {"kind": "separation", "A": 3, "reached": True}
    found: list[Row] = []
    for name, rate in (("pce", 0.0), ("pcr", 0.0), ("one-context", one)):
        for H in (2, 3, 4, 5, 6):
            for wobble in (0.9, 1.1):
                budget = 20 * wobble * np.exp(rate * H)
                found.append(
                    usual | {"learner": name, "H": H, "budget": budget, "draws": budget * H**3}
                )
    return found


def test_the_separation_holds_where_budgets_grow_and_only_there() -> None:
    assert [c.holds for c in separation_checks(rows_with(1.0))] == [True] * 4
    assert [c.holds for c in separation_checks(rows_with(0.0))] == [True, True, False, False]
    assert [c.holds for c in separation_checks(rows_with(2.0))] == [True, True, True, False]
    assert len(separation_table(rows_with(1.0)).rows) == 6
    assert not list(separation_checks(rows_with(1.0)[:3]))
