"""How attempts count in the numbers of a suite: those that failed, could not be judged, or gave no output."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.console import Console
from test_suite import FAMILY, rows_of

from html_checks import Reader
from reroot.pages.suite.page import render
from reroot.pages.suite.terminal import suite_table
from reroot.runs.suite import SuiteRun, load_suite, run_suite


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> SuiteRun:
    """The suite on an exact family, four problems."""
    folder = tmp_path_factory.mktemp("suite") / "run"
    return run_suite("sampling", model=FAMILY, problems=4, out=folder, quick=True)


Change = Callable[[str], pl.Expr]


def changed(run: SuiteRun, folder: Path, **columns: Change) -> dict[str, Any]:
    """The summary of a copy whose results have these columns, which may depend on the budget."""
    shutil.copytree(run.folder, folder)
    for part in ("tokens", "calls"):
        rows = rows_of(run, part)
        rows = rows.with_columns(**{name: change(part) for name, change in columns.items()})
        rows.write_parquet(folder / part / "results.parquet")
    return load_suite(folder).summary


def row_of(summary: dict[str, Any], short: str) -> dict[str, Any]:
    return next(row for row in summary["groups"][0]["rows"] if row["short"] == short)


def printed(summary: dict[str, Any]) -> str:
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(suite_table(summary))
    return console.export_text()


MINE = pl.col("learner") == "first_success"
BEST = pl.col("learner") == "best_of_n(n=1000)"
WORD = "OracleError: <nan>"


@pytest.mark.slow
def test_an_attempt_that_cannot_be_judged_counts_as_failed(
    family: SuiteRun, tmp_path: Path
) -> None:
    """All attempts but one of first_success are unjudged: its mean is a quarter, and not 1."""
    lost = MINE & (pl.col("problem") != rows_of(family, "calls")["problem"][0])
    summary = changed(
        family,
        tmp_path / "run",
        reward=lambda _: pl.when(lost).then(None).when(MINE).then(1.0).otherwise("reward"),
        passed=lambda _: pl.when(lost).then(False).otherwise("passed"),
        error=lambda _: pl.when(lost).then(pl.lit(WORD)).otherwise("error"),
    )
    numbers = row_of(summary, "first_success")["calls"]
    assert (numbers["attempts"], numbers["reward"]) == (4, 0.25)
    assert (numbers["errors"], numbers["error"]) == (3, WORD)
    (line,) = [x for x in summary["rewards"] if x["short"] == "first_success"]
    assert line["calls"] == [0.25]
    assert summary["errors"] == 6
    text, page = printed(summary), render(summary)
    for told in ("Attempts with errors count as not passed", "first_success (6)"):
        assert told in text
        assert told in page
    assert WORD in text
    assert "OracleError: &lt;nan&gt;" in page
    reader = Reader()
    reader.feed(page)
    costs = next(t for t in reader.tables if t[0][-1] == "errors")
    assert [row[-1] for row in costs[1:] if row[-1] != "·"] == ["3", "3"]
    assert "errors" not in printed(family.summary) + render(family.summary)


@pytest.mark.slow(1)
def test_methods_that_were_never_judged_come_last(family: SuiteRun, tmp_path: Path) -> None:
    none = {"tokens": MINE | BEST, "calls": MINE | BEST}
    summary = changed(
        family,
        tmp_path / "run",
        reward=lambda part: pl.when(none[part]).then(None).otherwise("reward"),
        passed=lambda part: pl.when(none[part]).then(False).otherwise("passed"),
    )
    (group,) = summary["groups"]
    pair = ("first_success", "best_of_n(n=1000, oracle=reward)")
    for part in ("tokens", "calls"):
        for short in pair:
            numbers = row_of(summary, short)[part]
            assert numbers["reward"] is None
            assert numbers["rank"] == len(group["rows"]) - 1  # both share the last but one
    flipped = [{f["ahead"], f["behind"]} for f in group["flips"]]
    assert set(pair) not in flipped
    assert not any(short in pair for both in flipped for short in both)  # last at either budget


@pytest.mark.slow(1)
@pytest.mark.parametrize("parts", [("tokens", "calls"), ("calls",)])
def test_a_suite_without_any_reward_has_a_page(
    family: SuiteRun, tmp_path: Path, parts: tuple[str, ...]
) -> None:
    summary = changed(
        family,
        tmp_path / "run",
        reward=lambda part: pl.lit(None, pl.Float64) if part in parts else pl.col("reward"),
    )
    (group,) = summary["groups"]
    assert {row["calls"]["rank"] for row in group["rows"]} == {1}
    assert group["flips"] == []
    assert "Best at equal calls</dt><dd><b>·</b>" in render(summary)
    assert "·" in printed(summary)


@pytest.mark.slow(1)
def test_no_output_is_never_better_than_an_output(family: SuiteRun, tmp_path: Path) -> None:
    """Rewards of −2 and −1: the tables say 0 where there is no output, the means say −2."""
    lowered = changed(
        family,
        tmp_path / "run",
        reward=lambda _: pl.when(MINE).then(0.0).otherwise(pl.col("reward") - 2.0),
        tokens_out=lambda _: pl.when(MINE).then(None).otherwise("tokens_out"),
        surprisal=lambda _: pl.when(MINE).then(None).otherwise("surprisal"),
    )
    for part in ("tokens", "calls"):
        rows = rows_of(family, part).filter(~MINE & pl.col("tokens_out").is_not_null())
        floor = rows["reward"].to_numpy().min() - 2.0
        numbers = row_of(lowered, "first_success")[part]
        assert numbers["reward"] == numbers["j_beta"] == floor == -2.0
        rewards = [row[part]["reward"] for row in lowered["groups"][0]["rows"]]
        assert numbers["reward"] == min(rewards)


@pytest.mark.slow(1)
def test_the_share_of_the_budget_that_was_used(family: SuiteRun) -> None:
    rows = {"tokens": rows_of(family, "tokens"), "calls": rows_of(family, "calls")}
    best = "best_of_n(n=1000, oracle=reward)"
    mine = rows["tokens"].filter(BEST)
    assert row_of(family.summary, best)["tokens"]["used"] == mine["cost_tokens"].sum() / (160 * 4)
    assert row_of(family.summary, best)["calls"]["used"] == 1.0
    for row in family.summary["groups"][0]["rows"]:
        assert 0 < row["tokens"]["used"] <= 1
        assert 0 < row["calls"]["used"] <= 1
