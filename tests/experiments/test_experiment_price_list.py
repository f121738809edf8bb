"""The price list: what its quick run finds, that each check can fail, and the sizes of users."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest

from experiment_rows import failing, markup_of, rows_of
from reroot.experiments import get_experiment
from reroot.experiments.base import Row, where
from reroot.experiments.price_list import STATED
from reroot.experiments.price_list_rows import collecting_price, user_rows

ID = "price-list"


@pytest.mark.slow(4)
def test_the_quick_price_list_bears_the_claim_out_and_shows_it() -> None:
    assert failing(ID, rows_of(ID)) == []
    page = markup_of(get_experiment(ID).show(rows_of(ID)))
    assert page.count("<table") == 5


@pytest.mark.slow(2)
def test_checks_of_the_price_list_can_fail() -> None:
    def spoiled(change: Callable[[Row], None], kind: str) -> list[str]:
        rows = copy.deepcopy(rows_of(ID))
        change(where(rows, kind=kind)[0])
        return failing(ID, rows)

    def one_more(row: Row) -> None:
        row["calls"] += 1

    def dearer(row: Row) -> None:
        row["price"] += 5 * row["se"]

    def other(row: Row) -> None:
        row["fit"] = 1e-9

    def off(row: Row) -> None:
        row["off"] = 0.01

    def half(row: Row) -> None:
        row["price"] /= 2

    def alike(row: Row) -> None:
        row["least_tv"] = 0.0

    for change, kind in (
        (one_more, "law"),
        (dearer, "draws"),
        (other, "draws"),
        (off, "pair"),
        (half, "user"),
        (alike, "matrix"),
    ):
        assert len(spoiled(change, kind)) == 1, kind


def test_prices_of_users_are_the_stated_ones() -> None:
    for K, stated in STATED.items():
        found = [row["price"] for row in user_rows({"K": K})]
        for one, known in zip(found, stated, strict=True):
            assert np.isnan(known) or one == pytest.approx(
                known, rel=0.05 if known > 1e6 else 0.011
            )
    exact = [row["price"] for row in user_rows({"K": 49_152})][:6:5]
    assert exact == [2587, 49_132]


def test_the_price_of_collecting_even_tokens() -> None:
    """K(H_K - 1), against the integral."""
    assert collecting_price(np.full(6, 1 / 6)) == pytest.approx(
        6 * (1 / 2 + 1 / 3 + 1 / 4 + 1 / 5 + 1 / 6)
    )
