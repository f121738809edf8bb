"""Tokens that the generator does not have are refused where a problem meets it, in words."""

from __future__ import annotations

import pytest

from reroot import InvalidInput
from reroot.access.episode import bind
from reroot.families import HiddenPath
from reroot.families.many import ensemble
from reroot.generators.tabular import Tabular
from reroot.tasks.base import Problem


def problem(prompt) -> Problem:
    return Problem(id="it", prompt=prompt, max_tokens=1, reward=lambda output: 1.0)


def test_prompt_tokens_outside_the_vocabulary() -> None:
    generator = Tabular([[0.5, 0.5], [[0.5, 0.5]] * 2])
    assert bind(problem((1,)), generator).prompt == (1,)
    with pytest.raises(
        InvalidInput, match="'it': bad prompt: token 2 is outside the vocabulary 0…1"
    ):
        bind(problem((2,)), generator)


def test_an_index_before_the_prompt_is_no_token() -> None:
    generator = ensemble([HiddenPath(vocab_size=2, horizon=1, p=0.7, seed=i) for i in range(5)])
    assert bind(problem((4,)), generator).prompt == (4,)
    with pytest.raises(InvalidInput, match=r"'it': bad prompt: .*index 0…4, got \(5,\)"):
        bind(problem((5,)), generator)


def test_an_end_token_outside_the_vocabulary() -> None:
    class Odd(Tabular):
        end_token = property(lambda self: 2)  # type: ignore[assignment]

    with pytest.raises(InvalidInput, match="end token 2 is outside its vocabulary 0…1"):
        bind(problem(()), Odd([[0.5, 0.5]]))
