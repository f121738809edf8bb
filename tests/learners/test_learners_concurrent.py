"""Every built-in learner on a generator that answers each request when it can: the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
import test_learners_contracts as contracts

import reroot
from concurrent_toys import Driven, shuffled
from reroot import Budget
from reroot.generators.base import ConcurrentGenerator, Generator
from reroot.learners import get_learner
from transcripts import left_in


@pytest.mark.slow(1)
@pytest.mark.parametrize("spec", contracts.SPECS)
def test_every_learner_leaves_the_same_bytes(spec: str, tmp_path: Path) -> None:
    """Answered all at once, or one by one in two random orders, with other numbers in flight."""
    bound, inner = get_learner(spec), contracts.suited(spec, contracts.ENDING)
    task = contracts.problems(inner, 4)

    def run(generator: Generator, name: str, concurrency: int) -> tuple[object, dict[str, bytes]]:
        result = reroot.run(
            *(bound, task, generator),
            grants=bound.requires,
            budget=Budget(tokens=400),
            out=tmp_path / name,
            transcripts=True,
            concurrency=concurrency,
            on_error="record",
        )
        assert not list((tmp_path / name / "inflight").iterdir())
        return result.attempts, left_in(tmp_path / name)

    expected = run(inner, "plain", 64)
    for seed, concurrency in ((1, 64), (2, 3)):
        with Driven(shuffled(seed, 0.0005), inner) as generator:
            assert isinstance(generator, ConcurrentGenerator)
            assert run(generator, f"seed {seed}", concurrency) == expected
        assert generator.calls == 0  # not one question went the other way
