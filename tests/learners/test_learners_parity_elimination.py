"""Linear algebra over F2 and the learner that reads noisy parities with it.

Statistical tests use fixed seeds; "error rate" is the probability that a correct program fails.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import reroot
from reroot import AccessDenied, Budget, InvalidInput, RunResult
from reroot.experiments.formulas import elimination_success
from reroot.families import HiddenPath, NoisyParity
from reroot.families.many import ensemble
from reroot.learners.parity_elimination import _independent, _solution, parity_elimination
from reroot.limits import plurality_draws
from reroot.testing import enumerate_runs

Bits = tuple[int, ...]
EXACT = 1e-12


def words(length: int) -> list[Bits]:
    return list(itertools.product((0, 1), repeat=length))


def dot(x: Bits, s: Bits) -> int:
    return sum(a * b for a, b in zip(x, s, strict=True)) % 2


def solutions(rows: list[Bits], bits: list[int], size: int) -> set[Bits]:
    """All s ≠ 0 with s·x = c, or 0 where it is the only solution, by search; equations that
    contradict those before them are left out."""
    left = words(size)
    for x, c in zip(rows, bits, strict=True):
        kept = [s for s in left if dot(x, s) == c]
        left = kept or left
    return set(left) - {(0,) * size} or set(left)


def find(bound: Any, T: int, alpha: float, count: int, **more: Any) -> RunResult:
    """One attempt on each of ``count`` secrets."""
    laws = ensemble([NoisyParity(T, alpha, seed=seed) for seed in range(count)])
    return reroot.run(
        bound, laws.problems(), laws, grants=more.pop("grants", bound.requires), **more
    )


# ---- linear algebra --------------------------------------------------------------------------------


systems = st.integers(1, 5).flatmap(
    lambda size: st.tuples(
        st.just(size),
        st.lists(st.tuples(st.tuples(*[st.integers(0, 1)] * size), st.integers(0, 1)), max_size=7),
    )
)


def solve(size: int, rows: list[Bits], bits: list[int], seed: int) -> Bits:
    strings = np.array(rows, dtype=np.int64).reshape(len(rows), size)
    found = _solution(strings, np.array(bits, dtype=np.int64), np.random.default_rng(seed))
    assert all(type(bit) is int for bit in found)
    return tuple(found)


@given(systems, st.integers(0, 10**6))
def test_solutions_are_those_of_search(system: tuple[int, list[tuple[Bits, int]]], seed: int):
    size, equations = system
    rows, bits = [x for x, _ in equations], [c for _, c in equations]
    assert solve(size, rows, bits, seed) in solutions(rows, bits, size)


def test_solutions_are_drawn_uniformly():
    """Three systems, 600 draws each; chi-square at level 1e-6."""
    for rows, bits in [
        ([(1, 1, 0, 1)], [0]),  # 8 solutions, 0 among them
        ([(1, 1, 0, 1), (0, 1, 1, 0)], [1, 0]),  # 4, without 0
        ([(1, 0, 1, 0), (0, 0, 0, 0), (1, 0, 1, 0)], [1, 1, 0]),  # contradictions are left out
    ]:
        right = solutions(rows, bits, 4)
        seen = Counter(solve(4, rows, bits, seed) for seed in range(600))
        assert set(seen) <= right
        counts = np.array([seen[s] for s in right])
        mean = 600 / len(right)
        assert stats.chi2.sf(((counts - mean) ** 2 / mean).sum(), len(right) - 1) > 1e-6


@given(systems)
def test_independent_rows_are_those_outside_the_span_before(
    system: tuple[int, list[tuple[Bits, int]]],
):
    size, equations = system
    rows, span, expected = [x for x, _ in equations], {(0,) * size}, list[int]()
    for j, x in enumerate(rows):
        if x not in span:
            expected.append(j)
            span |= {tuple((a + b) % 2 for a, b in zip(x, y, strict=True)) for y in span}
    assert _independent(np.array(rows, dtype=np.int64).reshape(len(rows), size)) == expected


def test_long_systems():
    """Full rank over 300 bits, more than any machine word: the solution is the secret."""
    rng = np.random.default_rng(1)
    rows, secret = rng.integers(0, 2, (330, 300)), rng.integers(0, 2, 300)
    assert len(_independent(rows)) == 300
    assert _solution(rows, rows @ secret % 2, rng) == secret.tolist()


# ---- one log-probability per rollout ---------------------------------------------------------------


@pytest.mark.parametrize(("T", "n"), [(2, 1), (3, 1), (3, 2), (4, 1)])
def test_success_by_enumeration(T: int, n: int):
    """All secrets, all rollouts: what the law of ranks says, but that a secret is not 0."""
    d, secrets = T - 1, [s for s in words(T - 1) if any(s)]
    right = 0.0
    for secret in secrets:
        law = NoisyParity(T, 0.2, secret=[i for i, bit in enumerate(secret) if bit])
        bound = parity_elimination(n=n)
        runs = enumerate_runs(bound, law.problem("p"), law, grants="root/logprob")
        assert len(runs) == 2 ** (n * T)
        right += sum(r.probability for r in runs if r.attempt.passed) / len(secrets)
    ranks = [  # answers that some secret ≠ 0 gives: one of its secrets is guessed
        len({tuple(dot(x, s) for x in rows) for s in secrets})
        for rows in itertools.product(words(d), repeat=n)
    ]
    assert right == pytest.approx(np.mean(ranks) / len(secrets), abs=EXACT)
    least = elimination_success(n, d)
    assert least - EXACT <= right <= least + 2.0**-n + EXACT


@pytest.mark.parametrize("spare", [0, 2])
def test_success_follows_the_law_of_ranks(spare: int):
    """The secret's being not 0 adds at most 2^-n, here 1e-3; error rate 1e-6 each."""
    T, count = 11, 70
    passed = sum(
        a.passed for a in find(parity_elimination(n=T - 1 + spare), T, 0.3, count).attempts
    )
    low = stats.binom.ppf(5e-7, count, elimination_success(T - 1 + spare, T - 1))
    high = stats.binom.isf(5e-7, count, elimination_success(T - 1 + spare, T - 1) + 2.0 ** -(T - 1))
    assert low <= passed <= high


