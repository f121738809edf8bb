"""Ensembles: one generator of several, by their prompts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from reroot import InvalidInput, Report
from reroot.families import (
    DecoyPath,
    HiddenPath,
)
from reroot.generators.base import Generator, Request
from reroot.generators.ensemble import Ensemble
from reroot.generators.tabular import Tabular
from reroot.types import Output

Tokens = tuple[int, ...]


def members() -> list[Generator]:
    return [*(HiddenPath(6, 4, 0.5, seed=s) for s in range(3)), DecoyPath(6, 4, 2, 0.25, 0.18)]


def test_an_ensemble_answers_as_its_members_do():
    ensemble, alone = Ensemble(members()), members()
    requests = [
        Request(
            (i % 4,), (0,) * (i % 3), n=1 + i, length=2, report=Report.FULL, key=(i, i), first=i
        )
        for i in range(8)
    ]
    assert isinstance(ensemble, Generator)
    assert ensemble.vocab_size == 6
    for i, reply in enumerate(ensemble.answer(requests)):
        (known,) = alone[i % 4].answer([replace(requests[i], prompt=())])
        np.testing.assert_array_equal(reply.tokens, known.tokens)
        np.testing.assert_array_equal(reply.laws, known.laws)
    np.testing.assert_array_equal(
        ensemble.log_laws((3, 2), [(), (1,)]), alone[3].log_laws((), [(2,), (2, 1)])
    )
    assert ensemble.encode("3 2 1") == (3, 2, 1)
    assert ensemble.max_length() == 5


def test_an_ensemble_batches_what_its_members_are_asked_together():
    ensemble = Ensemble(members())
    ensemble.answer([Request((i % 2,), n=5, key=(i, 0)) for i in range(20)])
    assert ensemble.physical().forwards == 2
    assert ensemble.members[2].physical().forwards == 0


def test_problems_of_an_ensemble():
    ensemble = Ensemble([HiddenPath(6, 4, 0.5, seed=0)] * 2 + [HiddenPath(6, 2, 0.5, seed=1)])
    problems = ensemble.problems()
    assert [problem.prompt for problem in problems] == [(0,), (1,), (2,)]
    assert len({problem.id for problem in problems}) == 3
    for problem in problems:
        member = ensemble.members[problem.prompt[0]]  # type: ignore[index]
        assert isinstance(member, HiddenPath)
        path = problem.demonstration
        assert path == member.path
        assert problem.max_tokens == member.horizon
        assert problem.reward(Output(member.path, "", True)) == 1.0
        assert ensemble.max_length() == 5 >= 1 + problem.max_tokens
    with pytest.raises(InvalidInput, match="pass the generator's 2 positions"):
        ensemble.answer([Request((2,), length=3)])


@pytest.mark.parametrize("prompt", [(), (4,), (-1,)])
def test_prompts_that_name_no_member(prompt: Tokens):
    ensemble = Ensemble(members())
    for call in (
        lambda: ensemble.answer([Request(prompt)]),
        lambda: ensemble.log_laws(prompt, [()]),
        lambda: ensemble.encode(" ".join(map(str, prompt))),
    ):
        with pytest.raises(InvalidInput, match="must start with a member's index 0…3"):
            call()


def test_ensembles_refuse_what_does_not_fit_together():
    with pytest.raises(InvalidInput, match="at least one"):
        Ensemble([])
    with pytest.raises(InvalidInput, match="vocabulary size; member 0 has 4, member 1 has 5"):
        Ensemble([HiddenPath(4, 3, 0.5), HiddenPath(5, 3, 0.5)])
    with pytest.raises(InvalidInput, match="end tokens"):
        Ensemble([HiddenPath(4, 3, 0.5), Tabular.random(4, 3, seed=0, end=(1,))])
    with pytest.raises(InvalidInput, match=r"member 1 of the ensemble, .* has no problem\(\)"):
        Ensemble([HiddenPath(4, 3, 0.5), Tabular.random(4, 3, seed=0)]).problems()
