"""The walks: greedy, plurality with a fixed number of draws, and sequential plurality.

Statistical tests use fixed seeds; "error rate" is the probability that a correct program fails.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, stats

import reroot
from reroot import Budget
from reroot.families import HiddenPath
from reroot.generators.tabular import Tabular
from reroot.learners.recovery import greedy_walk, plurality_walk
from reroot.learners.sequential import (
    by_evidence,
    by_posterior,
    log_evidence,
    plurality_walk_sequential,
)
from reroot.limits import plurality_draws
from reroot.tasks.base import Problem

VISITED = "visited/sample"


def copies(generator: HiddenPath, count: int) -> list[Problem]:
    """The same problem ``count`` times, with randomness of its own each time."""
    return [generator.problem(id=f"{i}") for i in range(count)]


def unjudged(generator: Tabular, count: int) -> list[Problem]:
    return [Problem(f"{i}", (), generator.horizon, lambda output: 0.0) for i in range(count)]


def at_most(failures: int, n: int, rate: float, error: float = 1e-6) -> bool:
    """Whether ``failures`` of n is compatible with a failure rate of at most ``rate``."""
    return failures <= stats.binom.ppf(1 - error, n, rate)


def test_greedy_walk_is_the_argmax_walk() -> None:
    rng = np.random.default_rng(0)
    for seed in range(20):
        K, H = int(rng.integers(2, 5)), int(rng.integers(1, 5))
        counts = [rng.integers(1, 4, size=(K,) * (t + 1)) for t in range(H)]  # small: many ties
        levels = [c / c.sum(axis=-1, keepdims=True) for c in counts]
        tree = Tabular(levels, end=(K - 1,) if seed % 2 else ())
        expected: tuple[int, ...] = ()
        while len(expected) < H and not (seed % 2 and expected and expected[-1] == K - 1):
            expected += (int(np.argmax(levels[len(expected)][expected])),)
        (attempt,) = reroot.run(
            greedy_walk, unjudged(tree, 1), tree, grants="reset/argmax(1)"
        ).attempts
        assert attempt.error is None
        assert tuple(attempt.output or ()) == expected
        assert attempt.cost.tokens == len(expected)


@pytest.mark.slow
@pytest.mark.parametrize("draws", [4, 5])  # even: ties, which are broken uniformly
def test_plurality_walk_error_by_enumeration(draws: int) -> None:
    path, count = HiddenPath(2, 3, 0.6), 1000
    binomial = stats.binom(draws, 0.6)
    stage = sum(
        binomial.pmf(k) * (1.0 if 2 * k > draws else 0.5 * (2 * k == draws))
        for k in range(draws + 1)
    )
    # off the path nothing comes back: each stage must be right
    run = reroot.run(
        plurality_walk(draws_per_token=draws), copies(path, count), path, grants=VISITED
    )
    low, high = stats.binom.interval(1 - 1e-4, count, stage**3)
    assert low <= sum(a.passed for a in run.attempts) <= high  # error rate 1e-4
    assert run.cost.queries == run.cost.tokens == 3 * draws * count


@pytest.mark.slow
def test_plurality_walk_at_the_chernoff_draws_fails_at_most_delta() -> None:
    path, count, delta = HiddenPath(4, 8, 0.55), 1000, 0.05
    run = reroot.run(plurality_walk(p=0.55, delta=delta), copies(path, count), path, grants=VISITED)
    assert at_most(sum(not a.passed for a in run.attempts), count, delta)  # error rate 1e-6
    m = plurality_draws(4, 8, 0.55, delta)
    assert all(a.cost.queries == 8 * m for a in run.attempts)
    # a quarter of the draws is not enough: the bound is about something
    few = reroot.run(
        plurality_walk(draws_per_token=m // 4), copies(path, 200), path, grants=VISITED
    )
    assert sum(not a.passed for a in few.attempts) > stats.binom.ppf(1 - 1e-6, 200, delta)


def test_plurality_walk_shares_its_budget_evenly() -> None:
    path = HiddenPath(4, 8, 0.55)
    for budget, queries in [
        (Budget(tokens=83), 80),
        (Budget(queries=47, tokens=90), 40),
        (Budget(tokens=5), 5),
    ]:
        run = reroot.run(plurality_walk, copies(path, 3), path, grants=VISITED, budget=budget)
        assert [a.cost.queries for a in run.attempts] == [queries] * 3
    (attempt,) = reroot.run(
        plurality_walk, copies(path, 1), path, grants=VISITED, on_error="record"
    ).attempts
    assert "needs draws_per_token, p, or a budget" in str(attempt.error)


def test_walks_return_the_prefix_they_could_afford() -> None:
    path = HiddenPath(4, 8, 0.9)
    for bound, grants in [
        (plurality_walk(draws_per_token=10), VISITED),
        (plurality_walk_sequential(p=0.9), VISITED),
        (greedy_walk(), "reset/argmax(1)"),
    ]:
        budget = Budget(tokens=5 if bound.name == "greedy_walk" else 12)
        run = reroot.run(bound, copies(path, 20), path, grants=grants, budget=budget)
        assert all(a.error is None and a.stopped is None for a in run.attempts)
        assert all(0 < len(a.output or ()) < 8 for a in run.attempts)


# ---- sequential -------------------------------------------------------------------------------


def test_posterior_rule_equals_bayes_rule() -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        K, level = int(rng.integers(2, 8)), float(rng.uniform(1e-6, 0.4))
        p = float(rng.uniform(1 / K + 0.02, 0.98))
        q = (1 - p) / (K - 1)
        draws = rng.integers(0, K, size=int(rng.integers(0, 20)))
        counts = np.bincount(draws, minlength=K)
        weights = [p ** counts[a] * q ** (len(draws) - counts[a]) for a in range(K)]
        exact = 1 - max(weights) / sum(weights)
        short, error = by_posterior(draws, level, p, K)
        assert error == pytest.approx(exact, rel=1e-9, abs=1e-12)
        assert (short == 0) == (error <= level)
        if short:  # fewer draws than that cannot suffice, and that many can
            leader = counts.argmax()
            enough = np.append(draws, [leader] * short)
            assert by_posterior(enough, level, p, K)[1] <= level * (1 + 1e-9)
            for a in range(K):
                less = np.append(draws, [a] * (short - 1))
                assert by_posterior(less, level, p, K)[1] > level * (1 - 1e-9)


def test_evidence_is_the_mixture_it_says_and_bets_fairly() -> None:
    for a, b in [(0, 0), (3, 0), (2, 5), (40, 31), (300, 250)]:
        exact, _ = integrate.quad(
            lambda x, a=a, b=b: 2 * (2 * x) ** a * (2 - 2 * x) ** b, 0.5, 1, epsabs=0, limit=200
        )
        assert log_evidence(a, b) == pytest.approx(math.log(exact), abs=1e-9)
        now = math.exp(log_evidence(a, b))
        up, down = math.exp(log_evidence(a + 1, b)), math.exp(log_evidence(a, b + 1))
        assert (up + down) / 2 == pytest.approx(now)  # a martingale when a and b are equally likely
        assert 0.4 * up + 0.6 * down < now  # a supermartingale when b is likelier


def test_evidence_rule_waits_for_a_token_that_beats_all_others() -> None:
    rng = np.random.default_rng(2)
    for _ in range(200):
        level = float(rng.uniform(1e-5, 0.3))
        draws = rng.choice(4, size=int(rng.integers(0, 60)), p=[0.6, 0.2, 0.1, 0.1])
        short, error = by_evidence(draws, level)
        assert error == level
        counts = np.bincount(draws, minlength=4)
        leader = int(counts.argmax())
        first = int((draws == leader).argmax()) if len(draws) else -1
        rank = len(set(draws[:first].tolist())) + 1 if len(draws) else 1
        later = draws[first + 1 :]
        ahead = int((later == leader).sum())
        evidence = min(
            log_evidence(ahead, int((later == b).sum())) for b in range(4) if b != leader
        )
        assert (short == 0) == (len(draws) > 0 and evidence >= math.log(rank * (rank + 1) / level))
        if 0 < short < 60:
            assert by_evidence(np.append(draws, [leader] * short), level)[0] == 0
            assert by_evidence(np.append(draws, [leader] * (short - 1)), level)[0] == 1


@pytest.mark.slow
def test_sequential_walk_with_known_p_keeps_its_promise() -> None:
    count, delta = 300, 0.2
    path = HiddenPath(4, 6, 0.45)
    bound = plurality_walk_sequential(delta=delta, p=0.45)
    run = reroot.run(bound, copies(path, count), path, grants=VISITED)
    failures = sum(not a.passed for a in run.attempts)
    assert at_most(failures, count, delta)  # error rate 1e-6
    assert failures > count * delta / 3  # delta is spent, not hoarded
    fixed = 6 * plurality_draws(4, 6, 0.45, delta)
    assert run.cost.queries / count < fixed / 2


@pytest.mark.slow
def test_sequential_walk_with_unknown_law_keeps_its_promise() -> None:
    """Two tokens at 0.6 and 0.4, everywhere: the walk must find the likelier one each time."""
    count, delta = 100, 0.3
    tree = Tabular.from_function(lambda u: np.array([0.4, 0.6]), 2, 2, name="tilted")
    bound = plurality_walk_sequential(delta=delta, max_draws=20_000)
    run = reroot.run(bound, unjudged(tree, count), tree, grants=VISITED)
    failures = sum(tuple(a.output or ()) != (1, 1) for a in run.attempts)
    assert at_most(failures, count, delta)  # error rate 1e-6
    assert max(a.cost.queries for a in run.attempts) < 20_000  # no stage was cut short
    path = HiddenPath(4, 3, 0.6)
    blind = reroot.run(plurality_walk_sequential(delta=0.1), copies(path, 60), path, grants=VISITED)
    assert at_most(sum(not a.passed for a in blind.attempts), 60, 0.1)  # error rate 1e-6


def test_sequential_walk_gives_up_on_ties() -> None:
    tree = Tabular.from_function(lambda u: np.full(3, 1 / 3), 3, 2, name="flat")
    bound = plurality_walk_sequential(max_draws=50, delta=1e-6)
    run = reroot.run(bound, unjudged(tree, 10), tree, grants=VISITED)
    assert all(a.cost.queries == 100 and len(a.output or ()) == 2 for a in run.attempts)


def test_sequential_walk_refuses_an_impossible_p() -> None:
    path = HiddenPath(4, 3, 0.6)
    (attempt,) = reroot.run(
        plurality_walk_sequential(p=0.25), copies(path, 1), path, grants=VISITED, on_error="record"
    ).attempts
    assert "p must lie in (1/4, 1)" in str(attempt.error)