def test_log_probabilities_free_the_last_bit_of_noise():
    """The same strings whatever α is, so the same guesses, also where they are wrong."""

    def outputs(alpha: float) -> list[reroot.Prefix | None]:
        law = NoisyParity(8, alpha, seed=3)
        tasks = [law.problem(id=f"{i}") for i in range(20)]
        run = reroot.run(parity_elimination(n=6), tasks, law, grants="root/logprob")
        assert 0 < run.pass_rate < 1
        return [a.output for a in run.attempts]

    assert outputs(0.01) == outputs(0.25) == outputs(0.49)


@pytest.mark.parametrize(("T", "delta"), [(2, 0.05), (9, 0.3), (12, 0.05), (40, 1e-3)])
def test_rollouts_by_default_keep_the_failure_below_delta(T: int, delta: float):
    result = find(parity_elimination(delta=delta), T, 0.4, 5)
    n = T - 1 + math.ceil(math.log2(1 / delta))
    assert all((a.cost.rollouts, a.cost.queries) == (n, 0) for a in result.attempts)
    assert elimination_success(n, T - 1) >= 1 - delta
    assert elimination_success(n, T - 1) >= 1 - 2.0 ** (T - 1 - n)  # as the docstring says


# ---- samples, asked again --------------------------------------------------------------------------


def test_samples_fail_at_most_at_rate_delta():
    T, alpha, delta, count = 9, 0.3, 0.3, 50
    bound = parity_elimination(report="sample", noise=alpha, delta=delta)
    result = find(bound, T, alpha, count)
    n = T - 1 + math.ceil(math.log2(2 / delta))
    m = plurality_draws(2, T - 1, 1 - alpha, delta / 2)
    for a in result.attempts:
        assert a.cost.rollouts == n
        assert a.cost.queries % m == 0
        assert a.cost.queries <= (T - 1) * m  # m for each independent string
    assert max(a.cost.queries for a in result.attempts) == (T - 1) * m
    failed = sum(not a.passed for a in result.attempts)
    assert failed <= stats.binom.isf(1e-6, count, delta)  # error rate 1e-6


def test_samples_need_their_majorities():
    """With noise understated m is too small: 0.45 in truth, and m for 0.01."""
    T, count = 9, 60
    bound = parity_elimination(report="sample", noise=0.01, delta=0.05)
    failed = sum(not a.passed for a in find(bound, T, 0.45, count).attempts)
    assert failed > count / 2


# ---- budgets and refusals --------------------------------------------------------------------------


@pytest.mark.parametrize("params", [{}, {"report": "sample", "noise": 0.1}])
@pytest.mark.parametrize("currency", ["queries", "tokens", "rollouts", "prefill"])
def test_budgets_are_kept(params: dict[str, Any], currency: str):
    for amount in (0, 1, 20, 60):
        result = find(parity_elimination(**params), 5, 0.1, 3, budget=Budget(**{currency: amount}))
        for a in result.attempts:
            assert (a.error, a.stopped) == (None, None)
            assert getattr(a.cost, currency) <= amount


def test_fewer_rollouts_are_used_as_far_as_they_go():
    (a,) = find(parity_elimination(n=30), 8, 0.1, 1, budget=Budget(rollouts=5)).attempts
    assert a.cost.rollouts == 5
    assert len(a.output or ()) == 8
    (a,) = find(parity_elimination(n=30), 8, 0.1, 1, budget=Budget(rollouts=0)).attempts
    assert (a.output, a.error) == (None, None)


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({"n": 0}, "n must be an integer >= 1 or None, got 0"),
        ({"noise": 0.5}, "noise must lie strictly between 0 and 0.5 or None, got 0.5"),
        ({"delta": 1}, "delta must lie strictly between 0 and 1, got 1"),
        ({"report": "sample"}, "report = 'sample' needs noise"),
        ({"report": "full"}, "report must be 'logprob' or 'sample', got 'full'"),
        ({"report": "argmax(1)"}, "report must be 'logprob' or 'sample', got 'argmax(1)'"),
    ],
)
def test_parameters_that_are_refused(params: dict[str, Any], why: str):
    with pytest.raises(InvalidInput) as caught:
        parity_elimination(**params)
    assert why in str(caught.value)


def test_contracts_and_vocabularies():
    assert str(parity_elimination().requires) == "root/logprob"
    again = parity_elimination(report="sample", noise=0.1)
    assert str(again.requires) == "visited/sample"
    for bound, grants in [(parity_elimination(), "chosen/sample"), (again, "root/full")]:
        with pytest.raises(AccessDenied, match="it requires"):
            find(bound, 5, 0.1, 1, grants=grants)
    path = HiddenPath(3, 4, 0.6)
    (a,) = reroot.run(
        parity_elimination(), [path.problem()], path, grants="root/full", on_error="record"
    ).attempts
    assert "K = 2 and T >= 2 tokens, got K = 3 and T = 4" in str(a.error)
    assert a.cost.rollouts == 0
