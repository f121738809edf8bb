"""Suites: equal tokens and equal calls, what a task lacks, rankings and flips, the page, resuming."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import reroot
from commands import call
from html_checks import Reader
from reroot import Contract, RunFolderError
from reroot.cli import main
from reroot.learners import get_learner
from reroot.pages.kit.contracts import allowed
from reroot.pages.kit.formatting import share
from reroot.pages.suite.page import render, write_suite_page
from reroot.runs.suite import SUITES, SuiteRun, load_suite, run_suite

FAMILY = "hidden_path:K=4,H=6,p=0.5"
PARTS = ("tokens", "calls", "rollouts")


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> SuiteRun:
    """The suite on an exact family, which has every oracle but hidden states."""
    folder = tmp_path_factory.mktemp("suite") / "run"
    return run_suite("sampling", model=FAMILY, problems=4, out=folder, quick=True)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> SuiteRun:
    """The suite on a language model of characters and two tasks, one without a verifier."""
    folder = tmp_path_factory.mktemp("suite")
    (folder / "text.txt").write_text(
        "Input: 1 2 3\nOutput: 2 3 4\nInput: 0 8 7 6 5\nOutput: 1 9 8 7 6\n" * 30
    )
    (folder / "plain.py").write_text(
        "from reroot import Problem\n"
        "def problems(horizon, count, seed):\n"
        "    def reward(output): return float(output.text.strip() == '2 3 4')\n"
        "    return [Problem(f'p{i}', 'Output:', 8, reward=reward, stop=('\\n',)) "
        "for i in range(count)]\n"
    )
    return run_suite(
        "sampling",
        model=f"ngram:{folder / 'text.txt'}:order=3",
        task=["increment", str(folder / "plain.py")],
        horizons=[1],
        problems=2,
        quick=True,
        out=folder / "run",
    )


def rows_of(run: SuiteRun, part: str) -> pl.DataFrame:
    return pl.read_parquet(run.folder / part / "results.parquet")


def test_every_method_is_a_learner_and_takes_a_contract() -> None:
    for suite in SUITES.values():
        required = [get_learner(spec).requires for spec in suite.learners]
        assert suite.plain in suite.learners
        assert len(set(suite.learners)) == len(required) > 20
        assert any("hidden" in str(c) for c in required)


@pytest.mark.slow
def test_budgets_are_equal_and_kept(family: SuiteRun) -> None:
    tokens, calls = rows_of(family, "tokens"), rows_of(family, "calls")
    assert 150 < max(tokens["cost_tokens"]) <= 160
    spent = calls["cost_rollouts"] + calls["cost_queries"]
    assert spent.max() == 32
    best = calls.filter(pl.col("learner") == "best_of_n(n=1000)")
    assert set(best["cost_rollouts"]) == {32}
    assert set(best["cost_tokens"]) == {32 * 6}  # more than equal tokens would allow
    for rows in (tokens, calls):
        assert rows["error"].null_count() == len(rows)
    assert family.summary["budgets"] == {"tokens": 160, "calls": 32}


@pytest.mark.slow
def test_each_method_is_served_what_it_requires(family: SuiteRun) -> None:
    journal = (family.folder / "tokens" / "journal.jsonl").read_text().splitlines()
    needed = {get_learner(s).label: get_learner(s).requires for s in SUITES["sampling"].learners}
    seen = {line["learner"]: line["contract"] for line in map(json.loads, journal)}
    for label, contract in seen.items():
        assert Contract.parse(contract) == needed[label].resolved


@pytest.mark.slow
def test_what_the_generator_cannot_serve_is_named(family: SuiteRun) -> None:
    """Exact families have no hidden states: two methods are left out, and the page says so."""
    assert set(family.summary["unable"]) == {
        "representation_coreset(n=1000, k=8, dims=None)",
        "latent_exploration",
    }
    assert "Not run at all: " in render(family.summary)


@pytest.mark.slow
def test_ranks_and_flips_are_those_of_the_rewards(family: SuiteRun) -> None:
    (group,) = family.summary["groups"]
    rewards = {
        part: {
            label: float(np.mean(rows["reward"].to_numpy()))
            for (label,), rows in rows_of(family, part)
            .partition_by("learner", as_dict=True)
            .items()
        }
        for part in ("tokens", "calls")
    }
    shorts = {m["short"]: m["label"] for m in family.summary["methods"]}
    for row in group["rows"]:
        for part, mean in rewards.items():
            mine = mean[shorts[row["short"]]]
            assert row[part]["reward"] == pytest.approx(mine)
            assert row[part]["rank"] == 1 + sum(m > mine + 1e-9 for m in mean.values())
    flipped = {
        (a, b)
        for a in shorts
        for b in shorts
        if rewards["tokens"][shorts[a]] < rewards["tokens"][shorts[b]] - 1e-9
        and rewards["calls"][shorts[a]] > rewards["calls"][shorts[b]] + 1e-9
    }
    assert {(f["ahead"], f["behind"]) for f in group["flips"]} == flipped
    assert group["pairs"] == len(shorts) * (len(shorts) - 1) // 2


@pytest.mark.slow
def test_a_task_without_a_verifier_runs_fewer_methods(text: SuiteRun) -> None:
    first, second = text.summary["groups"]
    assert first["tasks"] == ["increment"]
    assert first["without"] == []
    assert {row["short"] for row in second["rows"]}.isdisjoint(second["without"])
    assert {"tokenwise_rejection", "vgb", "smc(verifier)"} <= set(second["without"])
    assert "Did not run here, as there is no verifier: " in render(text.summary)


@pytest.mark.slow
def test_the_page_shows_both_rankings_contracts_costs_and_speed(text: SuiteRun) -> None:
    page = write_suite_page(text).read_text()
    assert page == render(load_suite(text.folder).summary)
    reader = Reader()
    reader.feed(page)
    assert reader.outside == []
    ranking, _, permissions, rewards, costs, _, speed = reader.tables
    (group, _) = text.summary["groups"]
    for start, budget in ((0, "tokens"), (5, "calls")):
        assert ranking[0][start] == f"equal {budget}"
        shown = {line[start].split("\u2002")[1]: line for line in ranking[1:]}
        ranks = [int(line[start].split("\u2002")[0]) for line in ranking[1:]]
        assert ranks == sorted(ranks)
        for row in group["rows"]:
            assert shown[row["short"]][start + 1] == f"{row[budget]['reward']:.2f}"
            assert shown[row["short"]][start + 4] == share(row[budget]["used"])
    methods = [m["short"] for m in text.summary["methods"]]
    assert [line[0] for line in permissions[1:]] == methods == [line[0] for line in rewards[1:]]
    assert {"calls", "rollouts", "queries", "tokens"} <= set(costs[0])
    assert [line[0] for line in speed[1:]] == [
        "plain rollouts alone",
        "the suite at equal tokens",
        "the suite at equal calls",
    ]
    for part in PARTS:
        assert text.summary["speed"][part]["tokens"] > 0
        assert text.summary["speed"][part]["seconds"] > 0


@pytest.mark.parametrize(
    ("contract", "words"),
    [
        ("root/sample", ("start at the beginning only", "what is drawn", "nothing")),
        (
            "visited/logprob+reward",
            (
                "go back to what the generator itself wrote",
                "what is drawn and how likely that was",
                "have outputs scored",
            ),
        ),
        (
            "reset/topk(4)+reward+verifier",
            (
                "go back, and go on with any token of its choice",
                "what is drawn, how likely that was and the 4 most likely tokens",
                "have outputs scored and ask whether a beginning can still become right",
            ),
        ),
        (
            "reset/argmax(1)",
            (
                "go back, and go on with any token of its choice",
                "the most likely token and how likely",
                "nothing",
            ),
        ),
        (
            "chosen/full+hidden",
            (
                "start anywhere",
                "what is drawn and the probability of every token",
                "look inside the model",
            ),
        ),
    ],
)
def test_contracts_in_plain_words(contract: str, words: tuple[str, str, str]) -> None:
    assert allowed(Contract.parse(contract)) == words


@pytest.mark.slow
def test_an_interrupted_suite_continues(family: SuiteRun, tmp_path: Path) -> None:
    seen = 0

    def interrupt(_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == 60:
            raise KeyboardInterrupt

    settings: dict[str, Any] = {
        "model": FAMILY,
        "quick": True,
        "problems": 4,
        "out": tmp_path / "run",
    }
    with pytest.raises(KeyboardInterrupt):
        run_suite("sampling", **settings, on_attempt=interrupt)
    with pytest.raises(RunFolderError, match="calls is not a run folder"):
        load_suite(tmp_path / "run")
    done: dict[str, int] = {}
    again = run_suite(
        "sampling", **settings, on_start=lambda part, total, d: done.__setitem__(part, d)
    )
    assert done["rollouts"] == 4
    assert done["tokens"] == 56
    assert done["calls"] == 0
    for part in PARTS:
        ours, theirs = (run.folder / part / "results.parquet" for run in (again, family))
        assert ours.read_bytes() == theirs.read_bytes()
    assert again.summary["groups"] == family.summary["groups"]


@pytest.mark.slow
def test_another_configuration_is_refused(family: SuiteRun) -> None:
    with pytest.raises(RunFolderError, match="budgets_per_cell"):
        run_suite("sampling", model=FAMILY, out=family.folder, quick=True, budget_calls=400)


@pytest.mark.slow
def test_the_command_line(
    family: SuiteRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    main(
        [
            "compare",
            "--suite",
            "sampling",
            "--model",
            FAMILY,
            "--quick",
            "--problems",
            "2",
            "--out",
            str(tmp_path),
        ]
    )
    printed = capsys.readouterr().out
    assert "pairs change places" in printed
    assert "Tokens per second: " in printed
    page = tmp_path / "report.html"
    before = page.read_text()
    page.unlink()
    main(["report", str(tmp_path)])
    assert page.read_text() == before
    part = tmp_path / "tokens" / "report.html"
    main(["report", str(part.parent)])  # an ordinary run folder
    assert part.exists()


@pytest.mark.slow(1)
@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--suite", "samplign"], "Did you mean 'sampling'"),
        (["--suite", "sampling", "--learner", "greedy_walk"], "--learner and --suite"),
        (["--suite", "sampling", "--transcripts"], "--transcripts and --suite"),
        (["--quick"], "--quick is for suites"),
        (["--suite", "sampling", "--budget-calls", "1", "--problems", "2"], "no call for each"),
    ],
)
def test_bad_requests_are_named(
    more: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["compare", "--model", FAMILY, "--out", str(tmp_path / "run"), *more])
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_a_part_that_is_not_there_is_named(family: SuiteRun, tmp_path: Path) -> None:
    shutil.copytree(family.folder, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "rollouts")
    with pytest.raises(RunFolderError, match="rollouts"):
        load_suite(tmp_path / "run")
    with pytest.raises(RunFolderError, match="holds no suite"):
        load_suite(family.folder / "tokens")


def test_tables_and_attempts_of_suites(
    family: SuiteRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(family.folder, other)
    assert call("report", str(family.folder), "--csv", str(tmp_path / "one")) == 0
    methods = pl.read_csv(tmp_path / "one" / "methods.csv")
    told = {
        (row["short"], budget): row[budget]
        for group in family.summary["groups"]
        for row in group["rows"]
        for budget in ("tokens", "calls")
    }
    assert len(methods) == len(told)
    for row in methods.iter_rows(named=True):
        numbers = told[row["method"], row["equal"]]
        assert (row["rank"], row["pass rate"]) == (numbers["rank"], numbers["pass_rate"])
        assert row["tokens per attempt"] == numbers["cost"]["tokens"]
    both = [str(family.folder), str(other)]
    assert call("report", *both, "--csv", str(tmp_path / "c"), "--out", str(tmp_path / "p")) == 0
    assert sorted(p.name for p in (tmp_path / "p").iterdir()) == ["calls.html", "tokens.html"]
    for budget in ("tokens", "calls"):
        gaps = pl.read_csv(tmp_path / "c" / f"{budget}_differences.csv")
        assert set(gaps["difference"]) == {0.0}  # the same attempts
        assert set(gaps["pairs"]) == {4}
    capsys.readouterr()
    assert call("report", *both, str(tmp_path), "--json") == 2  # no run folder
    assert call("show", str(family.folder), "--json") == 0
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {Path(line["run"]).name for line in shown} == set(PARTS)
    assert shown == [record.to_json() for record in reroot.attempts(family.folder)]
