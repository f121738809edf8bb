"""The trainer: its step is an unbiased estimate of ∇J_β, and its arms differ in their starts alone."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest

from reroot import (
    AccessDenied,
    Budget,
    Contract,
    InvalidInput,
    limits,
    objective,
    run,
)
from reroot.access.runner import Attempt
from reroot.experiments.settle import ARMS
from reroot.families import HiddenPath
from reroot.generators.softmax_policy import SoftmaxPolicy
from reroot.generators.tabular import Tabular
from reroot.objective import Tree
from reroot.randomness import keyed_rng, stream_key
from reroot.tasks.base import Problem
from reroot.training import Rule, tabular_training
from reroot.training.strategies import Argmax, Plurality, PluralityFront, Root, Strategy, VineValues
from reroot.types import FloatArray
from toys import play

BETA = 0.3

# ---- training through sessions ------------------------------------------------------------------


def path_run(
    arm: str = "root",
    *,
    H: int = 6,
    seed: int = 0,
    tokens: int | None = 60_000,
    grants: str | Contract | None = None,
    problem: Problem | None = None,
    policy: SoftmaxPolicy | None = None,
    share: float = 0.5,
    rule: Rule | None = None,
) -> tuple[Attempt, SoftmaxPolicy]:
    base = HiddenPath(4, H, 0.5, seed=seed)
    policy = policy or SoftmaxPolicy(base)
    beta = limits.balancing_beta(H, 0.5)
    learner = tabular_training(
        policy=policy,
        rule=rule or Rule(beta),
        objective=lambda: policy.value(base.path, beta),
        target=share * limits.optimal_value(4, H, 0.5, beta),
        strategy=ARMS[arm].strategy,
        update=ARMS[arm].update,
    )
    result = run(
        learner, [problem or base.problem()], policy,
        grants=grants or learner.requires, budget=Budget(tokens=tokens), seed=seed,
    )  # fmt: skip
    (attempt,) = result.attempts
    assert attempt.error is None
    return attempt, policy


def one_step(arm: str, seed: int, start: SoftmaxPolicy, rule: Rule) -> SoftmaxPolicy:
    """A copy of ``start`` after one step of the trainer."""
    policy, base = copy.deepcopy(start), start.base
    assert isinstance(base, HiddenPath)
    strategy = Root() if arm == "root" else PluralityFront(window=99)
    learner = tabular_training(
        policy=policy, rule=rule, objective=lambda: 0.0, target=1.0, strategy=strategy
    )
    limit = Budget(tokens=(rule.groups * rule.size + rule.kl_batch) * base.horizon)
    run(learner, [base.problem()], policy, grants=learner.requires, budget=limit, seed=seed)
    return policy


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["root", "prefix"])
def test_the_step_of_the_trainer_follows_the_gradient_of_J(arm: str) -> None:
    """Mean of 300 steps from one θ against the exact gradient; error rate 1e-5 in all.

    A window as long as the horizon lets the groups of both arms start at the empty prefix.
    """
    from scipy.stats import norm

    base = HiddenPath(3, 3, 0.5, path=(1, 2, 0))
    start = SoftmaxPolicy(base)
    start.update(
        np.array([[1, 2, 0], [1, 0, 0]]), np.array([[0.9, 0.7, 0.5], [0.3, -0.6, 0]]), 1.0, 9
    )
    rule = Rule(BETA, groups=2, size=3, kl_batch=4, rate=0.5, most=100.0)
    tree = Tree.of(base, horizon=3)
    written = tree.with_laws(start.log_laws((), tree.prefixes))
    rewards = np.array([float(y == base.path) for y in tree.outputs])
    exact = 0.5 * objective.gradient(written, tree, rewards, BETA)

    def theta(policy: SoftmaxPolicy) -> FloatArray:
        return np.array([policy.theta(u) for u in tree.prefixes])

    steps = np.array([theta(one_step(arm, i, start, rule)) - theta(start) for i in range(300)])
    error = steps.std(axis=0, ddof=1) / math.sqrt(len(steps))
    moved = error > 1e-12
    z = (steps.mean(axis=0) - exact)[moved] / error[moved]
    assert moved.sum() > 20
    assert np.abs(z).max() < norm.isf(1e-5 / 2 / moved.sum())
    assert np.abs(exact[~moved]).max(initial=0.0) < 1e-12
    assert np.abs(exact / np.where(moved, error, np.inf)).max() > 8  # a step of 0 would be seen


@pytest.mark.slow(1)
@pytest.mark.parametrize("arm", list(ARMS))
@pytest.mark.parametrize("reward", [0.0, 0.7])
def test_equal_rewards_at_the_base_give_exactly_no_step(arm: str, reward: float) -> None:
    if reward and ARMS[arm].update != "rollouts":
        return  # those arms follow every output that was rewarded
    same = Problem("same", (), 8, reward=lambda output: reward, horizon=8)
    attempt, policy = path_run(arm, H=8, problem=same, tokens=20_000, share=2.0)
    assert policy.stored == 0
    assert attempt.cost.rewards > 300
    assert [point[2] for point in attempt.metadata["curve"]] == [
        attempt.metadata["curve"][0][2]
    ] * 2


REQUIRED = {
    "root": "root/sample+reward",
    "prefix": "visited/sample+reward",
    "explore": "visited/sample+reward",
    "replay": "visited/sample+reward",
}


@pytest.mark.parametrize("arm", list(ARMS))
def test_arms_work_under_exactly_the_contract_they_require(arm: str) -> None:
    attempt, _ = path_run(arm, H=8, grants=REQUIRED[arm])
    assert attempt.metadata["reached"] is not None
    assert attempt.contract.startswith(REQUIRED[arm])
    weaker = ["root/sample", "visited/sample"]
    if not ARMS[arm].strategy.from_root:
        weaker.append("root/sample+reward")
        assert attempt.metadata["starts"]["reward"][1] > 0
        assert attempt.cost.queries > 0
    else:
        assert attempt.metadata["starts"]["reward"] == [0, 0]
        assert attempt.cost.queries == 0
    assert attempt.metadata["starts"]["kl"] == [0, 0]
    for grants in weaker:
        with pytest.raises(AccessDenied):
            path_run(arm, H=8, grants=grants)


def test_every_arm_learns_and_says_what_it_shares() -> None:
    found = {arm: path_run(arm, H=8)[0].metadata for arm in ARMS}
    assert len({repr(notes["equal"]) for notes in found.values()}) == 1
    assert found["root"]["equal"]["budget"] == {"tokens": 60_000}
    assert found["root"]["equal"]["rule"]["beta"] == limits.balancing_beta(8, 0.5)
    for notes in found.values():
        tokens, rollouts, value = notes["reached"]
        assert value >= notes["equal"]["target"]
        assert tokens > 8 * rollouts / 4
        assert notes["curve"][-1] == notes["reached"]
        assert 0 < notes["first"] <= rollouts


def test_another_rule_has_another_digest() -> None:
    one = path_run(H=4)[0].metadata["equal"]["config"]
    other = path_run(H=4, rule=Rule(limits.balancing_beta(4, 0.5), rate=31.0))[0]
    assert other.metadata["equal"]["config"] != one
    assert path_run(H=4, tokens=50_000)[0].metadata["equal"]["config"] != one
    assert path_run(H=4, seed=1)[0].metadata["equal"]["config"] == one


@pytest.mark.parametrize("arm", list(ARMS))
def test_equal_seeds_give_equal_numbers(arm: str) -> None:
    first, policy = path_run(arm, H=8, seed=4)
    again, twin = path_run(arm, H=8, seed=4)
    other, _ = path_run(arm, H=8, seed=5)
    assert first.metadata == again.metadata
    assert policy.describe() == twin.describe()
    assert first.cost == again.cost
    assert other.metadata["curve"] != first.metadata["curve"]


def test_arms_of_one_start_are_one_arm() -> None:
    """Where the window covers the horizon, prefix and root arm draw the same numbers."""
    root, prefix = (path_run(arm, H=4)[0].metadata for arm in ("root", "prefix"))
    assert root["curve"] == prefix["curve"]


@pytest.mark.slow
def test_the_wait_of_the_root_arm_is_geometric() -> None:
    """Randomized transforms of 150 waits against the uniform law, by Kolmogorov; error rate 1e-4."""
    from scipy.stats import kstest

    one, waits = 0.5**5, []
    rule = Rule(0.2, groups=2, size=4, kl_batch=1)
    for seed in range(150):
        attempt, _ = path_run(H=5, seed=seed, share=0.08, rule=rule)
        waits.append(attempt.metadata["first"])
    v = keyed_rng(stream_key(0, "t", "waits")).random(len(waits))
    before = 1 - (1 - one) ** (np.array(waits) - 1)
    assert kstest(before + v * (1 - before) * one, "uniform").pvalue > 1e-4


@pytest.mark.parametrize("arm", list(ARMS))
@pytest.mark.parametrize("tokens", [0, 31, 500, 1300, 4000])
def test_a_spent_budget_ends_a_run_with_its_notes(arm: str, tokens: int) -> None:
    attempt, _ = path_run(arm, H=10, tokens=tokens, share=1.5)
    notes = attempt.metadata
    assert attempt.cost.tokens <= tokens
    assert notes["reached"] is None
    assert notes["curve"][0][:2] == [0, 0]
    assert notes["curve"][-1][:2] == [attempt.cost.tokens, attempt.cost.rewards]
    assert attempt.stopped is None
    assert notes["equal"]["budget"] == {"tokens": tokens}


def test_a_budget_in_rewards_ends_a_run_too() -> None:
    base = HiddenPath(4, 6, 0.5)
    policy = SoftmaxPolicy(base)
    learner = tabular_training(
        policy=policy, rule=Rule(0.1), objective=lambda: 0.0, target=1.0, strategy=Root()
    )
    (attempt,) = run(
        learner, [base.problem()], policy, grants=learner.requires, budget=Budget(rewards=130)
    ).attempts
    assert attempt.error is None
    assert attempt.cost.rewards == 128
    assert attempt.metadata["curve"][-1][:2] == [attempt.cost.tokens, 128]


def test_walks_move_up_and_are_kept_while_they_are_rewarded() -> None:
    front, paid = PluralityFront(5, 2), []
    tree = Tabular.random(3, 10, seed=1)
    policy = SoftmaxPolicy(tree)

    async def body(session: Any) -> None:
        for good in (0, 1, 2, 4):
            starts = [await front.start(session) for _ in range(3)]
            paid.append((session.spent.queries, {len(u.prefix) for u in starts}))
            for u in starts:
                front.learn((), u, [1.0] * good + [0.0] * (8 - good))

    problem = Problem("walk", (), 10, reward=lambda output: 0.0, horizon=10)
    result = play(body, "visited/sample", generator=policy, task=problem, seed=3)
    assert [a.error for a in result] == [None]
    spent = [queries for queries, _ in paid]
    assert spent[:2] == [45, 90]  # nothing was rewarded: another walk of nine tokens
    assert spent[2:] == [90, 90]  # kept
    assert all(7 <= min(lengths) <= 9 for _, lengths in paid[:3])  # one in eight is too few
    moved = min(paid[2][1])  # two in eight are enough
    assert moved < 9
    assert all(moved - 2 <= length <= moved for length in paid[3][1])


def test_one_reward_in_a_step_keeps_the_walk_of_all_its_groups() -> None:
    front, paid = PluralityFront(5, 2), []

    async def body(session: Any) -> None:
        for rewards in ([1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]):
            starts = [await front.start(session) for _ in rewards]
            paid.append(session.spent.queries)
            for u, r in zip(starts, rewards, strict=True):
                front.learn((), u, [r] + [0.0] * 7)

    problem = Problem("walk", (), 10, reward=lambda output: 0.0, horizon=10)
    policy = SoftmaxPolicy(Tabular.random(3, 10, seed=1))
    assert play(body, "visited/sample", generator=policy, task=problem)[0].error is None
    assert paid == [45, 45, 45, 90]


@pytest.mark.parametrize("strategy", [Plurality(draws=8), Argmax()])
def test_strategies_of_language_models_train_tables_too(strategy: Strategy) -> None:
    base = HiddenPath(4, 6, 0.5)
    policy, beta = SoftmaxPolicy(base), limits.balancing_beta(6, 0.5)
    learner = tabular_training(
        policy=policy,
        rule=Rule(beta),
        objective=lambda: policy.value(base.path, beta),
        target=limits.optimal_value(4, 6, 0.5, beta) / 2,
        strategy=strategy,
    )
    assert learner.requires == strategy.requires
    (attempt,) = run(
        learner, [base.problem()], policy, grants=strategy.requires, budget=Budget(tokens=10**6)
    ).attempts
    assert attempt.error is None
    assert attempt.metadata["reached"] is not None
    assert attempt.metadata["starts"]["reward"][1] > 0


@pytest.mark.parametrize(
    "changes",
    [
        {"strategy": "root"},
        {"strategy": VineValues()},
        {"update": "rollout"},
        {"rule": 3},
        {"target": math.inf},
    ],
)
def test_wrong_parameters_are_refused_before_anything_runs(changes: dict[str, Any]) -> None:
    given = {"policy": None, "rule": Rule(0.1), "objective": float, "target": 1.0}
    with pytest.raises(InvalidInput):
        tabular_training(**{**given, "strategy": Root(), **changes})
    with pytest.raises(InvalidInput):
        PluralityFront(window=-1)


@pytest.mark.parametrize(
    "changes",
    [
        {"beta": -1.0}, {"beta": math.nan}, {"groups": 0}, {"size": 1}, {"kl_batch": 0},
        {"rate": 0.0}, {"rate": math.inf}, {"most": 0.0},
    ],
)  # fmt: skip
def test_wrong_rules_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        Rule(**{"beta": 0.1, **changes})
