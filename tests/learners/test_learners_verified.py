"""Tokenwise rejection and backtracking against enumeration; demonstration prefixes.

Statistical tests use fixed seeds; "error rate" is the probability that a correct program fails.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Mapping, Set

import numpy as np
import pytest
from scipy import stats

import reroot
from reroot import Budget, Output, Prefix
from reroot.families import HiddenPath
from reroot.generators.tabular import Tabular
from reroot.learners.demonstration import demo_prefix
from reroot.learners.verified import backtracking, tokenwise_rejection
from reroot.tasks.base import Problem

Tokens = tuple[int, ...]
Law = Mapping[Tokens, float]
STEERED, REDONE = "visited/sample+verifier", "reset/topk(1)+verifier"
SHOWN = "chosen/sample+reward+demonstration"


def constrained(tree: Tabular, right: Set[Tokens], count: int) -> list[Problem]:
    """``count`` copies of: find a member of ``right``; V(s) = some member starts with s."""

    def verifier(output: Output) -> bool:
        return any(y[: len(output.tokens)] == output.tokens for y in right)

    return [
        Problem(f"{i}", (), tree.horizon, lambda o: float(o.tokens in right), verifier)
        for i in range(count)
    ]


def copies(generator: HiddenPath, count: int) -> list[Problem]:
    return [generator.problem(id=f"{i}") for i in range(count)]


def p_value(outputs: list[Prefix | None], law: Law) -> float:
    """Chi-square p-value of outputs against an exact law (cells below 5 expected are pooled)."""
    counts = Counter(tuple(y) for y in outputs if y is not None)
    assert sum(counts.values()) == len(outputs)
    if not set(counts) <= {y for y, w in law.items() if w > 0}:
        return 0.0
    cells = sorted(law, key=lambda y: law[y])
    expected = np.array([law[y] * len(outputs) for y in cells])
    observed = np.array([counts[y] for y in cells])
    small = int((np.cumsum(expected) < 5).sum()) + 1
    expected = np.append(expected[small:], expected[:small].sum())
    observed = np.append(observed[small:], observed[:small].sum())
    return float(stats.chisquare(observed, expected).pvalue)


def next_law(tree: Tabular, s: Tokens) -> np.ndarray:
    return np.exp(tree.log_laws((), [s])[0])


# ---- tokenwise rejection ------------------------------------------------------------------------


@pytest.mark.slow
def test_rejection_law_is_the_product_of_local_ones() -> None:
    tree = Tabular([[0.5, 0.3, 0.2], [[0.8, 0.1, 0.1], [0.05, 0.9, 0.05], [0.1, 0.1, 0.8]]])
    right = {(0, 1), (1, 1), (1, 2), (2, 0), (2, 2)}  # after 0 most mass is wrong
    locally: defaultdict[Tokens, float] = defaultdict(float)
    for a, b in right:
        first, second = next_law(tree, ()), next_law(tree, (a,))
        firsts = sum(first[t] for t in {y[0] for y in right})
        seconds = sum(second[t] for x, t in right if x == a)
        locally[a, b] = first[a] / firsts * second[b] / seconds
    joint = {y: float(np.exp(w)) for y, w in tree.enumerate_outputs()}
    globally = {y: joint[y] / sum(joint[x] for x in right) for y in right}
    assert sum(locally.values()) == pytest.approx(1)
    assert sum(abs(locally[y] - globally[y]) for y in right) / 2 > 0.3  # the bias is real
    problems = constrained(tree, right, 800)
    run = reroot.run(tokenwise_rejection, problems, tree, grants=STEERED)
    outputs = [a.output for a in run.attempts]
    assert run.pass_rate == 1
    assert p_value(outputs, locally) > 1e-4  # error rate 1e-4
    assert p_value(outputs, globally) < 1e-9  # and it is seen
    some = problems[:150]  # batches change the cost alone
    singly = reroot.run(tokenwise_rejection(growth=1), some, tree, grants=STEERED)
    for one, batched in zip(singly.attempts, run.attempts, strict=False):
        assert one.output == batched.output
        assert one.cost.verifications == batched.cost.verifications
        assert one.cost.queries <= batched.cost.queries <= 2 * one.cost.queries


@pytest.mark.slow
def test_rejection_needs_K_times_H_draws_of_a_uniform_law() -> None:
    K, H, count = 5, 6, 200
    tree = Tabular.from_function(lambda u: np.full(K, 1 / K), K, H, name="uniform")
    right = {(3, 1, 4, 1, 0, 2)}
    run = reroot.run(
        tokenwise_rejection(growth=1), constrained(tree, right, count), tree, grants=STEERED
    )
    assert run.pass_rate == 1
    # per token: draws are geometric, mean K; distinct tokens up to the right one, mean (K + 1)/2
    queries, verified = run.cost.queries / count, run.cost.verifications / count
    assert abs(queries - K * H) < 5 * np.sqrt(H * K * (K - 1) / count)  # error rate 1e-6
    assert abs(verified - (K + 1) / 2 * H) < 5 * np.sqrt(H * (K**2 - 1) / 12 / count)
    assert max(a.cost.verifications for a in run.attempts) <= K * H  # never one token twice


def test_rejection_stops_at_a_dead_end() -> None:
    tree = Tabular.from_function(lambda u: np.full(3, 1 / 3), 3, 4, name="uniform")
    problems = constrained(tree, {(1, 2)}, 5)  # after (1, 2) nothing is accepted
    run = reroot.run(tokenwise_rejection, problems, tree, grants=STEERED)
    assert all(a.output == Prefix((1, 2)) and a.error is None for a in run.attempts)
    few = reroot.run(tokenwise_rejection(max_tries=1), problems, tree, grants=STEERED)
    assert {len(a.output or ()) for a in few.attempts} <= {0, 1, 2}
    assert all(a.cost.queries <= 3 for a in few.attempts)
    poor = reroot.run(tokenwise_rejection, problems, tree, grants=STEERED, budget=Budget(tokens=1))
    assert all(a.cost.tokens == 1 and a.error is None for a in poor.attempts)
    wide = Tabular.from_function(lambda u: np.full(99, 1 / 99), 99, 2, name="wide")
    hopeless = constrained(wide, set(), 5)  # draws in batches of 1, 1, 2, 4: the last one is cut
    spent = reroot.run(tokenwise_rejection, hopeless, wide, grants=STEERED, budget=Budget(tokens=6))
    assert all(a.cost.queries == 6 and a.output == Prefix() for a in spent.attempts)


# ---- backtracking -------------------------------------------------------------------------------


def backtracking_law(
    tree: Tabular, right: Set[Tokens], quota: int, stride: int, argmax_redo: bool, check_last: bool
) -> Law:
    """Sum over every run of the algorithm, state by state: (s, quota left, tokens to redo)."""
    H = tree.horizon
    states: dict[tuple[Tokens, int, int], float] = {((), quota, 0): 1.0}
    law: defaultdict[Tokens, float] = defaultdict(float)
    while states:
        after: defaultdict[tuple[Tokens, int, int], float] = defaultdict(float)
        for (s, q, redo), weight in states.items():
            objects = not any(y[: len(s)] == s for y in right)
            if q and s and objects and (check_last or len(s) < H):
                redo = min(stride, len(s)) if argmax_redo else 0
                s, q = s[: max(0, len(s) - stride)], q - 1
            if len(s) == H:
                law[s] += weight
                continue
            p = next_law(tree, s)
            if redo:
                after[(*s, int(p.argmax())), q, redo - 1] += weight
            else:
                for token, w in enumerate(p.tolist()):
                    after[(*s, token), q, 0] += weight * w
        states = after
    return law


@pytest.mark.slow
@pytest.mark.parametrize(
    ("quota", "stride", "argmax_redo", "check_last"),
    [
        (0, 1, False, True),
        (1, 1, False, True),
        (3, 2, False, True),
        (3, 2, False, False),
        (2, 2, True, True),
        (4, 1, True, False),
    ],
)
def test_backtracking_law_by_enumeration(
    quota: int, stride: int, argmax_redo: bool, check_last: bool
) -> None:
    tree = Tabular.random(3, 3, seed=4)
    right = {(0, 0, 1), (0, 2, 0), (1, 1, 1), (2, 0, 2), (2, 2, 0)}
    exact = backtracking_law(tree, right, quota, stride, argmax_redo, check_last)
    assert sum(exact.values()) == pytest.approx(1)
    bound = backtracking(quota=quota, stride=stride, argmax_redo=argmax_redo, check_last=check_last)
    grants = REDONE if argmax_redo else STEERED
    run = reroot.run(bound, constrained(tree, right, 500), tree, grants=grants)
    outputs = [a.output for a in run.attempts]
    assert p_value(outputs, exact) > 1e-4  # error rate 1e-4 each
    for other in itertools.product((0, 1, 3), (1, 2), (False, True), (False, True)):
        law = backtracking_law(tree, right, *other)
        if sum(abs(law[y] - exact[y]) for y in set(law) | set(exact)) / 2 > 0.25:
            assert p_value(outputs, law) < 1e-4  # the parameters are told apart
    if quota == 0:
        assert run.cost.verifications == 0
        assert run.cost.rollouts == 500  # nothing to check: one rollout


def test_backtracking_with_enough_quota_is_always_right() -> None:
    path = HiddenPath(3, 10, 0.4)
    run = reroot.run(backtracking(quota=10_000), copies(path, 30), path, grants=STEERED)
    assert run.pass_rate == 1
    # each objection costs one draw: draws per token are geometric with parameter p
    assert abs(run.cost.queries / 30 - 10 / 0.4) < 5 * np.sqrt(10 * 0.6 / 0.4**2 / 30)
    poor = reroot.run(
        backtracking(quota=9), copies(path, 9), path, grants=STEERED, budget=Budget(verifications=4)
    )
    assert all(a.error is None and len(a.output or ()) <= 5 for a in poor.attempts)


# ---- demonstration prefixes ---------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reveal", "known", "charged"), [(3, 3, 3), (0.5, 4, 8), (0, 0, 0), (0.37, 2, 8)]
)
def test_demo_prefix_passes_like_a_shorter_path(
    reveal: float | int, known: int, charged: int
) -> None:
    path, n, count = HiddenPath(3, 8, 0.6), 5, 800
    run = reroot.run(demo_prefix(reveal=reveal, n=n), copies(path, count), path, grants=SHOWN)
    exact = 1 - (1 - 0.6 ** (8 - known)) ** n
    low, high = stats.binom.interval(1 - 1e-4, count, exact)
    assert low <= sum(a.passed for a in run.attempts) <= high  # error rate 1e-4
    for a in run.attempts:
        assert tuple(a.output or ())[:known] == path.path[:known]
        assert (a.cost.demonstrations, a.cost.rewards) == (charged, n)
        assert (a.cost.queries, a.cost.rollouts) == ((n, 0) if known else (0, n))
        assert a.cost.tokens == n * (8 - known)


def test_demo_prefix_that_reveals_everything_draws_nothing() -> None:
    path = HiddenPath(3, 6, 0.6)
    for reveal in (1.0, 6, 100):
        run = reroot.run(demo_prefix(reveal=reveal), copies(path, 2), path, grants=SHOWN)
        assert run.pass_rate == 1
        assert (run.cost.tokens, run.cost.rewards, run.cost.demonstrations) == (0, 0, 12)


def test_demo_prefix_keeps_to_its_budget() -> None:
    path = HiddenPath(3, 6, 0.6)
    for budget, output, n in [
        (Budget(demonstrations=3), None, 0),
        (Budget(tokens=10), 6, 3),
        (Budget(rewards=2), 6, 2),
        (Budget(tokens=2), 3, 0),
    ]:
        run = reroot.run(demo_prefix(), copies(path, 3), path, grants=SHOWN, budget=budget)
        for a in run.attempts:
            assert a.error is None
            assert (None if a.output is None else len(a.output)) == output
            assert (a.cost.queries, a.cost.rewards) == (n, n)
