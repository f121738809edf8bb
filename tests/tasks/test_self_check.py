"""The self-check: what is known to be right passes, what is known to be wrong fails, or it is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from commands import call
from reroot.errors import InvalidInput
from reroot.runs.task_check import check
from reroot.tasks import Problem
from reroot.tasks.answers import GivesAnswer, rule
from reroot.tasks.self_check import self_check
from reroot.types import Chat, Output

NUMBER = rule("number")


def problem(id: str = "p", **changes: Any) -> Problem:
    given: dict[str, Any] = {
        "prompt": "1+1?",
        "max_tokens": 9,
        "reward": GivesAnswer(NUMBER, ("2",)),
        "demonstration": "1+1 is\n#### 2",
        "answer": "2",
        "equality": NUMBER,
    }
    return Problem(id=id, **{**given, **changes})


def texts(*problems: Problem, **settings: Any) -> list[str]:
    return [str(fault) for fault in self_check(problems, **settings)]


def test_what_is_right_has_no_faults() -> None:
    assert texts(problem(), problem("q", prompt="2+1?", demonstration=None)) == []


def contains(output: Output) -> float:
    return float("2" in output.text)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"demonstration": "#### 3"},
            "its demonstration has the reward 0, and outputs pass from 1 on",
        ),
        ({"reward": lambda o: 1.0}, "the empty output passes, with the reward 1"),
        ({"reward": lambda o: float(o.text != "")}, "with its last number changed, its demonst"),
        ({"reward": contains, "demonstration": "22"}, "with its last number changed, .*'23'"),
        ({"verifier": lambda o: False}, "its verifier rejects its demonstration"),
        ({"reward": lambda o: "x"}, "the reward must be a finite number, got 'x'"),
        ({"reward": lambda o: 1 / 0}, "the reward raised ZeroDivisionError"),
        ({"pass_at": 2.0}, "has the reward 1, and outputs pass from 2 on"),
    ],
)
def test_faults_of_one_problem(changes: dict[str, Any], said: str) -> None:
    import re

    found = texts(problem(**changes))
    assert any(re.search(f"^p: .*{said}", text) for text in found), found


def test_a_number_that_is_not_the_answer_may_change() -> None:
    assert texts(problem(demonstration="#### 2\nThat took me 1 minute.")) == []


def test_prompts_that_repeat_are_told() -> None:
    again = problem("q")
    near = problem("r", prompt="  1 + 1 ?")
    other = problem("s", reward=GivesAnswer(NUMBER, ("3",)), demonstration="3", answer="3")
    chat = problem("t", prompt=Chat((("user", "1+1?"),)))
    faults = list(self_check([problem(), again, near, other, chat]))
    assert [str(f) for f in faults] == [
        "q: it has the prompt of 'p'",
        "r: it has nearly the prompt of 'p'",
        "s: it has the prompt of 'p' and another answer: '3', '2'",
    ]
    assert not any(f.bad for f in faults)
    assert texts(problem("x", prompt="3-1?"), problem("y", prompt="3+1?")) == []


def test_prompts_to_evaluate_on_must_not_be_trained_on() -> None:
    held = [problem("e", prompt="1+1 ?")]
    assert texts(problem(), against=held) == ["p: its prompt is that of the evaluation problem 'e'"]


def test_what_does_not_fit_is_told() -> None:
    def fit(problem: Problem) -> None:
        raise InvalidInput(
            f"problem {problem.id!r}: 9 prompt tokens + 9 generated tokens exceed 12"
        )

    assert texts(problem(), fit=fit) == ["p: 9 prompt tokens + 9 generated tokens exceed 12"]


def test_the_judge_has_a_time_limit() -> None:
    def slow(output: Output) -> float:
        import time

        time.sleep(5)
        return 1.0

    (said,) = texts(problem(reward=slow), limit=0.05)
    assert "took longer than the time limit of 0.05 s" in said


Write = Callable[..., str]


@pytest.fixture
def data(tmp_path: Path) -> Write:
    def write(*rows: object) -> str:
        path = tmp_path / "t.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return write


def test_tasks_are_checked_by_name(data: Write) -> None:
    found = check("running_sum", problems=3)
    assert (found.checked, found.faults, found.lengths) == (3, (), False)
    path = data(
        {"question": "1+1?", "answer": "1+1\n#### 2"},
        {"question": "1+2?", "answer": "#### 2\nno, #### 3"},
    )
    found = check(path)
    assert (found.checked, found.bad) == (2, ())
    assert found.notes[0].endswith("2 rows, layout gsm8k (prompt = question)")
    assert check(path, against=path).bad == ("t/1", "t/2")


@pytest.mark.slow(1)
def test_the_command(data: Write, capsys: pytest.CaptureFixture[str]) -> None:
    path = data({"q": "1+1?", "a": "2"}, {"q": "1+2?", "a": "3"}, {"q": "1 + 1", "a": "2"})
    assert call("check", path) == 2
    error = capsys.readouterr().err.replace("\n", " ")
    assert "the field 'prompt' is missing" in error
    assert "--map" in error
    assert call("check", path, "--map", "prompt=q,answer=a", "--answer", "number") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "t.jsonl: 3 rows, layout prompt-answer (prompt = q, answer = a)" in said
    assert "note: t/3: it has nearly the prompt of 't/1'" in said
    assert "3 problems, 0 cannot be used; lengths were not checked (--model)" in said
    bad = data({"problem": "1+1?", "solution": "so #### 3", "answer": "2"})
    assert call("check", bad, "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["checked"], found["faults"][0]["problem"]) == (1, "t/1")
    assert "its demonstration has the reward 0" in found["faults"][0]["text"]
    assert call("check", "running_sum", "--answer", "math") == 2
    assert "--answer is for data sets, got running_sum" in capsys.readouterr().err
