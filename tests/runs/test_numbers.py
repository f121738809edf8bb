"""Means and differences of attempts: repeats of a line change nothing, to the bit."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from reroot.diagnosis import bootstrap_interval, paired_difference
from reroot.randomness import keyed_rng, stream_key
from reroot.runs.numbers import mean_and_interval, paired, pass_numbers


def table(
    passed: list[bool], clusters: list[str], abstained: list[int] | None = None
) -> pl.DataFrame:
    n = len(passed)
    return pl.DataFrame(
        {
            "seed": list(range(n)),
            "problem": [f"p{i}" for i in range(n)],
            "cluster": clusters,
            "passed": passed,
            "abstained": [i in (abstained or []) for i in range(n)],
        }
    )


ONCE = table([True, True, True, False, False, True], list("abcdef"))
OTHER = table([False, True, False, False, False, True], list("abcdef"))


def repeated(rows: pl.DataFrame) -> pl.DataFrame:
    """The first line three times, the others twice."""
    more = pl.concat([rows, rows, rows.head(1)])
    return more.with_columns(seed=pl.Series(range(len(more))))


def test_means_of_repeats_are_those_of_the_lines() -> None:
    values = np.array([0.5, 1.0, -2.0, 0.25, 3.0, 0.0])
    once = mean_and_interval(values, ONCE, "here", "reward")
    again = mean_and_interval(np.append(np.tile(values, 2), values[0]), repeated(ONCE), "here", "reward")  # fmt: skip
    assert once == again
    rng = keyed_rng(stream_key(0, "here", "bootstrap reward"))
    assert once == (values.mean(), list(bootstrap_interval(values, range(6), rng=rng)))


def test_differences_of_repeats_are_those_of_the_lines() -> None:
    once = paired(ONCE, OTHER, ("seed", "problem"))
    again = paired(repeated(ONCE), repeated(OTHER), ("seed", "problem"))
    low, high = paired_difference(2, 0, 6, alpha_low=0.025, alpha_high=0.025)
    assert once.interval == (float(low), float(high))
    assert (once.won, once.lost, once.difference) == (2, 0, 2 / 6)
    assert (again.won, again.lost) == (5, 0)
    assert again.difference == pytest.approx(2 / 6)
    assert again.interval == pytest.approx(once.interval)


def test_pairs_are_what_was_judged_of_both() -> None:
    mine = table([True] * 4, list("abcd"), [0])
    other = table([False] * 4, list("abcd"), [1])
    found = paired(mine, other, ("seed", "problem"))
    assert (found.won, len(found.rows), found.difference) == (2, 2, 1.0)
    nothing = paired(mine.head(1), other, ("seed", "problem"))
    assert nothing.difference is None
    assert nothing.interval == (-1.0, 1.0)


def test_a_rate_counts_each_line_once() -> None:
    """One line that passes in 4 of 4, one that fails: a half, of 5 attempts; its error is s/√2."""
    got = pass_numbers(table([True] * 4 + [False], list("aaaab")))
    assert (got["attempts"], got["clusters"], got["passed"], got["pass_rate"]) == (5, 2, 4, 0.5)
    assert got["pass_stderr"] == pytest.approx(0.5)
    assert got["abstained"] == 0
