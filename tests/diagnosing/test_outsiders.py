"""Tasks as people bring them: judges that miss, fail or flip, demonstrations that do not fit, and models that never say it."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

import reroot
from reroot.pages.diagnosis.confusion import render
from reroot.runs.diagnosing.cases import all_cases
from reroot.runs.diagnosing.sayings import Sayings
from reroot.runs.diagnosing.selftest import selftest, selftest_summary
from reroot.runs.diagnosing.trained import transformer_cases
from reroot.tasks.base import Problem
from reroot.types import Output

LONG = "first this, then that, so it is 12"
SAID = {
    "boxed?": {"so \\boxed{12}": 0.6, "so \\boxed{7}": 0.4},
    "units?": {"12 km": 0.6, "7 km": 0.4},
    "short?": {LONG: 0.8, "first this, then that, so it is 7": 0.2},
    "flaky?": {"12": 0.6, "7": 0.4},
    "never?": {"7": 1.0},
    "deaf?": {"12": 0.6, "7": 0.4},
}


def _says(answer: str) -> Callable[[Output], float]:
    return lambda output: float(output.complete and output.text == answer)


@pytest.mark.slow(2)
def test_tasks_as_people_bring_them() -> None:
    turns = itertools.count()
    problems = [
        Problem("boxed", "boxed?", 32, _says("12"), answer="12"),
        Problem("units", "units?", 32, _says("12"), answer="12"),
        Problem("short", "short?", 16, _says(LONG), answer=LONG, demonstration=LONG),
        Problem("flaky", "flaky?", 16, lambda o: float(next(turns) % 40 == 0), answer="12"),
        Problem("never", "never?", 16, _says("12"), answer="12", demonstration="12"),
        Problem("deaf", "deaf?", 16, lambda o: 0.0, answer="12", demonstration="12", unique=True),
    ]
    done = reroot.diagnose(Sayings(SAID), problems)
    causes = {key.rpartition("/")[2]: cause for key, cause in done.causes.items()}
    assert causes == {
        "boxed": "judge-limited",
        "units": "format-limited",
        "short": "truncated",
        "flaky": "judge-limited",
        "never": "undetermined",
        "deaf": "judge-limited",
    }
    why = {p["id"].rpartition("/")[2]: p["why"] for p in done.summary["problems"]}
    assert "a demonstration is too rare" in why["never"]
    assert "its demonstration has the reward 0" in why["deaf"]
    assert any("short" in n and "it is left out" in n for n in done.summary["notes"])


@pytest.mark.slow(10)
def test_causes_are_found_on_a_trained_transformer() -> None:
    """Ten cases on one small transformer, trained here: 9 right is the promise, none wrong."""
    summary = selftest_summary(selftest(1, cases=transformer_cases()))
    assert summary["right"] >= 0.9, summary["confusion"]
    assert summary["wrong"] == 0, summary["confusion"]
    assert len(summary["confusion"]) == 8


@pytest.mark.slow(2)
def test_the_table_of_confusion_is_a_page() -> None:
    page = render(selftest_summary(selftest(2, cases=all_cases()[:1]), ["<left out>"]))
    assert "&lt;left out&gt;" in page
    assert "learnable, learnable" in page
