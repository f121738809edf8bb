"""The page of a comparison, on synthetic run folders whose numbers are known."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from comparison_runs import (
    GRANTS,
    LEARNERS,
    SMALL,
    cell,
    main_verdict,
    printed,
    summarize,
    write_fixture,
)
from html_checks import Checker
from reroot.diagnosis import (
    BASE_LIMIT,
    UNDETERMINED,
)
from reroot.errors import MissingDependency, RunFolderError
from reroot.pages import report


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The full synthetic comparison and its summary."""
    folder = write_fixture(tmp_path_factory.mktemp("run"))
    return folder, summarize(folder)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a small comparison whose texts try to break out of it."""
    what = replace(SMALL, hostile="</pre><script>alert(1)</script>&\"'$x^2$[red]")
    folder = write_fixture(tmp_path_factory.mktemp("page"), what)
    return report(folder).read_text(encoding="utf-8")


# -- page --------------------------------------------------------------------------------------


@pytest.mark.slow(1)
def test_page_is_self_contained_and_well_formed(page: str) -> None:
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert len(set(checker.ids)) == len(checker.ids)
    assert not checker.tags & {
        "script",
        "link",
        "iframe",
        "img",
        "image",
        "object",
        "foreignobject",
    }
    ids = set(checker.ids)
    assert checker.links
    assert all(link.startswith("#") and link[1:] in ids for link in checker.links)
    used = re.findall(r"url\(#([^)]*)\)", page)
    assert used
    assert set(used) <= ids
    hosts = set(re.findall(r"https?://([^/\"\s]+)", page))
    assert hosts <= {"www.w3.org"}  # the SVG name space
    assert "@import" not in page


@pytest.mark.slow(1)
def test_page_escapes_what_models_write(page: str) -> None:
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "$x^2$" in page  # neither TeX nor markup


@pytest.mark.slow(1)
def test_page_has_no_fixed_colours_left(page: str) -> None:
    """Everything drawn follows the light or dark style sheet."""
    body = page[page.index("</style>") :]
    assert not re.search(r"#[0-9a-fA-F]{6}\b", body)
    assert "var(--root)" in body
    assert "prefers-color-scheme: dark" in page


def test_page_says_what_was_found(page: str) -> None:
    for text in (
        "root-start access is the limit",
        "Success against horizon",
        "Success against budget",
        "Where the probability is lost",
        "The ledger",
        "Measured against the exact law",
        "Every cell",
        "Example attempts",
        "reroot compare --model smollm2",
        "lower bound",
        "tokenwise_rejection uses the process verifier",
    ):
        assert text in page, text
    # horizon: overview and 3 levels; budget: 5 currencies that several pay; ledger: all 6
    assert page.count('role="img"') == 4 + 5 + 2 + 6


@pytest.mark.slow(1)
def test_page_is_deterministic(tmp_path: Path) -> None:
    what = replace(SMALL, horizons=(4,), learners=LEARNERS[4:6] + LEARNERS[:1])
    folder = write_fixture(tmp_path, what)
    first = report(folder).read_bytes()
    assert report(folder).read_bytes() == first


SHAPES = {
    "one horizon": replace(SMALL, horizons=(4,)),
    "one contract": replace(SMALL, grants=GRANTS[:1], learners=LEARNERS[:3]),
    "no root contract": replace(SMALL, grants=GRANTS[1:2], learners=(replace(LEARNERS[4], contracts=(0,)),)),
    "exact family": replace(SMALL, text=False),
    "all failed": replace(SMALL, fixed=False),
    "all passed": replace(SMALL, fixed=True),
    "no unique problem": replace(SMALL, unique=False),
    "errors": replace(SMALL, failing="tokenwise_rejection", hostile="<script>"),
    "one attempt": replace(SMALL, seeds=1, problems=1, horizons=(2,), unique=False),
    "one learner": replace(SMALL, learners=LEARNERS[:1], horizons=(2,)),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_degenerate_comparisons(tmp_path: Path, shape: str) -> None:
    folder = write_fixture(tmp_path, SHAPES[shape])
    text = report(folder).read_text(encoding="utf-8")
    summary = json.loads((folder / "summary.json").read_text())
    assert "NaN" not in (folder / "summary.json").read_text()
    assert "nan" not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL).replace(
        "dominan", ""
    )
    assert printed(summary, 100)
    kind = main_verdict(summary, "running_sum")["kind"]
    expected = {
        "one contract": UNDETERMINED,
        "no root contract": UNDETERMINED,
        "all failed": BASE_LIMIT,
        "one attempt": UNDETERMINED,
        "one learner": UNDETERMINED,
    }
    assert kind == expected.get(shape, kind)
    says = {
        "one contract": "No prefix-control learner was run",
        "no root contract": "No root-start learner was run",
        "exact family": "hidden_path:K=4,p=0.4 on running_sum",
        "all failed": "No attempt passed, so there is no curve to show.",
        "no unique problem": "No measured learner has an exact law here",
        "errors": "error: ValueError: boom&lt;script&gt;",
    }
    assert says.get(shape, "Verdict") in text
    assert "<script" not in text


def test_an_interrupted_run_compares_what_all_learners_share(tmp_path: Path) -> None:
    """With part of one learner missing, verdicts use the attempts that every learner has."""
    folder = write_fixture(tmp_path, replace(SMALL, horizons=(6,)))
    rows = pl.read_parquet(folder / "results.parquet")
    hard = (rows["learner"].str.starts_with("tokenwise")) & (rows["seed"] == 0)
    rows = rows.with_columns(passed=pl.col("passed") & ~hard)
    early = (rows["learner"] == "greedy_walk") & (rows["seed"] < 2)
    rows.filter(~early).write_parquet(folder / "results.parquet")
    summary = summarize(folder)
    verdict = main_verdict(summary, "running_sum")
    assert verdict["attempts"] == 8
    label = next(x["label"] for x in summary["learners"] if x["short"] == verdict["prefix"])
    assert verdict["prefix"] == "tokenwise_rejection"
    shared = rows.filter((pl.col("learner") == label) & (pl.col("seed") == 2))
    assert verdict["prefix_rate"] == shared["passed"].mean()
    assert cell(summary, "running_sum", 6, "greedy_walk")["attempts"] == 8
    assert cell(summary, "running_sum", 6, "plurality_walk")["attempts"] == 24


def test_contracts_with_other_oracles_are_judged_apart(tmp_path: Path) -> None:
    """Root with reward alone and prefix control with the verifier are no fair pair."""
    folder = write_fixture(tmp_path, replace(SMALL, horizons=(6,)))
    rows = pl.read_parquet(folder / "results.parquet")
    root = pl.col("contract").str.starts_with("root")
    fewer = pl.when(root).then(pl.lit("root/sample+reward@T=1")).otherwise(pl.col("contract"))
    rows = rows.filter(~(root & pl.col("learner").str.contains("verifier")))
    rows = rows.filter(root | pl.col("learner").str.contains("walk|rejection"))
    rows.with_columns(contract=fewer).write_parquet(folder / "results.parquet")
    verdicts = summarize(folder)["verdicts"]
    assert {v["kind"] for v in verdicts} == {UNDETERMINED}
    assert sorted(len(v["oracles"]) for v in verdicts) == [1, 3]


def test_two_sampling_laws_are_two_learners(tmp_path: Path) -> None:
    folder = write_fixture(tmp_path, replace(SMALL, horizons=(6,)))
    rows = pl.read_parquet(folder / "results.parquet")
    cold = rows.filter(rows["contract"].str.starts_with("root")).with_columns(
        contract=pl.col("contract").str.replace("T=1", "T=0.5"), passed=pl.lit(True)
    )
    pl.concat([rows, cold]).write_parquet(folder / "results.parquet")
    summary = summarize(folder)
    assert cell(summary, "running_sum", 6, "best_of_n(reward, T=0.5)")["passed"] == 24
    assert cell(summary, "running_sum", 6, "best_of_n(reward, T=1)")["passed"] < 24
    assert {r["short"] for r in summary["exact"]} == {
        "best_of_n(reward, T=1)", "best_of_n(verifier, T=1)"
    }  # fmt: skip


# -- wrong folders and missing parts ---------------------------------------------------------------


def test_wrong_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="is not a folder"):
        summarize(tmp_path / "nowhere")
    with pytest.raises(RunFolderError, match=r"not a run folder.*config\.json"):
        report(tmp_path)
    folder = write_fixture(tmp_path / "run", replace(SMALL, horizons=(2,)))
    config = json.loads((folder / "config.json").read_text())
    results, problems = folder / "results.parquet", folder / "problems.parquet"
    table = pl.read_parquet(results)

    (folder / "config.json").write_text(json.dumps({**config, "kind": "run"}))
    with pytest.raises(RunFolderError, match=r"holds no comparison.*'run'"):
        summarize(folder)
    (folder / "config.json").write_text(json.dumps({**config, "learners": []}))
    with pytest.raises(RunFolderError, match="does not name the learner 'best_of_n"):
        summarize(folder)
    (folder / "config.json").write_text(json.dumps(config))

    table.drop("passed", "cost_tokens").write_parquet(results)
    with pytest.raises(RunFolderError, match="lacks the columns passed, cost_tokens"):
        summarize(folder)
    table.with_columns(contract=pl.lit("sideways/sample")).write_parquet(results)
    with pytest.raises(RunFolderError, match="unknown control level 'sideways'"):
        summarize(folder)
    table.head(0).write_parquet(results)
    with pytest.raises(RunFolderError, match="holds no finished attempt"):
        summarize(folder)
    results.write_bytes(b"not parquet")
    with pytest.raises(RunFolderError, match=r"can't read .*results\.parquet"):
        summarize(folder)
    table.write_parquet(results)
    problems.unlink()
    with pytest.raises(RunFolderError, match=r"no problems\.parquet"):
        summarize(folder)


def test_missing_matplotlib_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_fixture(tmp_path, replace(SMALL, horizons=(2,)))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependency, match=r"pip install reroot\[report\]"):
        report(folder)
    assert summarize(folder)["cells"]  # numbers and the terminal table need no matplotlib


@pytest.mark.slow
def test_reports_use_no_global_plotting_state(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    folder = write_fixture(tmp_path, replace(SMALL, horizons=(2,), learners=LEARNERS[:1]))
    code = (
        "import sys, reroot.pages\n"
        "assert 'matplotlib' not in sys.modules\n"
        f"reroot.report({str(folder)!r})\n"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], check=True)


@pytest.mark.slow
def test_full_page(full: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = full
    text = report(folder).read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert len(set(checker.ids)) == len(checker.ids)
