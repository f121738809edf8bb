"""Errors of learners and judges: raised by `run`, told by `compare`, and tried again."""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import Any

import pytest

import reroot
from reroot import InvalidInput, OracleError
from reroot.cli import main
from reroot.runs.suite import run_suite
from toys import as_learner, one_rollout, problem, problems, tree

FAMILY = "hidden_path:K=3,H=3,p=0.6"


def run(**settings: Any) -> reroot.RunResult:
    chosen = {"grants": "root/sample", **settings}
    return reroot.run(as_learner(breaks), problems(6), tree(), **chosen)


broken = {"now": True}
made: list[int] = []


async def breaks(session: Any) -> Any:
    """Fails by a bug of its own on the third attempt, as long as it is broken."""
    made.append(len(made))
    number = made[-1]
    found = await one_rollout(session)
    if number == 2 and broken["now"]:
        raise KeyError("no such thing")
    return found


@pytest.fixture(autouse=True)
def at_first() -> None:
    broken["now"] = True
    made.clear()


def test_the_very_exception_is_raised_with_the_users_line() -> None:
    with pytest.raises(KeyError, match="no such thing") as caught:
        run()
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert frames[-1].filename == __file__
    assert frames[-1].line == 'raise KeyError("no such thing")'


def test_recorded_if_asked_for() -> None:
    attempts = run(on_error="record").attempts
    assert [a.error is None for a in attempts].count(False) == 1
    assert next(a.error.kind for a in attempts if a.error) == "KeyError"
    with pytest.raises(InvalidInput, match="on_error must be 'raise' or 'record', got 'ignore'"):
        run(on_error="ignore")


def test_a_judge_that_raises_is_raised() -> None:
    def reward(output: reroot.Output) -> float:
        raise ZeroDivisionError("no judge today")

    with pytest.raises(OracleError, match="no judge today"):
        reroot.run(as_learner(one_rollout), [problem(reward=reward)], tree(), grants="root/sample")


def test_what_finished_is_recorded_and_only_the_failed_is_made_again(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        run(out=tmp_path, concurrency=1)
    lines = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert [line["problem"] for line in lines] == ["p0", "p1", "p2"]
    assert (tmp_path / "results.parquet").exists()
    broken["now"] = False
    again = run(out=tmp_path, concurrency=1)
    assert len(made) == 3 + 4
    assert all(a.error is None for a in again.attempts)
    made.clear()
    assert again.attempts == run().attempts
    assert len((tmp_path / "journal.jsonl").read_text().splitlines()) == 3 + 4  # nothing is removed


def test_errors_can_be_kept(tmp_path: Path) -> None:
    first = run(out=tmp_path, on_error="record")
    broken["now"] = False
    made.clear()
    assert run(out=tmp_path, keep_errors=True).attempts == first.attempts
    assert not made
    assert all(a.error is None for a in run(out=tmp_path).attempts)
    assert len(made) == 1


@pytest.mark.parametrize("seconds", [0, -1.0, "1", float("nan"), True])
def test_time_limits_are_checked(seconds: Any, tmp_path: Path) -> None:
    for name in ("attempt_timeout", "judge_timeout"):
        with pytest.raises(InvalidInput, match=f"{name} must lie in"):
            run(**{name: seconds})
        with pytest.raises(InvalidInput, match=f"{name} must lie in"):
            reroot.compare(model=FAMILY, out=tmp_path / "run", **{name: seconds})


# ---- comparisons ---------------------------------------------------------------------------------

TASK = """
import pathlib
from reroot import Problem

def problems(horizon, count, seed):
    def reward(output):
        if pathlib.Path({switch!r}).exists():
            raise ConnectionError("the judge is down")
        return 1.0
    return [Problem(f"p{{i}}", "a", 3, reward=reward) for i in range(count)]
"""


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """A comparison whose judge is down while the file ``down`` is there."""
    (tmp_path / "down").touch()
    (tmp_path / "text.txt").write_text("ab ba.\n" * 20)
    (tmp_path / "task.py").write_text(TASK.format(switch=str(tmp_path / "down")))
    return [
        *("compare", "--model", f"ngram:{tmp_path / 'text.txt'}", "--task", str(tmp_path / "task.py")),
        *("--horizons", "1", "--seeds", "1", "--problems", "4", "--learner", "best_of_n:n=1"),
        *("--grants", "root/sample+reward", "--out", str(tmp_path / "run")),
    ]  # fmt: skip


def call(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    try:
        main(arguments)
        code = 0
    except SystemExit as end:
        code = int(str(end.code))
    return code, " ".join(capsys.readouterr().out.split())


@pytest.mark.slow(1)
def test_compare_goes_on_tells_and_tries_again(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = call(arguments, capsys)
    assert code == 3
    assert "4 of 4 attempts failed: 4 × " in said
    assert "the judge is down" in said
    (tmp_path / "down").unlink()
    code, said = call([*arguments, "--keep-errors"], capsys)
    assert code == 3
    assert "4 of 4 attempts failed" in said
    code, said = call(arguments, capsys)
    assert code == 0
    assert "failed" not in said
    assert call(arguments, capsys)[0] == 0


def test_help_says_the_status(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = call(["compare", "--help"], capsys)
    assert code == 0
    assert "exits with 3" in said.replace("│", "")


@pytest.mark.slow(1)
def test_a_suite_tells_failures_of_all_its_parts(arguments: list[str], tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "model": arguments[2], "task": arguments[4], "horizons": [1], "problems": 1, "quick": True,
        "out": tmp_path / "suite",
    }  # fmt: skip
    assert "the judge is down" in str(run_suite("sampling", **settings).failures)
    (tmp_path / "down").unlink()
    assert run_suite("sampling", **settings).failures is None
