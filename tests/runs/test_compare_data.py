"""Comparisons on data sets: no horizon, checked before any token is paid, and what was decided is said."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import reroot
from commands import call
from reroot.errors import InvalidInput, RunFolderError
from reroot.runs.attempts import JUDGE_DOWN


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    text = tmp_path / "text.txt"
    text.write_text("".join(f"{a}+{b}= {a + b}\n\n" for a in range(41) for b in (2, 9)))
    return {
        "model": f"ngram:{text}:order=4",
        "seeds": 1,
        "learners": "best_of_n:n=4",
        "grants": "root/sample",
        "budget_tokens": 2000,
        "out": tmp_path / "run",
    }


def data(folder: Path, *rows: dict[str, Any]) -> str:
    path = folder / "sums.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def rows(count: int = 5) -> list[dict[str, Any]]:
    return [{"prompt": f"{i}+2=", "answer": i + 2, "max_tokens": 4} for i in range(count)]


def test_no_horizon_is_asked_for_and_the_layout_is_said(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    found = reroot.compare(task=data(tmp_path, *rows()), problems=5, **settings)
    config = found.data.config
    assert config["horizons"] == [0]
    assert "--horizons" not in config["command"]
    assert any("5 rows, layout numbers" in note for note in config["notes"])
    assert any("compared as number (the layout decides" in note for note in config["notes"])
    assert {a.passed for a in found.attempts} <= {True, False}
    with pytest.raises(InvalidInput, match="task 'copy' needs horizons"):
        reroot.compare(task="copy", **{**settings, "out": tmp_path / "other"})
    told = reroot.compare(
        task=data(tmp_path, *rows()), horizons=[3], **{**settings, "out": tmp_path / "other"}
    )
    assert any("no horizon knob, [3] are not used" in note for note in told.data.config["notes"])


def test_a_file_of_fewer_rows_than_are_asked_for_shares_the_budget_among_them(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    found = reroot.compare(task=data(tmp_path, *rows()), **settings)
    config = found.data.config
    assert len(found.attempts) == config["problems"] == 5
    assert config["budget"] == {"tokens": 400}
    assert "--problems 8" in config["command"]


def test_an_edited_file_is_another_run(tmp_path: Path, settings: dict[str, Any]) -> None:
    task = data(tmp_path, *rows())
    reroot.compare(task=task, **settings)
    data(tmp_path, *rows(4))
    with pytest.raises(RunFolderError, match="the task file changed since"):
        reroot.compare(task=task, **settings)


def test_what_cannot_be_used_stops_before_any_token_is_paid(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    bad = {"prompt": "9+9=", "answer": 18, "solution": "19", "max_tokens": 4}
    good = [{**row, "solution": str(row["answer"])} for row in rows()]
    task = data(tmp_path, *good, bad)
    with pytest.raises(
        InvalidInput, match=r"1 of 6 problems cannot be used: sums/6: its demonstration"
    ):
        reroot.compare(task=task, problems=6, **settings)
    assert not (tmp_path / "run").exists()
    found = reroot.compare(task=f"{task}:skip_bad=true", problems=6, **settings)
    assert len(found.attempts) == 5
    assert any(
        "sums/6: its demonstration has the reward 0" in n for n in found.data.config["notes"]
    )
    long = {**bad, "solution": "18", "prompt": "9+9=", "max_tokens": 1}
    with pytest.raises(InvalidInput, match="sums/6: bad demonstration"):
        reroot.compare(task=data(tmp_path, *good, long), problems=6, **settings)


JUDGE = """
import os
from pathlib import Path
DOWN = Path(__file__).with_name("down")
CALLS = Path(__file__).with_name("calls")
def near(answer, output):
    with CALLS.open("a") as file:
        file.write(f"{os.getpid()}\\n")
    if DOWN.exists():
        raise ConnectionError("no judge")
    return answer == output.strip()
"""


def judged(folder: Path) -> str:
    (folder / "judge.py").write_text(JUDGE)
    return f"{folder / 'judge.py'}:near"


def test_a_judge_that_is_down_ends_the_run_and_the_same_command_goes_on(
    tmp_path: Path, settings: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    task = data(tmp_path, *rows(40))
    command = [
        *("compare", "--model", settings["model"], "--task", task, "--answer", judged(tmp_path)),
        *("--grants", "root/sample", "--learner", "best_of_n:n=1,oracle=verifier", "--seeds", "1"),
        *("--problems", "40", "--budget-tokens", "400", "--concurrency", "1"),
        *("--out", str(settings["out"])),
    ]
    (tmp_path / "down").touch()
    assert call(*command) == 2  # the self-check meets it before any token is paid
    assert "no judge" in capsys.readouterr().err
    (tmp_path / "down").unlink()
    made = reroot.compare(
        task=f"{task}:answer='{judged(tmp_path)}'",
        problems=40,
        on_start=lambda total, done: (tmp_path / "down").touch(),
        concurrency=1,
        **settings,
    )
    assert len(made.attempts) == JUDGE_DOWN
    assert f"The judge failed {JUDGE_DOWN} times in a row, so 24 were left" in str(made.failures)
    (tmp_path / "down").unlink()
    again = reroot.compare(
        task=f"{task}:answer='{judged(tmp_path)}'", problems=40, concurrency=1, **settings
    )
    assert (len(again.attempts), again.made, again.failures) == (40, 40, None)


@pytest.mark.slow(4)
def test_judges_in_processes_change_nothing(tmp_path: Path, settings: dict[str, Any]) -> None:
    pytest.importorskip("pebble")
    task = f"{data(tmp_path, *rows())}:answer='{judged(tmp_path)}'"
    here = reroot.compare(task=task, problems=5, **settings)
    (tmp_path / "calls").unlink()
    away = {**settings, "out": tmp_path / "away"}
    there = reroot.compare(task=task, problems=5, judge_workers=2, **away)
    assert [(a.reward, a.output) for a in there.attempts] == [
        (a.reward, a.output) for a in here.attempts
    ]
    pids = set((tmp_path / "calls").read_text().split())
    assert pids - {str(os.getpid())}  # all but the self-check


def test_a_judge_that_hangs_is_met_by_the_self_check(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    (tmp_path / "slow.py").write_text("import time\ndef wait(a, o):\n    time.sleep(60)\n")
    task = f"{data(tmp_path, *rows())}:answer='{tmp_path / 'slow.py'}:wait'"
    with pytest.raises(InvalidInput, match=r"took longer than the time limit of 0\.05 s"):
        reroot.compare(task=task, problems=2, judge_timeout=0.05, **settings)


def test_settings_that_are_out_of_range(tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="judge_workers must be an integer"):
        reroot.compare(task=data(tmp_path, *rows()), judge_workers=-1, **settings)
    with pytest.raises(InvalidInput, match="chat_template_kwargs=a=1 is for language models"):
        reroot.compare(task=data(tmp_path, *rows()), chat_template_kwargs="a=1", **settings)
    with pytest.raises(InvalidInput, match="expected 'key=value', got 'thinking'"):
        reroot.compare(
            task=data(tmp_path, *rows()),
            chat_template_kwargs="thinking",
            **{**settings, "model": "smollm2"},
        )
