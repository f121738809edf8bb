"""Where rollouts are lost: places of right outputs on generators whose values are known."""

from __future__ import annotations

import json
from typing import Any

import pytest

import reroot
from reroot.access.episode import bind
from reroot.families import HiddenPath
from reroot.pages.diagnosis.page import render
from reroot.pages.diagnosis.places import marked
from reroot.runs.diagnosing.losses import Losses
from reroot.runs.diagnosing.sayings import Sayings
from reroot.tasks.base import Problem
from reroot.types import Output


def _problem(said: dict[str, float], demonstration: str | None, room: int = 16) -> Any:
    """Every text that ends in z is right."""

    def reward(output: Output) -> float:
        return float(output.complete and output.text.endswith("z"))

    problem = Problem("p", "q?", room, reward, demonstration=demonstration)
    return Sayings({"q?": said}), [problem]


ABZ = {"no": 0.98, **{f"a{letter}z": 0.004 for letter in "bcdef"}}
"""V = .02 at the root and 1 after "a"; which of five letters comes next does not matter."""


@pytest.mark.slow(2)
def test_a_bottleneck_is_told_from_paraphrase() -> None:
    done = reroot.diagnose(*_problem(ABZ, "abz"), budget_tokens=20_000).summary
    (problem,) = done["problems"]
    assert problem["cause"] == "access-limited"
    first, second = problem["lost"]["places"]
    assert (first["text"], first["is"]) == ("a", "bottleneck")
    assert first["probability"] == pytest.approx(0.02)
    assert first["after"] == second["before"] == [64, 64]
    assert (second["text"], second["is"]) == ("b", "paraphrase")
    assert second["probability"] == pytest.approx(0.2)
    assert problem["lost"]["level"] == "token"
    page = render(done)
    assert "[0.02 bottleneck]" in page
    assert "[0.2 paraphrase]" in page
    json.dumps(problem["lost"])


def test_the_only_right_output_is_lost_at_its_rare_tokens() -> None:
    """ρ is the probability of the token: teacher forcing tells, and no rollout is drawn for it."""
    family = HiddenPath(8, 12, 0.2, seed=0)
    done = reroot.diagnose(family, [family.problem()], budget_tokens=20_000)
    (problem,) = done.summary["problems"]
    assert problem["lost"]["how"].startswith("teacher forcing")
    assert [p["is"] for p in problem["lost"]["places"]] == ["bottleneck"] * 12
    assert not any("/value/" in key for key in done.attempts)


@pytest.mark.slow(2)
def test_long_texts_are_looked_at_step_by_step() -> None:
    """The second sentence is right in 2 % of outputs whose first is; the others always are."""
    head, tail = "We write down what is given. ", " That is what was asked for, so we end with z"
    said = {f"{head}It is so.{tail}": 0.02, f"{head}It is not.": 0.98}
    demonstration = f"{head}It is so.{tail}"
    done = reroot.diagnose(*_problem(said, demonstration, 96), budget_tokens=60_000).summary
    lost = done["problems"][0]["lost"]
    assert lost["level"] == "step"
    told = {place["text"].strip(): place["is"] for place in lost["places"]}
    assert told["It is so."] == "bottleneck"
    assert "bottleneck" not in {told[text] for text in told if text != "It is so."}
    assert "".join(place["text"] for place in lost["places"]) == "".join(
        t for t, _ in lost["tokens"]
    )


def test_a_text_that_is_no_prefix_of_the_next_and_line_breaks_are_shown() -> None:
    place = {
        "start": 1,
        "end": 2,
        "text": "<b>\n",
        "probability": 0.1,
        "is": "unknown",
        "before": None,
        "after": [3, 64],
    }
    shown = marked(
        {
            "of": "it",
            "how": "rollouts",
            "level": "token",
            "tokens": [["x", 1.0], ["<b>\n", 0.1]],
            "places": [place],
        }
    )
    assert "&lt;b&gt;↵" in shown
    assert "[0.1 unknown]" in shown


def test_places_are_unknown_until_both_sides_have_all_rollouts() -> None:
    generator, (problem,) = _problem(ABZ, "abz")
    episode = bind(problem, generator)
    lost = Losses(episode, "it", [-4.0, -1.6, -0.1, 0.0], exact=False)
    assert lost.sides() == [0, 1, 2]
    lost.add(1, 16, 16)
    lost.add(0, 0, 16)
    assert lost.worth_more() == [0, 1]  # nothing is known after "ab" yet
    assert {str(lost.place(c)) for c in lost.candidates()} == {"unknown"}
    lost.add(1, 48, 48)
    lost.add(0, 0, 48)
    assert str(lost.place(lost.candidates()[0])) == "bottleneck"
