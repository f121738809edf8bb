"""PG-OR and PG-PR: exact updates and accounts by enumeration, and the contracts they run under."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from reroot import AccessDenied, Budget, InvalidInput, run
from reroot.experiments.likelihood_events import Gaps, outcome, outcome_fixed, process
from reroot.families import Planted, Staircase
from reroot.runs.enumerated import enumerate_runs
from reroot.training import pg_or, pg_pr


def planted(m: int = 2, N: int = 2, K: int = 2, seed: int = 0, scale: float = 1.0) -> Planted:
    """Slots shared here and there, with the token before in them; vectors in the plane."""
    rng = np.random.default_rng(seed)
    slots = rng.integers(9, size=(m, N, K, K))
    slots.ravel()[0] = 8
    vectors, weights = rng.normal(size=(m, 2)), scale * rng.normal(size=(9, 2))
    law = rng.dirichlet(np.ones(m))
    return Planted(rng.integers(K, size=(m, N)), slots, vectors, law, weights)


def expected_update(learner, policy: Planted) -> np.ndarray:
    """E Σ A_i·∇ log p over the runs of one round at rate 0, by enumeration."""
    runs = enumerate_runs(
        learner, policy.problem(), policy, grants=str(learner.requires), choices=True, limit=5000
    )
    assert sum(r.probability for r in runs) == pytest.approx(1.0)
    total = np.zeros(policy.weights.shape)
    for r in runs:
        for *string, count in r.attempt.metadata.get("credited", ()):
            credit = np.arange(len(string) - policy.context_length) < count
            total += r.probability * policy.gradient(string, credit.astype(float))
    return total


def test_on_policy_the_expected_update_is_the_gradient_of_the_reward():
    policy = planted(m=2, N=2, K=2)
    found = expected_update(pg_or(policy=policy, rounds=1, rate=0.0, keep=True), policy)
    at, h = policy.weights, 1e-6
    known = np.zeros(at.shape)
    for i in np.ndindex(at.shape):
        values: list[float] = []
        for sign in (1, -1):
            moved = at.copy()
            moved[i] += sign * h
            with policy.at(moved):
                values.append(policy.success())
        known[i] = (values[0] - values[1]) / (2 * h)
    assert np.abs(known).max() > 0.01
    assert np.abs(found - known).max() < 1e-8


def test_off_policy_the_expected_update_is_the_proposals_likelihood_times_the_score():
    policy = planted(seed=1)
    q = 0.5 * np.exp(policy.log_likelihoods()) + 0.5 * 0.25
    learner = pg_or(policy=policy, rounds=1, own=False, proposals=1, rate=0.0, keep=True)
    score = [policy.gradient(policy.string(x, y)) for x, y in enumerate(policy.answers.tolist())]
    known = sum(policy.law[x] * q[x] * score[x] for x in range(2))
    assert np.abs(expected_update(learner, policy) - known).max() < 1e-12


@pytest.mark.parametrize(("explore", "answer", "known"), [(0.0, [0, 1], 2.96875), (0.5, [1], 1.75)])
def test_verifications_of_a_round_have_their_formula(
    explore: float, answer: list[int], known: float
):
    # 1 + (1 − p(y*))·Σ_i Π_{j≤i} s_j/q_i, s = 1 − (1 − q)^m, of uniform tokens
    uniform = Planted.table([answer], 2)
    learner = pg_pr(policy=uniform, rounds=1, tries=2, explore=explore, rate=0.0)
    runs = enumerate_runs(
        learner, uniform.problem(), uniform, grants=str(learner.requires), choices=True
    )
    cost = math.fsum(r.probability * r.attempt.cost.verifications for r in runs)
    assert cost == pytest.approx(known, abs=1e-12)


def test_verifications_of_a_skewed_policy_with_two_contexts():
    policy = planted(seed=3)
    learner = pg_pr(policy=policy, rounds=1, tries=2, explore=0.0, rate=0.0)
    runs = enumerate_runs(learner, policy.problem(), policy, grants=str(learner.requires))
    cost = math.fsum(r.probability * r.attempt.cost.verifications for r in runs)
    q = np.exp(policy.token_log_likelihoods())
    s = 1 - (1 - q) ** 2
    walks = ((np.cumprod(s, axis=1) / q).sum(axis=1)) * (1 - q.prod(axis=1))
    # the product up to i, over s_i/q_i: s_i/q_i tries at i if all before were found
    assert cost == pytest.approx(1 + policy.law @ walks, abs=1e-12)


def test_contracts_are_the_weakest_and_are_enforced():
    policy, problem = planted(), planted().problem()
    for learner, needs in (
        (pg_or(policy=policy, rounds=3), "root/sample+reward"),
        (pg_or(policy=policy, rounds=3, own=False, proposals=1), "root/sample+reward"),
        (pg_or(policy=policy, rounds=3, proposals=2), "visited/sample+reward"),
        (pg_or(policy=planted(m=1), rounds=3, proposals=2), "root/sample+reward"),
        (pg_pr(policy=policy, rounds=3, tries=2, explore=0.0), "visited/sample+verifier"),
        (pg_pr(policy=policy, rounds=3, tries=2), "reset/sample+verifier"),
    ):
        assert str(learner.requires) == needs
        own = learner.params["policy"]
        (one,) = run(learner, [own.problem()], own, grants=needs).attempts
        assert one.metadata["rounds"] == 3
    with pytest.raises(AccessDenied):
        run(
            pg_pr(policy=policy, rounds=1, tries=2),
            [problem],
            policy,
            grants="root/sample+verifier",
        )


def test_proposals_are_drawn_at_the_base_and_the_policy_keeps_its_own_weights():
    policy = Planted.table([[0, 0, 0]], 2)
    sure = np.zeros(policy.weights.shape)
    sure[::2] = 50.0  # the base is always right, the policy in 1 of 8
    learner = pg_or(policy=policy, rounds=40, proposals=1, base=sure, explore=0.0)
    (one,) = run(learner, [policy.problem()], policy, grants=str(learner.requires)).attempts
    assert one.metadata["updates"] == 40
    assert np.abs(policy.weights).max() < 20
    assert policy.success() > 0.8
    with (
        policy.at(sure),
        pytest.raises(InvalidInput, match="one session at a time"),
        policy.at(sure),
    ):
        pass


def test_a_budget_and_a_target_end_it():
    policy = Staircase(3, 4, 2, 0.3)
    learner = pg_or(policy=policy, rounds=10**6, objective=policy.success, target=0.5, batch=8)
    (one,) = run(learner, [policy.problem()], policy, grants="root/sample+reward").attempts
    assert one.metadata["reached"][2] == policy.success() >= 0.5
    assert one.metadata["reached"][0] == one.cost.rewards == one.metadata["rounds"]
    (one,) = run(
        pg_or(policy=policy, rounds=10**6), [policy.problem()], policy,
        grants="root/sample+reward", budget=Budget(rewards=20),
    ).attempts  # fmt: skip
    assert one.cost.rewards == one.metadata["rounds"] == 20


def test_what_is_wrong_is_named():
    policy = planted()
    for kwargs, why in (
        ({"policy": 3}, "policy must be a LinearSoftmax"),
        ({"rounds": 0}, "rounds must be an integer >= 1"),
        ({"own": False}, "at least one proposal"),
        ({"explore": 1.5}, r"explore must lie in \[0, 1\]"),
        ({"rate": -1.0}, "rate must lie in"),
    ):
        with pytest.raises(InvalidInput, match=why):
            pg_or(**{"policy": policy, "rounds": 1, **kwargs})
    with pytest.raises(InvalidInput, match="tries must be an integer >= 1"):
        pg_pr(policy=policy, rounds=1, tries=0)


def test_the_adaptive_step_never_lowers_what_it_follows_on_separate_weights():
    rng = np.random.default_rng(5)
    for _ in range(100):
        K, N = int(rng.integers(2, 6)), int(rng.integers(1, 12))
        policy = Planted.table(rng.integers(K, size=(1, N)), K)
        policy.load(rng.normal(scale=rng.choice([0.3, 2.0, 6.0]), size=policy.weights.shape))
        before, got = policy.log_likelihoods()[0], int(rng.integers(1, N + 1))
        string = policy.string(0, policy.answers[0])[:got]
        part = policy.token_log_likelihoods()[0, :got].sum()
        policy.ascend(string)
        assert policy.token_log_likelihoods()[0, :got].sum() >= part
        assert policy.log_likelihoods()[0] >= before


def test_gaps_are_the_policy_where_wrong_tokens_are_alike():
    s = Staircase(4, 6, 4)
    gaps, shared = Gaps(s.token_log_likelihoods(), 4, s.law), Planted.shared([[1, 3, 0]], 4)
    one = Gaps(shared.token_log_likelihoods(), 4, np.ones(1), shared=True)
    for x, got in itertools.product((0, 2, 3), (5, 1, 3)):
        s.ascend(s.string(x, s.answers[x])[: s.context_length + got])
        gaps.ascend(x, got)
        shared.ascend(shared.string(0, (1, 3, 0)[:got]))
        one.ascend(0, min(3, got))
    assert np.allclose(gaps.p, np.exp(s.log_likelihoods()), rtol=1e-12)
    assert np.allclose(one.p, np.exp(shared.log_likelihoods()), rtol=1e-12)


def test_many_updates_at_once_are_those_one_by_one():
    # means of 24 runs each, at 4.5 standard errors: 1e-5
    s = Staircase(3, 5, 3)
    q = 0.5 * np.exp(s.log_likelihoods()) + 0.5 / 81

    def queries(how, seed: int) -> list[int]:
        rng = np.random.default_rng(seed)
        made = (Gaps(s.token_log_likelihoods(), 3, s.law) for _ in range(24))
        return [how(gaps, 0.55, rng, proposals=q).queries for gaps in made]

    one, other = queries(outcome, 1), queries(outcome_fixed, 2)
    error = math.sqrt((np.var(one) + np.var(other)) / 24)
    assert abs(np.mean(one) - np.mean(other)) < 4.5 * error
    walked = process(Gaps(s.token_log_likelihoods(), 3, s.law), 0.55, np.random.default_rng(3),
                     proposals=np.full((3, 4), 1 / 3), tries=9)  # fmt: skip
    assert walked.success >= 0.55
