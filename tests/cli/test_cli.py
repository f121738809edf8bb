"""The command line: what it prints, its exit codes, and its errors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from commands import call
from reroot.specs import split

COMPARE = ["compare", "--model", "hidden_path:K=3,H=4,p=0.6", "--budget-tokens", "1000"]
SMALL = [*COMPARE, "--seeds", "1", "--problems", "2"]


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ("tasks", ["running_sum", "reasoning_gym"]),
        ("learners", ["best_of_n", "visited/sample+verifier"]),
        ("generators", ["smollm2", "hidden_path"]),
        ("contracts", ["reset/", "topk(k)"]),
    ],
)
def test_lists(kind: str, shown: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call("list", kind) == 0
    printed = capsys.readouterr().out
    for text in shown:
        assert text in printed


def test_help_explains(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("compare", "--help") == 0
    printed = capsys.readouterr().out
    for text in ("--grants", "--budget-tokens", "continues", "Example"):
        assert text in printed


@pytest.mark.slow
def test_compare_report_and_audit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    folder = tmp_path / "run"
    assert call(*SMALL, "--out", str(folder), "--transcripts") == 0
    first = capsys.readouterr().out
    assert "first_success" in first
    assert (folder / "report.html").exists()
    (folder / "report.html").unlink()
    assert call("report", str(folder)) == 0
    assert (folder / "report.html").exists()
    transcript = str(next((folder / "transcripts").iterdir()))
    everything = "chosen/full+reward+verifier+demonstration"
    assert call("audit", transcript, everything) == 0
    assert "permitted" in capsys.readouterr().out
    assert call("audit", transcript, "chosen/none") == 1
    assert "weakest contract" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ([*SMALL, "--horizons", "2,x"], "2,x"),
        ([*SMALL, "--horizons", "2,,3"], "2,,3"),
        ([*SMALL, "--grants", "reset/fulll"], "full"),
        ([*SMALL, "--learner", "plurality_wlak"], "plurality_walk"),
        (["report", "nowhere"], "nowhere"),
        (["audit", "nowhere.jsonl", "root/sample"], "nowhere"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str], shown: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--out", str(tmp_path / "run")] if arguments[0] == "compare" else []
    assert call(*arguments, *more) == 2
    printed = capsys.readouterr().err
    assert printed.lstrip().startswith("error: ")
    assert shown in printed
    assert "Traceback" not in printed


def test_unknown_option_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("compare", "--modle", "x") == 2
    assert "--model" in capsys.readouterr().err


def test_grants_with_sampling_settings_are_split_right() -> None:
    assert split("root/sample@T=1,top_p=0.9,reset/full", "@") == [
        "root/sample@T=1,top_p=0.9",
        "reset/full",
    ]


def test_task_settings_are_split_right() -> None:
    assert split("reasoning_gym:chain_sum:min_terms=horizon,max_terms=4,copy", ":") == [
        "reasoning_gym:chain_sum:min_terms=horizon,max_terms=4",
        "copy",
    ]


@pytest.mark.slow(8)
def test_ctrl_c_keeps_finished_attempts(tmp_path: Path) -> None:
    """A real SIGINT: exit code 130, a line that says what to do, and the same command finishes."""
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "reroot", *COMPARE, "--seeds", "4", "--out", str(folder)]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "200"}
    )
    journal = folder / "journal.jsonl"
    deadline = time.monotonic() + 60
    while not (journal.exists() and journal.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "continues" in printed
    kept = len(journal.read_text().splitlines())
    assert kept > 0
    assert (folder / "results.parquet").exists()
    finished = subprocess.run(command, check=False, capture_output=True, text=True, timeout=240)
    assert finished.returncode == 0, finished.stderr
    assert len(journal.read_text().splitlines()) > kept


def test_no_page_without_matplotlib(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison is complete all the same: the table is there, and what to install is said."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert call(*SMALL, "--out", str(tmp_path / "run")) == 0
    printed = capsys.readouterr().out
    assert "first_success" in printed
    assert "pip install reroot[report]" in printed
