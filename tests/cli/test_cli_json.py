"""``--json``, ``--macro`` and ``--lm-eval``: what programs read is JSON and alone on stdout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from commands import call

FAMILY = ["compare", "--model", "hidden_path:K=3,H=4,p=0.6", "--budget-tokens", "1000"]
SMALL = [*FAMILY, "--seeds", "2", "--problems", "2", "--learner", "first_success"]
SMALL += ["--learner", "plurality_walk", "--grants", "root/sample,visited/sample"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "run"
    assert call(*SMALL, "--out", str(path)) == 0
    return path


@pytest.mark.slow
def test_compare_prints_its_summary_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*SMALL, "--out", str(tmp_path / "run"), "--json") == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == json.loads((tmp_path / "run" / "summary.json").read_text())
    assert "report: " in said.err or "no page: " in said.err


@pytest.mark.slow
def test_report_prints_it_too_and_speaks_again_afterwards(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("report", str(folder), "--json", "--macro") == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["kind"] == "compare"
    assert "There is one data set alone" in said.err
    assert call("report", str(folder)) == 0
    assert "control, learner" in capsys.readouterr().out


@pytest.mark.slow
def test_results_in_the_shape_of_the_harness(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One entry per task, learner and contract; each number is that of the summary."""
    file = tmp_path / "results.json"
    assert call("report", str(folder), "--lm-eval", str(file)) == 0
    assert f"lm-eval: {file}" in capsys.readouterr().out.replace("\n", "")
    got, summary = (json.loads(f.read_text()) for f in (file, folder / "summary.json"))
    assert len(got["results"]) == len(summary["cells"]) == 3
    for cell in summary["cells"]:
        name = f"hidden_path/H4 | {cell['short']} | {cell['contract']}"
        one = got["results"][name]
        assert one["acc,none"] == cell["pass_rate"]
        assert one["acc_stderr,none"] == cell["pass_stderr"]
        assert one["alias"].startswith(cell["short"])
        assert got["n-samples"][name] == {"original": 4, "effective": 4}
        assert got["higher_is_better"][name]["acc"] is True
        assert got["configs"][name]["metadata"]["contract"] == cell["contract"]
    for part in ("configs", "versions", "n-shot", "group_subtasks", "n-samples"):
        assert set(got[part]) == set(got["results"])
    assert got["config"]["model_args"] == f"model={summary['model']}"


def test_other_folders_have_none_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text('{"kind": "train"}')
    for option in (["--macro"], ["--lm-eval", "x.json"]):
        assert call("report", str(tmp_path), *option) == 2
        assert f"{option[0]} is for folders of compare" in capsys.readouterr().err.replace("\n", "")
