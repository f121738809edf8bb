"""A verifier that accepts complete outputs whose reward fails is told of, with an example, everywhere."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import reroot
from reroot import Problem
from reroot.generators import CharNgram
from reroot.pages import report, terminal_table
from reroot.tasks import ExactText, TextPrefix

GENERATOR = CharNgram("the cat\n the cat dog\n the cow\n" * 9, order=3, separator="\n\n")
ANSWER = "cat dog"
EXACT = ExactText(ANSWER)


def problem(verifier: Any, reward: Any = EXACT) -> Problem:
    return Problem(
        id="say it",
        prompt="the ",
        max_tokens=12,
        reward=reward,
        verifier=verifier,
        stop=("\n",),
        horizon=1,
    )


def compared(problem: Problem, out: Path) -> tuple[Any, str, str]:
    """(the comparison, what the terminal shows, the page)."""
    made = reroot.compare(
        generator=GENERATOR,
        problems=[problem],
        learners="tokenwise_rejection",
        grants="visited/sample",
        seeds=6,
        out=out,
    )
    shown = StringIO()
    Console(file=shown, width=400).print(terminal_table(made.summary, 400))
    return made, shown.getvalue(), report(out).read_text(encoding="utf-8")


def test_a_text_that_was_cut_before_its_stop_is_told_of(tmp_path: Path) -> None:
    """ " cat⏎" is cut to " cat", with which the answer starts."""
    made, shown, page = compared(
        problem(lambda output: ANSWER.startswith(output.text)), tmp_path / "a"
    )
    rows = made.results.filter(made.results["accepted"])
    assert 0 < len(rows) == made.summary["accepted_failures"]["attempts"]
    assert not rows["passed"].any()
    assert rows["complete"].all()
    example = made.summary["accepted_failures"]
    assert (example["text"], example["reward"]) == ("cat", 0.0)
    for text in (shown, page):
        assert "Verifier and reward disagree" in text
        assert "has reward 0, and the verifier says True" in text
    assert 'class="warning"' in page


@pytest.mark.slow(1)
@pytest.mark.parametrize("name", ["kit", "none", "raises", "right"])
def test_no_false_alarm(tmp_path: Path, name: str) -> None:
    def raises(output: Any) -> bool:
        if output.complete:
            raise ValueError("not this one")
        return True

    verifier, reward = {
        "kit": (TextPrefix(ANSWER), EXACT),
        "none": (lambda output: not output.complete, EXACT),
        "raises": (raises, EXACT),
        "right": (lambda output: True, lambda output: 1.0),
    }[name]
    made, shown, page = compared(problem(verifier, reward), tmp_path / "a")
    assert made.summary["accepted_failures"] is None
    assert "disagree" not in shown
    assert "Verifier and reward disagree" not in page


def test_it_costs_the_learner_nothing_and_is_asked_of_failures_alone() -> None:
    asked: list[str] = []

    def verifier(output: Any) -> bool:
        asked.append(output.text)
        return True

    best, walk = "best_of_n:n=1", "visited/sample+reward+verifier"
    (attempt,) = reroot.run(best, [problem(verifier)], GENERATOR, grants=walk).attempts
    assert attempt.cost.verifications == 0
    assert attempt.accepted is (None if attempt.passed or not attempt.complete else True)
    assert asked == [] if attempt.accepted is None else [attempt.text]
    good = problem(verifier, lambda output: 1.0)
    asked.clear()
    (attempt,) = reroot.run(best, [good], GENERATOR, grants=walk).attempts
    assert (attempt.passed, attempt.accepted, asked) == (True, None, [])
