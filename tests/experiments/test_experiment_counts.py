"""Checks of counts are as strong as they say, and settings are what their names and order say."""

from __future__ import annotations

import pytest
from scipy import stats

from reroot.experiments.counts import ERROR, banded, rarely
from reroot.experiments.measuring import by_kind, setting_of


def test_a_rate_is_refuted_from_the_count_on_that_it_reaches_with_the_stated_error() -> None:
    most = int(stats.binom.isf(ERROR, 200, 0.05))
    assert rarely("rate", most, 200, 0.05, "missed").holds
    assert not rarely("rate", most + 1, 200, 0.05, "missed").holds
    assert stats.binom.sf(most, 200, 0.05) <= ERROR < stats.binom.sf(most - 1, 200, 0.05)
    assert not rarely("rate", 0, 200, 0.05, "missed", sound=False).holds
    detail = rarely("rate", 3, 1200, 0.05, "runs missed").detail
    assert detail.startswith("3 of 1,200 runs missed, interval 0.001 to 0.007; at most 0.05")


def row(passed: int) -> dict[str, float]:
    return {"passed": passed, "attempts": 100, "exact": 0.3}


@pytest.mark.parametrize("rows", [1, 8])
def test_bands_share_the_error_among_the_rows(rows: int) -> None:
    low = int(stats.binom.ppf(ERROR / rows / 2, 100, 0.3))
    high = int(stats.binom.isf(ERROR / rows / 2, 100, 0.3))
    for passed, holds in ((low, True), (high, True), (low - 1, False), (high + 1, False)):
        (check,) = banded("band", [row(30)] * (rows - 1) + [row(passed)])
        assert check.holds is holds
        assert check.detail.startswith(f"{rows - (not holds)} of {rows} settings in their bands")
    assert f"largest difference {abs(high + 1 - 30) / 100:.4f}" in check.detail
    assert banded("band", []) == []


def test_settings_say_their_kind_first_and_every_name() -> None:
    made = setting_of("walk", "K H", first=0, end=())
    assert list(made(4, 8).items()) == [
        ("kind", "walk"),
        ("K", 4),
        ("H", 8),
        ("first", 0),
        ("end", ()),
    ]
    assert made(4, 8, 2) == made(4, 8, first=2) == made(4, H=8, first=2)
    with pytest.raises(TypeError):
        made(4)
    with pytest.raises(TypeError):
        made(4, 8, 0, (), "more")
    with pytest.raises(TypeError):
        made(4, 8, last=1)


def test_what_measures_a_setting_is_chosen_by_its_kind() -> None:
    measure = by_kind(a=lambda s: [{"x": s["x"]}], b=lambda s: [])
    assert measure({"kind": "a", "x": 1}) == [{"x": 1}]
    assert measure({"kind": "b"}) == []
