"""Every built-in learner in served sessions: attempts and transcripts are those of a run in process."""

from __future__ import annotations

from pathlib import Path

import pytest
import test_learners_contracts as contracts

import reroot
from reroot import Budget
from reroot.generators.base import Generator
from reroot.learners import get_learner
from reroot.tasks.base import Problem
from serving_toys import serving
from transcripts import left_in


@pytest.mark.slow(1)
@pytest.mark.parametrize("spec", contracts.SPECS)
def test_every_learner_leaves_the_same_bytes_over_the_wire(spec: str, tmp_path: Path) -> None:
    bound, inner = get_learner(spec), contracts.suited(spec, contracts.ENDING)
    task = contracts.problems(inner, 2)

    def run(generator: Generator, problems: list[Problem], name: str) -> object:
        result = reroot.run(
            *(bound, problems, generator),
            grants=bound.requires,
            budget=Budget(tokens=150),
            out=tmp_path / name,
            transcripts=True,
            concurrency=2,
            on_error="record",
        )
        assert not list((tmp_path / name / "inflight").iterdir())
        return result.attempts, left_in(tmp_path / name)

    expected = run(inner, task, "here")
    with serving(inner, task, tmp_path) as server:
        wall = server.connect("learners", str(bound.requires))
        assert run(wall, wall.problems(), "there") == expected
        spent = wall.account()["spent"]
        wall.close()
    attempts = expected[0]  # type: ignore[index]
    assert spent == sum((a.cost for a in attempts), reroot.Cost()).to_dict()
