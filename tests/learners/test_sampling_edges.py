"""Sampling methods where budgets are small, verifiers reject everything, rewards say nothing, or β is tiny."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import reroot
from reroot import Budget, InvalidInput
from reroot.access.runner import Attempt
from reroot.certify import cases_of
from reroot.generators.tabular import Tabular
from reroot.learners import get_learner
from reroot.tasks.base import Problem
from reroot.types import Output

TREE = Tabular.random(3, 4, seed=3, end=(2,))
LONG = Tabular.random(3, 8, seed=2)


def made(
    spec: str,
    generator: Tabular = TREE,
    reward: Callable[[Output], float] = lambda output: float(output.tokens[0] == 0),
    verifier: Callable[[Output], bool] = lambda output: output.tokens[:1] in ((), (0,)),
    n: int = 20,
    **budget: int,
) -> list[Attempt]:
    learner = get_learner(spec)
    problem = Problem("p", (), generator.horizon, reward=reward, verifier=verifier)
    result = reroot.run(
        learner,
        [replace(problem, id=f"{i}") for i in range(n)],
        generator,
        grants=learner.requires,
        budget=Budget(**budget),
    )
    assert all(a.error is None for a in result.attempts)
    return list(result.attempts)


def reward_of(attempt: Attempt) -> float:
    assert attempt.reward is not None
    return attempt.reward


@pytest.mark.parametrize("twist", ["verifier", "none"])
def test_vgb_ends_where_there_is_nowhere_to_go(twist: str) -> None:
    """Nothing is worth anything: the walk asks nothing new, so no budget ends it."""
    found = made(
        f"vgb:twist={twist},steps=4", reward=lambda o: 0.0, verifier=lambda o: False, tokens=50
    )
    assert all(a.complete and not a.metadata["leaf"] for a in found)


def test_a_walk_that_is_left_at_a_prefix() -> None:
    spec = "vgb:beta=0.3,steps=1,checks=1,complete="
    whole, part = (made(spec + c, reward=lambda o: 0.0) for c in ("true", "false"))
    assert [a.metadata for a in whole] == [a.metadata for a in part]
    assert all(a.complete for a in whole)
    assert not any(a.complete for a in part if not a.metadata["leaf"])
    with pytest.raises(InvalidInput, match="complete must be True or False, got 1"):
        get_learner("vgb:complete=1")


def test_action_rejection_draws_from_the_law_where_no_child_is_worth_anything() -> None:
    found = made("action_rejection", verifier=lambda o: False, reward=lambda o: 0.0)
    assert all(a.complete for a in found)
    assert len({a.output.tokens for a in found if a.output}) > 1


@pytest.mark.slow(1)
@pytest.mark.parametrize("calls", [1, 5, 8, 20])
@pytest.mark.parametrize(
    "spec",
    [
        "verifier_tree_search:subtrees=none,width=4",
        "beam_search:width=4",
        "beam_search:width=4,verify=true",
        "segment_tree:width=none,segment=2,branching=4",
        "smc:particles=none,beta=0.3",
        "softmax_rejection:beta=0.5,bound=4",
        "inference_time_pessimism:n=8",
        "vgb:beta=0.3,steps=8",
    ],
)
def test_as_wide_as_the_budget_carries(spec: str, calls: int) -> None:
    """A budget for one output gives one; a budget for none keeps what there is and is not overspent."""
    for attempt in made(spec, calls=calls):
        assert attempt.cost.rollouts + attempt.cost.queries <= calls
        one_by_one = "search" in spec or spec.startswith(("smc", "vgb", "segment"))
        if calls >= TREE.horizon or not one_by_one:
            assert attempt.complete


@pytest.mark.parametrize(
    ("spec", "generator"),
    [
        ("verifier_tree_search:subtrees=none,width=2", TREE),
        ("segment_tree:width=none,segment=2,branching=2", TREE),
        ("smc:particles=none,beta=0.3", TREE),
        ("tree_rollouts:chains=2,rounds=1000", LONG),
    ],
)
def test_without_a_number_the_budget_is_used_up(spec: str, generator: Tabular) -> None:
    """Outputs end early, and what they leave pays for more (rewards that never pass)."""
    found = made(spec, generator, reward=lambda output: 0.0, tokens=200)
    assert sum(a.cost.tokens for a in found) > 0.9 * 200 * len(found)


@pytest.mark.slow(1)
def test_diligent_search_starts_again_until_one_passes() -> None:
    right = (1, 0, 2, 1, 0, 2, 1, 0)
    spec = "diligent_search:tries=3,verify=true,searches="
    rules = {
        "reward": lambda output: float(output.tokens == right),
        "verifier": lambda output: output.tokens == right[: len(output.tokens)],
    }
    once = sum(map(reward_of, made(spec + "1", LONG, **rules, tokens=400)))  # type: ignore[arg-type]
    again = sum(map(reward_of, made(spec + "none", LONG, **rules, tokens=400)))  # type: ignore[arg-type]
    assert again >= once + 5


def test_a_search_without_an_end_is_refused() -> None:
    learner = get_learner("diligent_search:searches=none,verify=true")
    problem = Problem("p", (), 4, reward=lambda o: 0.0, verifier=lambda o: False)
    (attempt,) = reroot.run(
        learner, [problem], TREE, grants=learner.requires, on_error="record"
    ).attempts
    assert "may never end" in str(attempt.error)


@pytest.mark.slow(1)
@pytest.mark.parametrize(
    "spec",
    ["segment_tree:width=8,segment=2", "verifier_tree_search:subtrees=4,width=1", "best_of_n:n=8"],
)
def test_few_rewards_are_used(spec: str) -> None:
    found = made(spec, n=50, tokens=400, rewards=2)
    assert all(a.cost.rewards == 2 for a in found)


def test_tree_search_without_rewards_keeps_its_rollout() -> None:
    assert all(a.complete for a in made("tree_search:children=2", rewards=0))


def test_smc_keeps_drawn_tokens_whose_twist_it_cannot_pay() -> None:
    spec = "smc:particles=1,beta=0.3,twist=rollouts,samples=2"
    assert all(a.complete for a in made(spec, n=50, tokens=4))


@pytest.mark.parametrize(
    "spec",
    ["inference_time_pessimism:n=64", "soft_best_of_n:n=64", "softmax_rejection:n=64,bound=4"],
)
def test_tiny_beta_is_the_best(spec: str) -> None:
    found = made(f"{spec},beta=1e-17", n=50)
    assert sum(map(reward_of, found)) == len(found)


@pytest.mark.parametrize("spec", ["vgb:beta=1e-310", "smc:beta=1e-310"])
def test_a_beta_that_no_float_can_divide_by_is_refused(spec: str) -> None:
    with pytest.raises(InvalidInput, match="beta"):
        get_learner(spec)


def test_beam_search_verifies_each_prefix_once() -> None:
    seen: list[Any] = []

    def verifier(output: Output) -> bool:
        seen.append(output.tokens)
        return True

    made("beam_search:width=3,verify=true", reward=lambda output: 1.0, verifier=verifier, n=1)
    assert len(seen) == len(set(seen)) > 0


@pytest.mark.slow(1)
def test_every_certificate_is_left_standing_by_small_budgets() -> None:
    """The learners of the certificates, as they are there, on next to nothing."""
    for case in cases_of():
        problem = case.toy.problem(case.beta)
        for budget in (Budget(tokens=0), Budget(tokens=2), Budget(calls=1), Budget(rewards=0)):
            result = reroot.run(
                case.learner, [problem], case.toy.generator, grants=case.grants, budget=budget
            )
            assert result.attempts[0].error is None, (case.learner.label, budget)
