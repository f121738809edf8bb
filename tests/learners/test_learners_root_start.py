"""best_of_n, first_success and self_consistency against closed forms and enumeration.

Statistical tests use fixed seeds; "error rate" is the probability that a correct program fails.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from scipy import stats

import reroot
from reroot import Budget, Output, Prefix
from reroot.families import HiddenPath
from reroot.generators.tabular import Tabular
from reroot.learners.root_bayes import root_bayes
from reroot.learners.root_start import (
    best_of_n,
    first_success,
    longest_verified,
    self_consistency,
)
from reroot.limits import root_success
from reroot.tasks.answers import rule
from reroot.tasks.base import Problem

Tokens = tuple[int, ...]
Law = Mapping[Tokens, float]
REWARD, VERIFIER = "root/sample+reward", "root/sample+verifier"


def copies(generator: HiddenPath, count: int) -> list[Problem]:
    """The same problem ``count`` times, with randomness of its own each time."""
    return [generator.problem(id=f"{i}") for i in range(count)]


def problems(
    generator: Tabular, count: int, reward: Callable[[Output], float] = lambda output: 0.0
) -> list[Problem]:
    return [Problem(f"{i}", (), generator.horizon, reward) for i in range(count)]


def within_binomial(passed: int, n: int, p: float, error: float = 1e-4) -> bool:
    """Whether ``passed`` of n lies in the exact band of Binomial(n, p); error rate ``error``."""
    low, high = stats.binom.interval(1 - error, n, p)
    return low <= passed <= high


def p_value(outputs: list[Prefix | None], law: Law) -> float:
    """Chi-square p-value of outputs against an exact law (cells below 5 expected are pooled)."""
    counts = Counter(tuple(y) for y in outputs if y is not None)
    assert sum(counts.values()) == len(outputs)
    assert set(counts) <= {y for y, w in law.items() if w > 0}
    cells = sorted(law, key=lambda y: law[y])
    expected = np.array([law[y] * len(outputs) for y in cells])
    observed = np.array([counts[y] for y in cells])
    small = int((np.cumsum(expected) < 5).sum()) + 1
    expected = np.append(expected[small:], expected[:small].sum())
    observed = np.append(observed[small:], observed[:small].sum())
    return float(stats.chisquare(observed, expected).pvalue)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "grants", "oracle"),
    [(1, REWARD, "reward"), (8, REWARD, "reward"), (8, VERIFIER, "verifier")],
)
def test_best_of_n_passes_like_one_minus_missing_n_times(n: int, grants: str, oracle: str) -> None:
    path = HiddenPath(3, 4, 0.6)
    result = reroot.run(best_of_n(n=n, oracle=oracle), copies(path, 1000), path, grants=grants)
    passed = sum(a.passed for a in result.attempts)
    assert within_binomial(passed, 1000, 1 - (1 - 0.6**4) ** n)  # error rate 1e-4
    assert result.cost.rollouts == 1000 * n
    assert result.cost.rewards == (1000 * n if oracle == "reward" else 0)
    assert result.cost.verifications <= (1000 * n * 3 if oracle == "verifier" else 0)


@pytest.mark.slow(1)
def test_best_of_n_law_by_enumeration() -> None:
    """Graded reward: P(output = y) = P(y | its reward)·(F(r)^n - F(r-)^n)."""
    tree = Tabular.random(2, 3, seed=5)
    law = {y: np.exp(w) for y, w in tree.enumerate_outputs()}
    reward = {y: (y[0] + y[1] + y[2]) / 3 for y in law}
    n, exact = 3, {}
    for y, w in law.items():
        below = sum(v for x, v in law.items() if reward[x] < reward[y])
        equal = sum(v for x, v in law.items() if reward[x] == reward[y])
        exact[y] = w / equal * ((below + equal) ** n - below**n)
    assert sum(exact.values()) == pytest.approx(1)
    run = reroot.run(
        best_of_n(n=n), problems(tree, 1500, lambda o: reward[o.tokens]), tree, grants=REWARD
    )
    assert p_value([a.output for a in run.attempts], exact) > 1e-4  # error rate 1e-4


class Verifying:
    """Stands in for a session: answers verifications, and remembers what was asked."""

    def __init__(self, depth: Callable[[Prefix], int]) -> None:
        self.depth, self.asked = depth, list[Prefix]()

    async def verify_all(self, prefixes: list[Prefix]) -> list[bool]:
        self.asked += prefixes
        return [self.depth(u) == len(u) for u in prefixes]


def test_longest_verified_equals_a_scan_and_asks_each_prefix_once() -> None:
    rng = np.random.default_rng(3)
    for _ in range(300):
        n, longest = int(rng.integers(1, 9)), int(rng.integers(1, 12))
        right = [tuple(rng.integers(0, 2, size=longest).tolist()) for _ in range(2)]
        outputs = [
            Prefix(tuple(rng.integers(0, 2, size=int(rng.integers(1, longest + 1))).tolist()))
            for _ in range(n)
        ]

        def depth(u: Prefix, right: list[Tokens] = right) -> int:
            return max(next((t for t in range(len(u)) if u[t] != z[t]), len(u)) for z in right)

        session = Verifying(depth)
        found = asyncio.run(longest_verified(cast("Any", session), outputs))
        # an output that is right to its end counts as deep as any, like one that goes on
        score = [depth(y) if depth(y) < len(y) else longest + 1 for y in outputs]
        deepest = max(map(len, outputs))
        score = [min(s, deepest) for s in score]
        assert found == outputs[score.index(max(score))]
        assert len(set(session.asked)) == len(session.asked)
        assert len(session.asked) <= n * deepest.bit_length()


@pytest.mark.slow
def test_verifier_arm_returns_the_deepest_rollout_where_none_is_right() -> None:
    """Root-start with the verifier: depth of the best of n is D with Pr(D <= d) = (1 - p^(d+1))^n."""
    path = HiddenPath(4, 12, 0.5)
    n, count = 8, 800
    run = reroot.run(best_of_n(n=n, oracle="verifier"), copies(path, count), path, grants=VERIFIER)
    depths = Counter[int]()
    for attempt in run.attempts:
        assert attempt.output is not None
        on = [a == b for a, b in zip(attempt.output, path.path, strict=True)]
        depths[on.index(False) if False in on else 12] += 1
    for d in range(6):
        at_most = sum(depths[k] for k in range(d + 1))
        assert within_binomial(at_most, count, (1 - 0.5 ** (d + 1)) ** n)  # error rate 6e-4


@pytest.mark.slow
def test_first_success_costs_a_geometric_number_of_rollouts() -> None:
    path, count = HiddenPath(2, 3, 0.7), 600
    success = 0.7**3
    run = reroot.run(
        first_success(batch=1, growth=1.0, max_rollouts=10**6),
        copies(path, count),
        path,
        grants=REWARD,
    )
    assert run.pass_rate == 1
    assert all(a.cost.rollouts == a.cost.rewards for a in run.attempts)
    seen = Counter(min(a.cost.rollouts, 10) for a in run.attempts)
    expected = [success * (1 - success) ** (k - 1) for k in range(1, 10)]
    expected.append(1 - sum(expected))
    observed = [seen[k] for k in range(1, 11)]
    pvalue = stats.chisquare(observed, np.array(expected) * count).pvalue
    assert pvalue > 1e-4  # error rate 1e-4

    # whatever the batches, it finds the same output after the same number of rewards
    batched = reroot.run(
        first_success(max_rollouts=10**6), copies(path, count), path, grants=REWARD
    )
    assert [a.output for a in batched.attempts] == [a.output for a in run.attempts]
    assert [a.cost.rewards for a in batched.attempts] == [a.cost.rewards for a in run.attempts]
    ends = [4, 12, 28, 60, 124]
    assert all(
        a.cost.rollouts == next(e for e in ends if e >= a.cost.rewards) for a in batched.attempts
    )
    verified = reroot.run(
        first_success(oracle="verifier", max_rollouts=10**6),
        copies(path, count),
        path,
        grants=VERIFIER,
    )
    assert [a.output for a in verified.attempts] == [a.output for a in run.attempts]
    assert verified.cost.verifications == run.cost.rewards
    assert verified.cost.rewards == 0


def test_first_success_returns_the_best_it_saw() -> None:
    tree = Tabular.random(3, 4, seed=2)
    grade = problems(tree, 40, lambda o: sum(o.tokens) / 100)
    run = reroot.run(first_success(max_rollouts=9), grade, tree, grants=REWARD)
    best = reroot.run(best_of_n(n=9), grade, tree, grants=REWARD)
    assert [a.output for a in run.attempts] == [a.output for a in best.attempts]
    assert all(a.cost.rollouts == a.cost.rewards == 9 for a in run.attempts)
    low = reroot.run(first_success(max_rollouts=9, pass_at=-1.0), grade, tree, grants=REWARD)
    assert all(a.cost.rewards == 1 for a in low.attempts)


def test_first_success_wants_an_end() -> None:
    path = HiddenPath(3, 4, 0.6)
    for budget, ends in [
        (Budget(queries=3), False),
        (Budget(tokens=40), True),
        (Budget(rewards=2), True),
    ]:
        (attempt,) = reroot.run(
            first_success, copies(path, 1), path, grants=REWARD, budget=budget, on_error="record"
        ).attempts
        assert (attempt.error is None) == ends
        assert ends or "give max_rollouts" in str(attempt.error)


class Says(Tabular):
    """One token, of the given texts."""

    def __init__(self, says: dict[str, float]) -> None:
        super().__init__([list(says.values())])
        self._texts = list(says)

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join(self._texts[t] for t in tokens)


@pytest.mark.slow
def test_self_consistency_law_by_enumeration() -> None:
    """All triples of outputs; the vote is on texts, which leave out the end tokens 1 and 2."""
    tree = Tabular.random(3, 2, seed=11, end=(1, 2))
    law = {y: float(np.exp(w)) for y, w in tree.enumerate_outputs()}
    exact: defaultdict[Tokens, float] = defaultdict(float)
    for triple in itertools.product(law, repeat=3):
        texts = [tree.decode(y).strip() for y in triple]
        votes = [texts.count(text) for text in texts]
        exact[triple[votes.index(max(votes))]] += law[triple[0]] * law[triple[1]] * law[triple[2]]
    assert {tree.decode(y) for y in law} == {"", "0", "0 0"}
    run = reroot.run(self_consistency(n=3), problems(tree, 1500), tree, grants="root/sample")
    assert p_value([a.output for a in run.attempts], exact) > 1e-4  # error rate 1e-4
    by_tokens: defaultdict[Tokens, float] = defaultdict(float)  # were the vote on tokens instead
    for triple in itertools.product(law, repeat=3):
        votes = [triple.count(y) for y in triple]
        by_tokens[triple[votes.index(max(votes))]] += (
            law[triple[0]] * law[triple[1]] * law[triple[2]]
        )
    assert p_value([a.output for a in run.attempts], by_tokens) < 1e-4


def test_self_consistency_votes_by_answer_as_the_task_compares_them() -> None:
    """P(1/2) = 0.3, P(0.5) = 0.3 and P(7) = 0.4: 7 is the most frequent text, a half the most frequent
    answer; "?" gives none and has no vote."""
    says = {"1/2": 0.27, "0.5": 0.27, "7": 0.36, "?": 0.1}
    generator = Says(says)
    half = Problem("p", (), 1, lambda _: 1.0, equality=rule("number"))
    texts = [
        [
            a.text
            for a in reroot.run(
                self_consistency(n=400), [p], generator, grants="root/sample"
            ).attempts
        ]
        for p in (half, replace(half, equality=None))
    ]
    assert texts[0][0] in ("1/2", "0.5")
    assert texts[1] == ["7"]
    mostly_silent = Says({"?": 0.9, "7": 0.1})
    run = reroot.run(self_consistency(n=100), [half], mostly_silent, grants="root/sample")
    assert [a.text for a in run.attempts] == ["7"]


def test_root_start_learners_use_what_the_budget_allows() -> None:
    path = HiddenPath(3, 5, 0.6)
    budget = Budget(tokens=37)  # 7 rollouts of 5 tokens
    for bound, grants in [
        (best_of_n(n=1000), REWARD),
        (best_of_n(n=1000, oracle="verifier"), VERIFIER),
        (self_consistency(n=1000), "root/sample"),
        (first_success(batch=1000, pass_at=2.0), REWARD),
    ]:
        run = reroot.run(bound, copies(path, 5), path, grants=grants, budget=budget)
        assert [a.cost.rollouts for a in run.attempts] == [7] * 5
        assert all(a.output is not None and a.error is None for a in run.attempts)
        none = reroot.run(bound, copies(path, 2), path, grants=grants, budget=Budget(tokens=4))
        assert [(a.output, a.error, a.cost.tokens) for a in none.attempts] == [(None, None, 0)] * 2
    for bound, grants, budget, most in [
        (best_of_n(n=9), REWARD, Budget(rewards=4), 4),
        (best_of_n(n=9, oracle="verifier"), VERIFIER, Budget(verifications=13), 4),
        (first_success(pass_at=2.0), REWARD, Budget(rewards=4), 4),
        (first_success(batch=9, oracle="verifier"), VERIFIER, Budget(verifications=4), 4),
        (self_consistency(n=9), "root/sample", Budget(rollouts=4), 4),
    ]:
        run = reroot.run(bound, copies(path, 5), path, grants=grants, budget=budget)
        assert [a.cost.rollouts for a in run.attempts] == [most] * 5
        assert all(a.output is not None for a in run.attempts)


def test_short_outputs_leave_room_for_more_rollouts() -> None:
    """The budget reserves H tokens per rollout; what early ends give back is used again."""
    tree = Tabular([np.array([0.1, 0.9]), np.full((2, 2), 0.5), np.full((2, 2, 2), 0.5)], end=(1,))
    run = reroot.run(
        self_consistency(n=1000),
        problems(tree, 20),
        tree,
        grants="root/sample",
        budget=Budget(tokens=30),
    )
    assert all(28 <= a.cost.tokens <= 30 for a in run.attempts)
    assert min(a.cost.rollouts for a in run.attempts) > 10


@pytest.mark.slow
def test_root_start_with_full_reports_reaches_its_limit(nightly: bool) -> None:
    """Within 2.6 standard deviations: error rate 1e-2, at every number of attempts."""
    seeds, path = 4000 if nightly else 1000, HiddenPath(vocab_size=4, horizon=8, p=0.55)
    run = reroot.run(root_bayes(n=50), copies(path, seeds), path, grants="root/full")
    exact = root_success(50, 4, 8, 0.55)
    assert exact == pytest.approx(0.60201, abs=5e-6)
    assert abs(run.pass_rate - exact) <= 0.02 * math.sqrt(4000 / seeds)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("K", "H", "p", "n", "rewards"),
    [(3, 4, 0.5, 3, 0), (3, 4, 0.5, 3, 5), (2, 5, 0.6, 2, 3), (4, 3, 0.5, 1, 7), (2, 1, 0.6, 1, 0)],
)
def test_root_bayes_reaches_the_limit(K: int, H: int, p: float, n: int, rewards: int) -> None:
    """600 attempts; a right learner fails with probability 1e-3 in each case."""
    path = HiddenPath(K, H, p)
    learner = root_bayes(n=n, rewards=rewards)
    run = reroot.run(learner, copies(path, 600), path, grants="root/topk(1)+reward")
    exact = root_success(n, K, H, p, rewards)
    low, high = stats.binom.interval(1 - 1e-3, 600, exact)
    assert low <= sum(a.passed for a in run.attempts) <= high
    assert all(a.cost.rollouts == n and a.cost.rewards <= rewards for a in run.attempts)


def test_root_bayes_without_any_rollout_guesses() -> None:
    path = HiddenPath(2, 2, 0.6)
    learner = root_bayes(n=5, rewards=3)
    run = reroot.run(
        learner, copies(path, 8), path, grants="root/topk(1)+reward", budget=Budget(tokens=0)
    )
    assert run.pass_rate == 1.0  # three rewards tell four strings apart
    assert run.cost.rollouts == 0
