"""Records of training runs: nothing is lost, and the committed one bears out what the docs say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from commands import call
from reroot.errors import RunFolderError
from reroot.pages.training.data import TrainingRun, last_passes, load_training, passes
from reroot.pages.training.page import load_runs, render
from reroot.pages.training.record import read_record, write_record
from training_runs import write_run

RESULTS = Path(__file__).parents[2] / "docs" / "results"


@pytest.fixture
def runs(tmp_path: Path) -> list[TrainingRun]:
    known = {"t1": "root", "t2": "adaback"}
    unfinished = write_run(tmp_path / "t3", "plurality", steps=33, end=None)
    return load_runs([*(write_run(tmp_path / k, arm) for k, arm in known.items()), unfinished])


@pytest.mark.slow(1)
def test_a_record_holds_what_the_folders_hold(runs: list[TrainingRun], tmp_path: Path) -> None:
    file = write_record(runs, tmp_path / "r.parquet")
    found = read_record(file)
    for mine, known in zip(found, runs, strict=True):
        for part in ("config", "contract", "steps", "evaluations", "events", "end"):
            assert getattr(mine, part) == getattr(known, part)
    page = render(found).replace(str(file), str(tmp_path))
    assert page == render(runs)


def test_its_columns_are_the_numbers(runs: list[TrainingRun], tmp_path: Path) -> None:
    table = pl.read_parquet(write_record(runs, tmp_path / "r.parquet"))
    for run in runs:
        mine = table.filter(pl.col("run") == run.folder.name)
        assert set(mine["arm"]) == {run.arm}
        assert set(mine["command"]) == {run.config["command"]}
        steps = mine.filter(pl.col("name").str.starts_with("step/"))
        for key in ("step", "tokens", "root", "prefix", "zero_variance", "groups", "start"):
            assert steps[key].to_list() == [line[key] for line in run.steps]
        evaluations = mine.filter(pl.col("name").str.starts_with("eval/"))
        assert evaluations["tokens"].to_list() == [line["tokens"] for line in run.evaluations]
        known = [passes(line) for line in run.evaluations]
        assert evaluations["root_pass"].to_list() == [p.root for p in known]
        assert evaluations["prefix_pass"].to_list() == [p.prefix for p in known]


@pytest.mark.slow(1)
def test_the_command_writes_and_reads_records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    folder, record = write_run(tmp_path / "a"), tmp_path / "kept.parquet"
    assert call("report", str(folder), "--record", str(record)) == 0
    assert f"record: {record}" in capsys.readouterr().out
    other = write_run(tmp_path / "b", "root")
    assert call("report", str(record), str(other)) == 0
    page = (tmp_path / "kept.html").read_text(encoding="utf-8")
    assert "2 training runs" in page


def test_what_is_no_record_is_named(runs: list[TrainingRun], tmp_path: Path) -> None:
    def refused(said: str, do: Any, *arguments: Any) -> None:
        with pytest.raises(RunFolderError, match=said):
            do(*arguments)

    again = load_training(write_run(tmp_path / "more" / "t1"))
    refused("different folder names", write_record, [*runs, again], tmp_path / "r.parquet")
    refused(r"ends in \.parquet", write_record, runs, tmp_path / "r.csv")
    refused("can't read", read_record, tmp_path / "none.parquet")
    file = tmp_path / "x.parquet"
    file.write_text("no table")
    refused("can't read", read_record, file)
    pl.DataFrame({"run": ["a"]}).write_parquet(file)
    refused("is no record", read_record, file)
    row = {"run": ["a"], "config": ['{"kind": "train"}'], "line": ['{"name": "step/1"}']}
    pl.DataFrame(row).write_parquet(file)
    refused("run 'a'.*step must be", read_record, file)
    pl.DataFrame(row).clear().write_parquet(file)
    refused("of no training run", read_record, file)


@pytest.mark.parametrize("task", ["copy", "increment"])
def test_the_committed_curves_are_those_of_the_benchmark_and_bear_the_claim_out(task: str) -> None:
    """SmolLM2 from the root and from prefixes: demonstrations teach what the root hardly ever meets."""
    docs = (RESULTS.parent / "post_training.md").read_text(encoding="utf-8")
    arms: dict[str, list[TrainingRun]] = {}
    for run in load_runs([RESULTS / f"curves-{task}.parquet"]):
        arms.setdefault(run.arm, []).append(run)
        assert run.folder.name == f"{task}-{run.arm}-{run.config['seed']}"
        assert run.config["budget"] == {"tokens": 9000}
        assert run.tokens >= 0.95 * 9000
        assert run.end is not None
        assert run.end["reason"] == "budget"
        assert f"{run.tokens:,}" in docs
    assert set(arms) == {"root", "r3", "adaback", "verified", "plurality"}
    assert {len(runs) for runs in arms.values()} == {3}
    settings = [{**run.config, "seed": 0} for runs in arms.values() for run in runs]
    for key in ("task", "horizon", "learning_rate", "groups", "size", "last_layers", "problems"):
        assert len({str(one[key]) for one in settings}) == 1, key

    def at_the_end(arm: str) -> list[float]:
        return [last_passes(run).root for run in arms[arm]]  # type: ignore[union-attr,misc]

    shown = ", ".join(f"{x:.0%}" for x in at_the_end("adaback"))
    assert shown in docs
    assert min(at_the_end("adaback")) > 0.4
    if task == "copy":
        assert at_the_end("root") == [0, 0, 0]
        assert all(run.zero_variance() == 1 for run in arms["root"])
    else:
        assert sorted(at_the_end("root"))[:2] == [0, 0]
