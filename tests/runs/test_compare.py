"""`reroot.compare`: the grid it runs, the claims it rests on, and how it survives interruption."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

import reroot
from reroot import InvalidInput, RunFolderError
from reroot.families import HiddenPath
from reroot.learners import DEFAULT_COMPARISON, get_learner
from reroot.runs import folder as folders
from reroot.runs.run import problems_digest

SMALL = {
    "model": "hidden_path:K=3,H=4,p=0.6",
    "horizons": [2, 4],
    "budget_tokens": 2_000,
    "seeds": 2,
    "problems": 3,
}
PARTS = ("results.parquet", "problems.parquet", "config.json", "summary.json", "journal.jsonl")


@pytest.mark.slow(1)
def test_runs_every_permitted_learner_at_every_cell(tmp_path: Path) -> None:
    result = reroot.compare(**SMALL, out=tmp_path / "run")
    for part in PARTS:
        assert (tmp_path / "run" / part).exists()
    seen = set(result.results.select("control", "learner", "horizon", "seed").unique().iter_rows())
    for grant in ("root/sample", "visited/sample", "reset/sample", "chosen/full"):
        contract = reroot.Contract.parse(f"{grant}+reward+verifier+demonstration@T=1")
        for learner in map(get_learner, DEFAULT_COMPARISON):
            permitted = learner.requires <= contract
            for horizon in (2, 4):
                for seed in (0, 1):
                    cell = (str(contract.control), learner.label, horizon, seed)
                    assert (cell in seen) == permitted, cell
    assert result.results["error"].null_count() == len(result.results)
    limit = 2_000 // 3
    assert result.results["cost_tokens"].max() <= limit
    json.loads((tmp_path / "run" / "summary.json").read_text())


@pytest.mark.slow(1)
def test_stronger_contract_gives_identical_attempts(tmp_path: Path) -> None:
    """The reason why a learner is run once and reported under every contract that permits it."""
    generators = [HiddenPath(3, 4, 0.5, seed=s) for s in range(4)]
    for spec in DEFAULT_COMPARISON:
        learner = get_learner(spec)
        strongest = "chosen/full+reward+verifier+demonstration"
        for generator in generators:
            weak, strong = (
                reroot.run(
                    learner,
                    [generator.problem()],
                    generator,
                    grants=grants,
                    budget=reroot.Budget(tokens=800),
                ).attempts[0]
                for grants in (learner.requires, strongest)
            )
            assert weak.output == strong.output
            assert weak.cost == strong.cost
            assert weak.reward == strong.reward


@pytest.mark.slow
def test_same_bytes_whatever_the_concurrency(tmp_path: Path) -> None:
    one = reroot.compare(**SMALL, out=tmp_path / "one", concurrency=1)
    many = reroot.compare(**SMALL, out=tmp_path / "many", concurrency=64)
    assert one.results.equals(many.results)
    for part in ("results.parquet", "problems.parquet", "config.json"):
        assert (one.folder / part).read_bytes() == (many.folder / part).read_bytes()


@pytest.mark.slow
def test_interrupted_run_keeps_what_it_has_and_continues(tmp_path: Path) -> None:
    whole = reroot.compare(**SMALL, out=tmp_path / "whole")
    seen = 0

    def interrupt(_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reroot.compare(**SMALL, out=tmp_path / "run", on_attempt=interrupt, concurrency=5)
    journal = tmp_path / "run" / "journal.jsonl"
    assert len(journal.read_text().splitlines()) == 40
    partial = pl.read_parquet(tmp_path / "run" / "results.parquet")
    assert 0 < len(partial) < len(whole.results)
    started: list[tuple[int, int]] = []
    again = reroot.compare(
        **SMALL, out=tmp_path / "run", on_start=lambda total, done: started.append((total, done))
    )
    assert started[0][1] == 40
    assert (again.folder / "results.parquet").read_bytes() == (
        whole.folder / "results.parquet"
    ).read_bytes()
    assert len(journal.read_text().splitlines()) == started[0][0]


@pytest.mark.slow(1)
def test_another_configuration_is_refused_by_name(tmp_path: Path) -> None:
    reroot.compare(**SMALL, out=tmp_path / "run")
    with pytest.raises(RunFolderError, match="budget"):
        reroot.compare(**{**SMALL, "budget_tokens": 3_000}, out=tmp_path / "run")


@pytest.mark.slow
def test_configured_command_makes_the_same_comparison(tmp_path: Path) -> None:
    import shlex

    from reroot.cli import main

    first = reroot.compare(**SMALL, out=tmp_path / "first")
    command = json.loads((first.folder / "config.json").read_text())["command"]
    main([*shlex.split(command)[1:], "--out", str(tmp_path / "second")])
    for part in ("results.parquet", "config.json"):
        assert (first.folder / part).read_bytes() == (tmp_path / "second" / part).read_bytes()


@pytest.mark.slow
def test_root_reach_and_costs_agree_with_theory(tmp_path: Path) -> None:
    """log_reach is H·log p; best-of-16 passes as 1 − (1 − p^H)^16 says (binomial band, error 1e-4)."""
    from scipy.stats import binom

    result = reroot.compare(
        model="hidden_path:K=4,p=0.5",
        horizons=[3, 5],
        learners=["best_of_n:n=16"],
        grants=["root/sample"],
        budget_tokens=100_000,
        seeds=2,
        problems=100,
        out=tmp_path / "run",
    )
    problems = pl.read_parquet(tmp_path / "run" / "problems.parquet")
    for horizon in (3, 5):
        reach = problems.filter(pl.col("horizon") == horizon)["log_reach"].to_numpy()
        assert reach == pytest.approx(horizon * -0.6931471805599453, abs=1e-12)
        passed = result.results.filter(pl.col("horizon") == horizon)["passed"].sum()
        exact = 1 - (1 - 0.5**horizon) ** 16
        low, high = binom.interval(1 - 1e-4, 200, exact)
        assert low <= passed <= high
    assert (result.results["cost_tokens"] == result.results["horizon"] * 16).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "hiden_path:K=3,H=4,p=0.6"}, "hidden_path"),
        ({"model": "hidden_path:K=1,H=4,p=0.6"}, "K|vocab"),
        ({"model": "hidden_path:K=3,p=0.6", "horizons": []}, "H="),
        ({"model": "hidden_path:K=3,H=4,p=0.2"}, "p"),
        ({"task": "copy"}, "brings its own task"),
        ({"learners": ["best_off_n"]}, "best_of_n"),
        ({"learners": ["best_of_n:m=3"]}, "no parameter 'm'"),
        ({"learners": ["best_of_n", "best_of_n"]}, "repeat"),
        ({"grants": ["rot/sample"]}, "root"),
        ({"grants": ["root/smaple"]}, "sample"),
        ({"grants": []}, "at least one"),
        ({"grants": ["root/sample", "root/sample"]}, "repeat"),
        ({"grants": ["root/none"], "learners": ["greedy_walk"]}, "no contract permits"),
        ({"horizons": [0]}, "horizon"),
        ({"horizons": [2, 2]}, "repeat"),
        ({"horizons": [20_000]}, "10.?000"),
        ({"seeds": 0}, "seeds"),
        ({"problems": 0}, "problems"),
        ({"budget_tokens": 0}, "budget_tokens"),
        ({"budget_tokens": 2}, "no token for each"),
        ({"beta": float("nan")}, "beta"),
        ({"beta": "x"}, "beta"),
        ({"seeds": "1"}, "seeds"),
        ({"grants": "rot/sample"}, "Did you mean 'root'"),
        ({"learners": "best_off_n"}, "best_of_n"),
        ({"grants": [3]}, "contract"),
        ({"model": "hidden_path:K=3,H=0,p=0.6", "horizons": []}, "a horizon|horizon must"),
        ({"concurrency": 0}, "concurrency"),
        ({"model": "ngram:/nowhere/text.txt", "task": "copy"}, "nowhere"),
        ({"model": "/nowhere/model", "task": "copy"}, "nowhere"),
        ({"model": "smollm2", "task": "runing_sum"}, "running_sum"),
    ],
)
def test_bad_input_names_the_value(tmp_path: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        reroot.compare(**{**SMALL, **change}, out=tmp_path / "run")  # type: ignore[arg-type]
    assert not (tmp_path / "run" / "results.parquet").exists()


# ---- what a comparison says of itself ----------------------------------------------------------


def test_root_learners_stay_root_learners_under_stronger_contracts(tmp_path: Path) -> None:
    """Granted only with reset control at T=1, a root-start learner is still root-start."""
    result = reroot.compare(
        model="hidden_trie:K=4,H=4,a=0.45,b=0.3,nodes=8",
        grants=["root/sample@T=3", "reset/sample"],
        learners=["best_of_n:n=16", "first_success"],
        budget_tokens=8_000,
        seeds=1,
        problems=8,
        out=tmp_path / "run",
    )
    assert {x["control"] for x in result.summary["learners"]} == {"root"}
    assert all(v["kind"] == "undetermined" for v in result.summary["verdicts"])


def test_an_edited_task_is_another_configuration(tmp_path: Path) -> None:
    task, text = tmp_path / "task.jsonl", tmp_path / "text.txt"
    text.write_text("Q 1 A 1.\n" * 20)
    settings = {
        "model": f"ngram:{text}:order=3",
        "task": str(task),
        "horizons": [1],
        "seeds": 1,
        "learners": "best_of_n:n=2",
        "grants": "root/sample",
        "out": tmp_path / "run",
    }
    task.write_text('{"prompt": "Q 1 A", "answer": "1.", "stop": ["\\n"], "max_tokens": 6}\n')
    reroot.compare(**settings)
    reroot.compare(**settings)
    task.write_text('{"prompt": "Q 1 A", "answer": "Q.", "stop": ["\\n"], "max_tokens": 6}\n')
    with pytest.raises(RunFolderError, match="the task file changed"):
        reroot.compare(**settings)


def test_judges_are_told_apart_by_their_code() -> None:
    def problem(reward: object) -> reroot.Problem:
        return reroot.Problem("p", (), 3, reward=reward)  # type: ignore[arg-type]

    def strict(output: reroot.Output) -> float:
        return float(all(t == 1 for t in output.tokens))

    def lax(output: reroot.Output) -> float:
        return float(all(t >= 1 for t in output.tokens))

    assert problems_digest([problem(strict)]) == problems_digest([problem(strict)])
    assert problems_digest([problem(strict)]) != problems_digest([problem(lax)])


def test_budget_is_shared_by_the_problems_there_are(tmp_path: Path) -> None:
    task, text = tmp_path / "task.jsonl", tmp_path / "text.txt"
    text.write_text("ab ba.\n" * 20)
    line = '{"prompt": "a", "answer": "b", "max_tokens": 2, "stop": []}'
    task.write_text(f"{line}\n{line}\n")
    result = reroot.compare(
        model=f"ngram:{text}",
        task=str(task),
        horizons=[1],
        seeds=1,
        learners=["first_success:batch=8,growth=1"],
        grants=["root/sample+reward"],
        budget_tokens=16,
        out=tmp_path / "run",
    )
    assert result.results["cost_tokens"].max() > 16 // 8


@pytest.mark.slow(1)
def test_physical_cost_adds_up_over_processes(tmp_path: Path) -> None:
    whole = reroot.compare(**SMALL, out=tmp_path / "run").summary
    again = reroot.compare(**SMALL, out=tmp_path / "run")
    assert again.made == 0
    again = again.summary
    assert whole["physical"]["computed"] > 0
    assert again["physical"] == whole["physical"]
    assert again["seconds"] == whole["seconds"]


def test_tables_of_different_runs_go_together(tmp_path: Path) -> None:
    """Columns have their types also where they hold nothing."""
    easy = reroot.compare(**{**SMALL, "learners": "greedy_walk"}, out=tmp_path / "a").results
    hard = reroot.compare(**{**SMALL, "budget_tokens": 3}, out=tmp_path / "b").results
    assert easy.schema == hard.schema
    assert len(pl.concat([easy, hard])) == len(easy) + len(hard)
    assert easy.schema["error"] == pl.String


@pytest.mark.slow(1)
def test_command_keeps_every_digit_of_beta(tmp_path: Path) -> None:
    run = reroot.compare(**{**SMALL, "beta": 0.1234567891}, out=tmp_path / "a")
    command = json.loads((run.folder / "config.json").read_text())["command"]
    assert "--beta 0.1234567891" in command


def test_a_full_disk_is_named_once_and_helpfully(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal can't be appended to, and then the table can't be written either."""
    write = folders.write_atomically

    def full(path: Path, *content: object) -> None:
        if path.name == "results.parquet":
            raise RunFolderError("can't write the table")
        write(path, *content)  # type: ignore[arg-type]

    def refuse(self: folders.GrowingFile, data: bytes) -> None:
        raise RunFolderError(f"can't write {self.path}: no space. Make room and run again")

    monkeypatch.setattr(folders, "write_atomically", full)
    monkeypatch.setattr(folders.GrowingFile, "add", refuse)
    with pytest.raises(RunFolderError, match=r"jsonl.*Make room"):
        reroot.compare(**SMALL, out=tmp_path / "run")
