"""Learners that measure: their estimates against exact values."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

import reroot
from reroot.diagnosis import reach_interval
from reroot.families import Dyck, HiddenPath
from reroot.generators.base import Generator
from reroot.learners.measuring import (
    demonstration_law,
    guarded_rollout,
    reach_clouds,
    rollout,
    value_in_demonstration,
    walked_group,
)
from reroot.learners.measuring.walked import WALKS
from reroot.tasks.base import Problem


def copies(problem: Problem, count: int) -> list[Problem]:
    return [replace(problem, id=f"{problem.id}/{i}") for i in range(count)]


def clouds(
    generator: Generator, problem: Problem, count: int, seed: int, **params: float
) -> np.ndarray:
    """(count, clouds) estimates of independent attempts."""
    found = reroot.run(
        reach_clouds(**params),  # type: ignore[arg-type]
        copies(problem, count),
        generator,
        grants="visited/sample+verifier",
        seed=seed,
    )
    logs = [a.metadata["log_estimates"] for a in found.attempts]
    return np.array([[0.0 if x is None else math.exp(x) for x in row] for row in logs])


def test_estimates_are_unbiased_and_intervals_hold_the_reach() -> None:
    """Hidden path with p = .5, H = 12: reach 2^−12; 40 attempts, error 1e-3."""
    family = HiddenPath(4, 12, 0.5, seed=3)
    z = clouds(family, family.problem(), 40, seed=1, width=9.0) * 2.0**12
    assert z.shape == (40, 8)
    means = z.mean(axis=1)
    assert means.mean() == pytest.approx(1.0, abs=3.3 * means.std(ddof=1) / math.sqrt(40))
    covered = sum(low <= 1.0 <= high for low, high in map(reach_interval, z))
    assert covered >= 33  # of 40 at 95 %


@pytest.mark.slow(3)
def test_many_right_outputs_and_a_small_reach() -> None:
    """Dyck strings: exact reach by the family; the law's own error within 3.3 s.e."""
    family = Dyck(8, noise=0.8, seed=0)
    exact = math.exp(family.log_valid)
    z = clouds(family, family.problem(), 12, seed=2, width=9.0) / exact
    means = z.mean(axis=1)
    assert means.mean() == pytest.approx(1.0, abs=3.3 * means.std(ddof=1) / math.sqrt(12))


def test_more_clouds_until_it_is_sharp_or_the_budget_ends() -> None:
    family = HiddenPath(4, 12, 0.3, seed=3)
    grants = "visited/sample+verifier"
    (few,) = reroot.run(reach_clouds(width=9.0), [family.problem()], family, grants=grants).attempts
    (more,) = reroot.run(
        reach_clouds(width=0.15), [family.problem()], family, grants=grants
    ).attempts
    assert len(few.metadata["log_estimates"]) == 8 < len(more.metadata["log_estimates"])
    assert more.passed  # an accepted output comes with it
    limited = reroot.run(
        reach_clouds(width=0.01),
        [family.problem()],
        family,
        grants=grants,
        budget=f"tokens={few.cost.tokens + 300}",
    ).attempts[0]
    assert limited.cost.tokens <= few.cost.tokens + 300
    assert limited.metadata["log_estimates"][:8] == few.metadata["log_estimates"]


def test_where_nothing_is_accepted_the_place_is_named() -> None:
    family = HiddenPath(4, 6, 0.5, seed=1)
    right = family.problem()
    assert right.verifier is not None
    holds = right.verifier
    deaf = replace(right, verifier=lambda output: len(output.tokens) < 4 and holds(output))
    (found,) = reroot.run(
        reach_clouds(most_draws=200), [deaf], family, grants="visited/sample+verifier"
    ).attempts
    assert found.metadata["stuck"] == 3
    assert found.metadata["log_estimates"] == []
    assert len(found.metadata["acceptance"]) == 3


