"""How outputs are cut into steps, and how scores of steps become the value of a prefix."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reroot import InvalidInput, Output
from reroot.tasks.step_values import AGGREGATES, Asked, StepRule, StepValue


class Lengths:
    """Scores a step by its length, and notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Asked, ...]] = []

    def step_scores(self, asked: Sequence[Asked], last: bool) -> list[tuple[float, ...]]:
        self.asked.append(tuple(asked))
        scores = [tuple(1 / len(step.strip()) for step in one.steps) for one in asked]
        return [some[-1:] if last else some for some in scores]


def begun(text: str) -> Output:
    return Output((), text, complete=False)


def ended(text: str) -> Output:
    return Output((), text, complete=True)


@pytest.mark.parametrize("step", ["\n\n", "\n", " ки", "<extra_0>"])
def test_steps_are_what_stands_between_separators(step: str) -> None:
    rule = StepRule(step)
    text = f" One is 1.{step}Two is 2.{step}Thr"
    assert rule.cut(begun(text)) == (" One is 1.", "Two is 2.")
    assert rule.cut(ended(text)) == (" One is 1.", "Two is 2.", "Thr")
    assert StepRule(step, unfinished=True).cut(begun(text)) == rule.cut(ended(text))
    assert rule.cut(ended(f"{step}a{step} {step}{step}b{step}")) == ("a", "b")
    assert rule.cut(begun(step[:-1])) == ()


@given(st.lists(st.text("ab", min_size=1, max_size=6), min_size=1, max_size=5))
def test_values_are_the_aggregates_of_scores(steps: list[str]) -> None:
    text, scores = "\n\n".join(steps), [1 / len(step) for step in steps]
    found = {
        of: StepValue(Lengths(), "q", StepRule(of=of))(ended(text))
        for of in ("last", "min", "prod", "mean")
    }
    assert found == {
        "last": scores[-1],
        "min": min(scores),
        "prod": math.prod(scores),
        "mean": sum(scores) / len(scores),
    }
    assert set(found) == set(AGGREGATES)


@pytest.mark.parametrize("of", AGGREGATES)
def test_prefixes_are_scored_together_and_those_without_a_step_are_worth_one(of: str) -> None:
    lengths = Lengths()
    value = StepValue(lengths, "q", StepRule(of=of))
    outputs = [begun("aa"), begun("aa\n\nb"), ended(""), ended("aaa")]
    assert value.batch(outputs) == [1.0, 1 / 2, 1.0, 1 / 3]
    assert lengths.asked == [(Asked("q", ("aa",)), Asked("q", ("aaa",)))]
    assert [value(output) for output in outputs] == value.batch(outputs)
    assert value.batch([begun("")]) == [1.0]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"step": ""}, "step must be the text that ends a step, got ''"),
        ({"step": 3}, "got 3"),
        ({"of": "max"}, "of must be one of last, min, prod, mean, got 'max'"),
        ({"unfinished": 1}, "unfinished must be true or false, got 1"),
    ],
)
def test_bad_rules_are_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        StepRule(**wrong)  # type: ignore[arg-type]
