"""The summary of a comparison, in the terminal and in words, on synthetic folders whose numbers are known."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from comparison_runs import (
    SMALL,
    cell,
    main_verdict,
    printed,
    summarize,
    write_fixture,
)
from reroot.access.sealing import sealed
from reroot.diagnosis import (
    BASE_LIMIT,
    NO_DIFFERENCE,
    ROOT_LIMIT,
    clopper_pearson,
)
from reroot.pages import report
from reroot.pages.kit.formatting import from_log, quantity, share, signed
from reroot.runs.results import short_names
from reroot.types import CURRENCIES, Physical


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The full synthetic comparison and its summary."""
    folder = write_fixture(tmp_path_factory.mktemp("run"))
    return folder, summarize(folder)


# -- summary -----------------------------------------------------------------------------------


@pytest.mark.slow(1)
def test_cells_are_what_the_table_says(full: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = full
    rows = pl.read_parquet(folder / "results.parquet")
    assert len(summary["cells"]) == len(
        rows.group_by("contract", "learner", "task", "horizon").agg()
    )
    for c in summary["cells"]:
        mine = rows.filter(
            (pl.col("contract") == c["contract"]) & (pl.col("learner") == c["learner"])
            & (pl.col("task") == c["task"]) & (pl.col("horizon") == c["horizon"])
        )  # fmt: skip
        assert c["attempts"] == len(mine) == 24
        assert c["passed"] == mine["passed"].sum()
        assert c["pass_interval"] == list(clopper_pearson(c["passed"], 24))
        assert c["reward"] == pytest.approx(mine["reward"].mean())
        bound = (mine["reward"] - 0.02 * mine["surprisal"]).mean()
        assert c["j_beta"] == pytest.approx(bound)
        low, high = c["j_beta_interval"]
        assert low <= c["j_beta"] <= high
        for currency in CURRENCIES:
            assert c["cost"][currency] == pytest.approx(mine[f"cost_{currency}"].mean())


@pytest.mark.slow(1)
def test_exact_rows_follow_the_exact_law(full: tuple[Path, dict[str, Any]]) -> None:
    """Expected counts by the closed form; the fixture draws from it, so at least 95 % lie inside.

    Per row the band misses with at most 5 %; of about 42 rows more than 7 miss with probability
    below 0.5 % (they are positively dependent in first_success, hence the wide margin).
    """
    folder, summary = full
    problems = pl.read_parquet(folder / "problems.parquet")
    for row in summary["exact"]:
        here = (problems["task"] == row["task"]) & (problems["horizon"] == row["horizon"])
        p = np.exp(problems.filter(here)["log_reach"].to_numpy())
        assert row["expected"] == pytest.approx((1 - (1 - p) ** row["rollouts"]).sum(), rel=1e-9)
        assert row["inside"] == (row["band"][0] <= row["passed"] <= row["band"][1])
    assert {r["short"] for r in summary["exact"]} == {
        "best_of_n(reward)", "best_of_n(verifier)", "first_success"
    }  # fmt: skip
    assert sum(not r["inside"] for r in summary["exact"]) <= 7


def test_a_wrong_law_is_outside(tmp_path: Path) -> None:
    """A best-of-16 that always passes is far from its exact law."""
    folder = write_fixture(tmp_path, replace(SMALL, fixed=True, horizons=(6,)))
    rows = summarize(folder)["exact"]
    assert rows
    assert not any(r["inside"] for r in rows)


@pytest.mark.slow(1)
def test_verdicts_of_the_synthetic_tasks(full: tuple[Path, dict[str, Any]]) -> None:
    _, summary = full
    verdict = main_verdict(summary, "running_sum")
    assert verdict["horizon"] == 8
    assert verdict["kind"] == ROOT_LIMIT
    assert verdict["prefix"] == "tokenwise_rejection"
    assert verdict["without_verifier"] == BASE_LIMIT
    assert verdict["oracles"] == ["reward", "verifier", "demonstration"]
    assert any("best_of_n(verifier)" in note for note in verdict["notes"])
    assert any("demo_prefix" in note and "demonstration" in note for note in verdict["notes"])
    assert main_verdict(summary, "count_on")["kind"] == NO_DIFFERENCE
    assert [v["horizon"] for v in summary["verdicts"] if v["task"] == "count_on"] == [8, 6, 4, 2]


@pytest.mark.slow(1)
def test_best_of_n_with_the_whole_budget(full: tuple[Path, dict[str, Any]]) -> None:
    """25,000 tokens at 9 tokens a rollout (8 terms and the end) are 2,777.8 rollouts."""
    folder, summary = full
    problems = pl.read_parquet(folder / "problems.parquet")
    here = (problems["task"] == "running_sum") & (problems["horizon"] == 8)
    p = np.exp(problems.filter(here)["log_reach"].to_numpy())
    reach = next(r for r in summary["reach"] if (r["task"], r["horizon"]) == ("running_sum", 8))
    assert reach["tokens_per_rollout"] == 9
    assert reach["exact_with_budget"] == pytest.approx((1 - (1 - p) ** (25_000 / 9)).mean())
    assert main_verdict(summary, "running_sum")["exact_root"] == reach["exact_with_budget"]
    assert reach["log_rollouts"] == pytest.approx(-np.median(np.log(p)))
    draws = [sum(math.exp(-x) for x in line) for line in problems.filter(here)["demo_logprobs"]]
    assert reach["token_draws"] == pytest.approx(np.median(draws))


def test_differences_are_paired(full: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = full
    rows = pl.read_parquet(folder / "results.parquet").filter(
        pl.col("contract").str.starts_with("chosen")
    )
    wide = rows.pivot("learner", index=["task", "horizon", "seed", "problem"], values="passed")
    labels = {x["short"]: x["label"] for x in summary["learners"]}
    for d in summary["differences"]:
        here = wide.filter((pl.col("task") == d["task"]) & (pl.col("horizon") == d["horizon"]))
        mine, root = here[labels[d["learner"]]], here[labels[d["root"]]]
        assert d["wins"] == (mine & ~root).sum()
        assert d["losses"] == (~mine & root).sum()
        assert d["pass_interval"][0] <= d["pass_difference"] <= d["pass_interval"][1]


def test_summary_is_deterministic_and_keeps_what_only_the_run_knew(tmp_path: Path) -> None:
    folder = write_fixture(tmp_path, SMALL)
    counters = Physical(forwards=3).to_dict()
    (folder / "usage.jsonl").write_bytes(sealed({"process": "a", "seconds": 1.5, **counters}))
    (folder / "summary.json").write_text(json.dumps({"seconds": 9, "cells": "stale"}))
    first = summarize(folder)
    assert (first["physical"], first["seconds"]) == (counters, 1.5)
    assert first["cells"] != "stale"
    text = (folder / "summary.json").read_text()
    assert json.loads(text) == first
    summarize(folder)
    assert (folder / "summary.json").read_text() == text


@pytest.mark.slow
def test_impossible_outputs_have_no_lower_bound(tmp_path: Path) -> None:
    """An output of probability 0 makes the lower bound −∞; a missing output is left out."""
    folder = write_fixture(tmp_path, SMALL)
    rows = pl.read_parquet(folder / "results.parquet")
    walk, bon = rows["learner"] == "plurality_walk", rows["learner"].str.starts_with("best_of_n")
    rows = rows.with_columns(
        surprisal=pl.when(walk).then(math.inf).when(bon).then(None).otherwise(pl.col("surprisal"))
    )
    rows.write_parquet(folder / "results.parquet")
    summary = summarize(folder)
    assert cell(summary, "running_sum", 6, "plurality_walk")["j_beta"] == "-inf"
    assert cell(summary, "running_sum", 6, "best_of_n(reward)")["j_beta"] is None
    assert cell(summary, "running_sum", 6, "best_of_n(reward)")["j_beta_attempts"] == 0
    assert "−∞" in report(folder).read_text(encoding="utf-8")


# -- terminal ----------------------------------------------------------------------------------


def test_terminal_table(full: tuple[Path, dict[str, Any]]) -> None:
    _, summary = full
    text = printed(summary, 100)
    assert "running_sum, horizon 8: root-start access is the limit" in text
    passed = cell(summary, "running_sum", 8, "tokenwise_rejection")["passed"]
    assert re.search(rf"tokenwise_rejection +V .* {100 * passed / 24:.0f} ", text)
    assert "Budget per attempt: 25,000 tokens. 8 problems x 3 seeds" in text
    assert "Other horizons: 6:" in text
    assert "95 % interval, by horizon" in text


def test_narrow_terminals_lose_columns_but_no_names(full: tuple[Path, dict[str, Any]]) -> None:
    _, summary = full
    for width in (80, 55):
        text = printed(summary, width)
        assert max(map(len, text.splitlines())) <= width
        for learner in summary["learners"]:
            assert f" {learner['short']} " in text
    assert "95 % interval, by horizon" not in text
    assert "tokens at 8" not in text


def test_terminal_table_takes_names_literally(tmp_path: Path) -> None:
    what = replace(SMALL, tasks=("[red]sum[/red]",), failing="plurality_walk")
    text = printed(summarize(write_fixture(tmp_path, what)), 120)
    assert "[red]sum[/red], horizon 6" in text
    assert "errors count as not passed: plurality_walk (48)" in text  # at both horizons


# -- words ----------------------------------------------------------------------------------------


def test_short_names() -> None:
    def entry(name: str, **params: str) -> dict[str, Any]:
        return {"name": name, "params": params}

    assert short_names([(entry("a", n="1"), "T=1"), (entry("b", n="1"), "T=1")]) == ["a", "b"]
    assert short_names([(entry("a", n="1", o="x"), "T=1"), (entry("a", n="2", o="x"), "T=1")]) == ["a(n=1)", "a(n=2)"]  # fmt: skip
    assert short_names([(entry("a", o="x"), "T=1"), (entry("a", o="y"), "T=1")]) == ["a(x)", "a(y)"]
    both = [(entry("a", n="1", o="x"), "T=1"), (entry("a", n="2", o="y"), "T=1")]
    assert short_names(both) == ["a(x)", "a(y)"]  # one parameter is enough
    three = [*both, (entry("a", n="1", o="y"), "T=1")]
    assert short_names(three) == ["a(n=1, o=x)", "a(n=2, o=y)", "a(n=1, o=y)"]
    assert short_names([(entry("a"), "T=1"), (entry("a"), "T=0")]) == ["a(T=1)", "a(T=0)"]


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (quantity(0), "0"),
        (quantity(1234.4), "1,234"),
        (quantity(9.125), "9.12"),
        (quantity(25_000_000), "2.5·10⁷"),
        (quantity(-3.5), "−3.5"),
        (from_log(math.log(0.042)), "0.042"),
        (from_log(-100.0), "3.7·10⁻⁴⁴"),
        (from_log(math.log(9.99e-8)), "10⁻⁷"),
        (from_log(54.0), "2.8·10²³"),
        (from_log(math.log(1e6)), "10⁶"),
        (share(0.96), "96"),
        (share(0.004), "0.4"),
        (share(0), "0"),
        (share(1e-9), "10⁻⁷"),
        (signed(-0.001), "0.00"),
        (signed(-0.25), "−0.25"),
        (signed(0.25), "+0.25"),
    ],
)
def test_numbers_in_words(got: str, expected: str) -> None:
    assert got == expected