def test_teacher_forcing_gives_the_law_along_the_demonstration() -> None:
    family = HiddenPath(4, 6, 0.4, seed=1)
    (found,) = reroot.run(
        demonstration_law(), [family.problem()], family, grants="chosen/logprob+demonstration"
    ).attempts
    assert found.metadata["logprobs"] == pytest.approx([math.log(0.4)] * 6)
    assert found.passed


@pytest.mark.parametrize("guard", [False, True])
def test_continuations_of_a_demonstration_pass_as_often_as_its_rest_is_likely(guard: bool) -> None:
    """p = .5, two tokens left: V = 1/4; 400 continuations within 3.3 s.e."""
    family = HiddenPath(4, 6, 0.5, seed=1)
    grants = "chosen/sample+demonstration+reward+verifier"
    for reveal, value in ((4, 0.25), (6, 1.0), (0, 0.5**6)):
        (found,) = reroot.run(
            value_in_demonstration(reveal=reveal, n=400, guard=guard),
            [family.problem()],
            family,
            grants=grants,
        ).attempts
        rewards = found.metadata["rewards"]
        assert np.mean(rewards) == pytest.approx(value, abs=3.3 * math.sqrt(max(value, 0.02) / 400))
        assert found.passed == any(rewards)
        assert found.cost.tokens <= 400 * (6 - reveal)


@pytest.mark.slow(1)
def test_guarded_rollouts_pass_as_often_and_end_at_the_first_rejection() -> None:
    """p = .6, H = 4: reach .13; 1,000 attempts within 3.3 s.e., half the tokens of whole rollouts."""
    family = HiddenPath(4, 4, 0.6, seed=1)
    found = reroot.run(
        guarded_rollout(),
        copies(family.problem(), 1000),
        family,
        grants="visited/sample+verifier",
    )
    reach = 0.6**4
    assert found.pass_rate == pytest.approx(reach, abs=3.3 * math.sqrt(reach / 1000))
    right = family.problem().demonstration
    assert right is not None
    for attempt in found.attempts:
        assert attempt.output is not None
        tokens = attempt.output.tokens
        assert tokens[:-1] == tuple(right[: len(tokens) - 1])
        assert attempt.passed == (tokens == tuple(right))
    spent = sum(a.cost.tokens for a in found.attempts) / 1000
    assert spent <= 1.0 + 0.6 + 2 * 0.36 + 0.1  # pieces of 1, 2 and 1 tokens; whole rollouts: 4


def test_one_rollout_is_what_the_generator_draws() -> None:
    family = HiddenPath(4, 6, 0.5, seed=1)
    (one,) = reroot.run(rollout(), [family.problem()], family, grants="root/sample").attempts
    (same,) = reroot.run(
        "best_of_n:n=1", [family.problem()], family, grants="root/sample+reward"
    ).attempts
    assert one.output == same.output
    assert one.cost.tokens == 6


@pytest.mark.parametrize("walk", ["plurality", "argmax", "verified"])
def test_groups_start_on_walks_as_a_trainers_do(walk: str) -> None:
    """A verified walk stays on the path; the length is uniform below H; what is paid is what is said."""
    family = HiddenPath(4, 8, 0.9, seed=3)
    found = reroot.run(
        walked_group(walk=walk, size=4), copies(family.problem(), 60), family, grants=WALKS[walk]
    ).attempts
    starts = [a.metadata["start"] for a in found]
    assert set(starts) == set(range(8))
    for a in found:
        notes = a.metadata
        assert a.cost.tokens == notes["building"] + 4 * (8 - notes["start"])
        assert len(notes["rewards"]) == 4
    late = [a.metadata["rewards"] for a in found if a.metadata["start"] == 7]
    assert np.mean(late) == pytest.approx(0.9, abs=0.25)


def test_unknown_walks_are_refused() -> None:
    with pytest.raises(reroot.InvalidInput, match="Did you mean 'argmax'"):
        walked_group(walk="argmx", size=4)
