"""Several comparisons: what pairs, how often the intervals hold, and what is said of settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import reroot
from reroot import InvalidInput
from reroot.diagnosis.clusters import difference_of_independent, pass_interval
from reroot.runs.across import (
    across_of,
    load_across,
    names_of,
    parts_that_differ,
    settings_that_differ,
)
from reroot.runs.numbers import paired
from reroot.runs.results import UNIT

SMALL: dict[str, Any] = {
    "learners": ["best_of_n:n=2", "beam_search:width=2"],
    "grants": ["root/sample", "chosen/full"],
    "budget_tokens": 600,
    "seeds": 2,
    "problems": 4,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two models on the same problems; and a run on a task of another name."""
    at = tmp_path_factory.mktemp("runs")
    models = {
        "a/run": "hidden_path:K=3,H=3,p=0.6",
        "b/run": "hidden_path:K=3,H=3,p=0.9",
        "c": "hidden_path:K=3,H=4,p=0.9",
    }
    for name, model in models.items():
        reroot.compare(model=model, out=at / name, **SMALL)
    return [at / name for name in models]


@pytest.mark.slow(2)
def test_equal_problems_are_paired_and_the_difference_is_that_of_the_attempts(
    folders: list[Path],
) -> None:
    across = load_across(folders[:2])
    found = across_of(across)
    assert across.names == ("a/run", "b/run")
    rows = {row["learner"]: row for row in found["differences"]}
    assert set(rows) == {"best_of_n(n=2)", "beam_search(width=2)"}
    tables = [pl.read_parquet(folder / "results.parquet") for folder in folders[:2]]
    for learner, row in rows.items():
        a, b = (t.filter(pl.col("learner") == learner).unique(UNIT).sort(UNIT) for t in tables)
        assert row["paired"]
        assert row["pairs"] == 8
        assert row["unpaired"] == [0, 0]
        assert row["wins"] == int((b["passed"] & ~a["passed"]).sum())
        expected = (b["passed"].cast(pl.Int64) - a["passed"].cast(pl.Int64)).mean()
        assert row["pass_difference"] == pytest.approx(expected)
        low, high = row["pass_interval"]
        assert low <= row["pass_difference"] <= high
    assert settings_that_differ(across)["model"][1].endswith("p=0.9")
    assert json.loads(json.dumps(found)) == found


@pytest.mark.slow(1)
def test_a_problem_with_the_same_id_and_another_prompt_is_not_paired(
    folders: list[Path], tmp_path: Path
) -> None:
    """Half the prompts changed: half the attempts pair; all of them: the runs are independent."""
    for changed, pairs in ((2, 4), (4, 0)):
        other = tmp_path / f"changed{changed}"
        other.mkdir()
        for file in folders[1].iterdir():
            if file.is_file():
                (other / file.name).write_bytes(file.read_bytes())
        problems = pl.read_parquet(folders[1] / "problems.parquet")
        index = pl.int_range(pl.len()).over("seed")
        told = pl.when(index < changed).then(pl.lit("another")).otherwise(pl.col("prompt"))
        problems.with_columns(prompt=told).write_parquet(other / "problems.parquet")
        config = json.loads((other / "config.json").read_text())
        config |= {"digest": "0" * 16, "version": "0.0.0"}
        (other / "config.json").write_text(json.dumps(config))
        found = across_of(load_across([folders[0], other]))
        row = found["differences"][0]
        assert row["pairs"] == pairs
        assert row["paired"] == (pairs > 0)
        assert row["unpaired"] == [8 - pairs, 8 - pairs]
        assert any("different versions" in line for line in found["warnings"])
        assert any("digests differ" in line for line in found["warnings"])


@pytest.mark.slow(1)
def test_places_that_only_one_has_are_in_no_difference(folders: list[Path]) -> None:
    found = across_of(load_across([folders[0], folders[2]]))
    assert found["differences"] == []
    assert {cell["horizon"] for cell in found["cells"]} == {3, 4}


def test_names_are_the_shortest_ends_that_differ() -> None:
    paths = [Path(p) for p in ("/r/a/x", "/r/b/x", "/r/b/y", "/r/b/xx")]
    assert names_of(paths) == ("a/x", "b/x", "y", "xx")
    with pytest.raises(InvalidInput, match="folders that differ"):
        load_across(["runs/x", "runs/../runs/x"])


def coverage(rng: np.random.Generator, trials: int, correlated: bool) -> float:
    """How often the interval holds: 12 lines of two attempts each, rates 0.4 and 0.7 of a line's own."""
    hits, truth = 0, None
    for _ in range(trials):
        lines = rng.beta(2, 2, 12)
        other = lines if correlated else rng.beta(2, 2, 12)
        rates = np.repeat(np.stack([lines**2, other]), 2, axis=1)
        truth = 0.5 - 0.3  # E[x] − E[x²] of Beta(2, 2)
        passed = rng.random(rates.shape) < rates
        names = [f"l{i // 2}" for i in range(24)]
        if correlated:
            base, run = (
                pl.DataFrame(
                    {
                        "seed": [i % 2 for i in range(24)],
                        "problem": names,
                        "passed": p,
                        "abstained": [False] * 24,
                        "cluster": names,
                    }
                )
                for p in passed
            )
            low, high = paired(run, base, UNIT).interval
        else:
            both = [(float(p.reshape(12, 2).mean()), pass_interval(p, names)) for p in passed]
            _, (low, high) = difference_of_independent(both[1], both[0])
        hits += low <= truth <= high
    return hits / trials


@pytest.mark.slow(4)
@pytest.mark.parametrize(
    ("correlated", "trials", "least"), [(True, 400, 0.917), (False, 80, 0.877)]
)
def test_the_intervals_hold_as_often_as_they_say(
    correlated: bool, trials: int, least: float
) -> None:
    """95 % nominal; ``least`` is three standard errors below."""
    assert coverage(np.random.default_rng(11), trials, correlated) >= least


def test_independent_differences_in_closed_form() -> None:
    gap, (low, high) = difference_of_independent((0.7, (0.6, 0.8)), (0.5, (0.3, 0.6)))
    assert gap == pytest.approx(0.2)
    assert low == pytest.approx(0.2 - np.hypot(0.1, 0.1))
    assert high == pytest.approx(0.2 + np.hypot(0.1, 0.2))


def test_of_a_setting_with_parts_those_that_differ_are_named() -> None:
    one, two = {"first": {"p": 0.6, "K": 4}, "of": 8}, {"first": {"p": 0.5, "K": 4}, "of": 8}
    assert parts_that_differ("g", [one, two]) == {"g.first.p": [0.6, 0.5]}
    assert parts_that_differ("g", [one, {"of": 9}]) == {
        "g.first": [one["first"], None],
        "g.of": [8, 9],
    }
    assert parts_that_differ("g", [one, None]) == {"g": [one, None]}
