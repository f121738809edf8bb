"""Collapse and barrier: the statements of arXiv 2604.04855 by enumeration, and the experiments about them.

"Equal" means within 1e-12.
"""

from __future__ import annotations

import json
import math
from decimal import Decimal, localcontext
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from experiment_rows import markup_of
from reroot import Contract, Report
from reroot.access.session import Facts
from reroot.access.transcript import transcript_text
from reroot.contract import Sampling
from reroot.experiments import barrier, collapse
from reroot.experiments.base import Experiment, Row
from reroot.experiments.collapse import EXACT, REPORTS, adapt, collapse_difference, roll
from reroot.experiments.two_laws import (
    Pair,
    doors,
    random_pair,
    reach_of,
    sampled_error,
    tell_apart,
    wrong_guesses,
)
from reroot.generators.stops import Stop
from reroot.generators.tabular import Tabular
from reroot.limits import barrier_error, barrier_rollouts, barrier_tv
from reroot.tasks.base import Problem
from reroot.testing import enumerate_runs, law_of, output_law, total_variation
from reroot.testing.canonical import canonical_rollouts, simulate
from reroot.types import Budget

T1 = Sampling()

trees = st.builds(
    lambda K, H, seed, ends: Tabular.random(K, H, seed=seed, end=(K - 1,) if ends else ()),
    st.integers(2, 3),
    st.integers(1, 4),
    st.integers(0, 10**6),
    st.booleans(),
)
laws = st.sampled_from(["T=1", "T=1", "T=0.5", "T=2,top_k=2", "T=1,top_p=0.7"]).map(Sampling.parse)


def count(tree: Tabular) -> int:
    return len(tree.enumerate_outputs())


# ---- collapse ------------------------------------------------------------------------------------


@pytest.mark.slow(1)
@settings(max_examples=30)
@given(trees, st.sampled_from(REPORTS), laws, st.sampled_from([(1,), (2,), (1, 1)]))
def test_what_is_served_is_a_function_of_the_canonical_experiment(
    tree: Tabular, report: str, sampling: Sampling, batches: tuple[int, ...]
) -> None:
    assume(count(tree) ** sum(batches) <= 150)
    bound = roll(batches=batches)
    difference, transcripts = collapse_difference(tree, bound, sum(batches), report, sampling)
    assert difference <= EXACT
    assert transcripts == len(canonical_rollouts(tree, sampling)) ** sum(batches)


@pytest.mark.slow(1)
@settings(max_examples=15)
@given(trees, st.sampled_from(REPORTS), st.integers(1, 3))
def test_so_it_is_for_adaptive_learners(tree: Tabular, report: str, most: int) -> None:
    assume(count(tree) ** most <= 150)
    difference, _ = collapse_difference(tree, adapt(most=most), most, report, T1)
    assert difference <= EXACT


@settings(max_examples=10)
@given(trees, st.integers(1, 3), st.integers(1, 2))
def test_argmax_from_the_root_is_the_law_at_temperature_0(tree: Tabular, k: int, n: int) -> None:
    bound, greedy = roll(batches=(1,) * n), Sampling(temperature=0.0)
    assert collapse_difference(tree, bound, n, f"argmax({k})", greedy) == (0.0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("report", REPORTS)
def test_collapse_at_full_size(report: str) -> None:
    """K = 3, H = 3, N = 2 and an adaptive learner with N = 3: 729 and 512 draws."""
    for tree, bound, n in (
        (Tabular.random(3, 3, seed=1), roll(batches=(2,)), 2),
        (Tabular.random(2, 3, seed=2), adapt(most=3), 3),
    ):
        assert collapse_difference(tree, bound, n, report, T1)[0] <= EXACT


@pytest.mark.parametrize("wrong", ["T=0.9", "T=1,top_p=0.6"])
def test_another_law_is_noticed(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check can fail: the canonical experiment of another law gives other transcripts."""
    tree = Tabular.random(3, 2, seed=3)
    other = canonical_rollouts(tree, Sampling.parse(wrong))
    monkeypatch.setattr(collapse, "canonical_rollouts", lambda tree, sampling: other)
    assert collapse_difference(tree, roll(batches=(1,)), 1, "sample", T1)[0] > 0.01


def test_a_coarsening_that_is_off_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from reroot.testing import canonical

    true, tree = canonical.coarsened, Tabular.random(3, 2, seed=4)
    monkeypatch.setattr(canonical, "coarsened", lambda reply, report: true(reply, Report.TOPK(1)))
    assert collapse_difference(tree, roll(batches=(1,)), 1, "topk(2)", T1)[0] > 0.1
    assert collapse_difference(tree, roll(batches=(1,)), 1, "topk(1)", T1)[0] <= EXACT


@pytest.mark.slow(1)
@settings(max_examples=20)
@given(trees)
def test_canonical_rollouts_are_those_of_the_tables(tree: Tabular) -> None:
    found = {r.tokens: r for r in canonical_rollouts(tree, T1)}
    known = dict(tree.enumerate_outputs())
    assert set(found) == set(known)
    for y, r in found.items():
        assert r.probability == pytest.approx(math.exp(known[y]), abs=EXACT)
        assert np.array_equal(r.laws, tree.log_laws((), [y[:t] for t in range(len(y))]))


def test_a_simulated_learner_gets_its_rollouts_in_order() -> None:
    tree = Tabular.random(2, 2, seed=5)
    first, second = canonical_rollouts(tree, T1)[:2]
    facts = Facts((), 2, 2, Stop(), Contract.parse("root/full").resolved, Budget(), (0, 0))
    one, other = simulate(roll(batches=(1, 1)), facts, (first, second))
    assert simulate(roll(batches=(1, 1)), facts, (second, first)) == (other, one)
    assert one != other


def test_one_reset_sees_what_no_rollout_does() -> None:
    for reach in (0.0, 0.1):
        for row in collapse._reset({"reach": reach, "rollouts": [1, 2]}):
            assert row["canonical"] == pytest.approx(barrier_tv(row["rollouts"], reach), abs=EXACT)
            assert row["reset"] == pytest.approx(1.0, abs=EXACT)


# ---- barrier -------------------------------------------------------------------------------------

pairs = st.fixed_dictionaries(
    {
        "K": st.integers(2, 3),
        "H": st.integers(2, 4),
        "tree": st.integers(0, 10**6),
        "change": st.sampled_from(["fresh", "swap"]),
        "end": st.sampled_from([[], [0]]),
    }
)


@pytest.mark.slow
@settings(max_examples=12)
@given(pairs, st.integers(1, 3))
def test_the_distance_is_the_chance_to_get_there(s: dict[str, Any], rollouts: int) -> None:
    """TV(E_N(P), E_N(Q)) = 1 - (1 - R_U)^N, and no more with weaker reports."""
    (tree, _), differ = random_pair(s)
    assume(count(tree) ** rollouts <= 90)
    rows = list(barrier._laws({**s, "rollouts": rollouts}))
    assert [r["report"] for r in rows] == list(REPORTS)
    assert rows[-1]["tv"] == pytest.approx(1 - (1 - reach_of(tree, differ)) ** rollouts, abs=EXACT)
    tv = [r["tv"] for r in rows]
    assert all(a <= b + EXACT for a, b in pairwise(tv))


@pytest.mark.slow
@pytest.mark.parametrize("tree", range(4))
def test_the_distance_at_full_size(tree: int) -> None:
    s = {"K": 2, "H": 3, "tree": tree, "change": "swap", "end": [], "rollouts": 3}
    for row in barrier._laws(s):
        assert row["tv"] <= row["exact"] + EXACT
        assert row["report"] != "full" or row["tv"] == pytest.approx(row["exact"], abs=EXACT)


@settings(max_examples=30)
@given(pairs)
def test_pairs_agree_outside_u_and_nowhere_else(s: dict[str, Any]) -> None:
    (first, second), differ = random_pair(s)
    assert differ
    inside: dict[bool, float] = {True: 0.0, False: 0.0}
    for y, logprob in first.enumerate_outputs():
        passed = [y[:t] for t in range(len(y))]
        one, other = first.log_laws((), passed), second.log_laws((), passed)
        for u, a, b in zip(passed, one, other, strict=True):
            assert np.array_equal(a, b) == (u not in differ)
        inside[not differ.isdisjoint(passed)] += math.exp(logprob)
    assert reach_of(first, differ) == pytest.approx(inside[True], abs=EXACT)
    assert reach_of(second, differ) == pytest.approx(inside[True], abs=EXACT)


@pytest.mark.parametrize(
    ("p", "depth", "rollouts"), [(0.3, 1, 1), (0.3, 1, 2), (0.3, 1, 3), (0.6, 2, 1), (0.6, 2, 2)]
)
@pytest.mark.parametrize(("report", "exact"), [("full", barrier_error), ("sample", sampled_error)])
def test_the_learner_is_the_best_test(
    p: float, depth: int, rollouts: int, report: str, exact: Any
) -> None:
    """Its exact error is (1 - TV)/2 of the transcripts it sees, and that is the closed form.

    The coin of ``session.rng`` falls alike under both laws, so one of the two pays for each tie.
    """
    trees = doors(p, depth)
    bound = tell_apart(pair=Pair.of(trees), rollouts=rollouts, report=report)
    problem = Problem("p", (), depth + 1, lambda y: 0.0)
    grants = f"root/{report}"
    first, second = (
        enumerate_runs(bound, problem, tree, grants=grants, transcripts=True) for tree in trees
    )
    no, yes = ((which,) * trees[0].horizon for which in (0, 1))
    wrong = output_law(first).get(yes, 0.0) + output_law(second).get(no, 0.0)
    tv = total_variation(
        *(law_of(runs, lambda r: transcript_text(r.transcript)) for runs in (first, second))
    )
    assert wrong / 2 == pytest.approx((1 - tv) / 2, abs=EXACT)
    assert wrong / 2 == pytest.approx(exact(rollouts, p**depth), abs=EXACT)


@pytest.mark.parametrize("rollouts", [1, 4])
def test_measured_errors_are_binomial(rollouts: int) -> None:
    """200 attempts; error rate 1e-6."""
    wrong = wrong_guesses(doors(0.3, 1), rollouts, "full", 200, seed=1)
    low, high = stats.binom.interval(1 - 1e-6, 200, barrier_error(rollouts, 0.3))
    assert low <= wrong <= high


def true_fewest(error: float, reach: float) -> int:
    """⌈log(2ε)/log(1 - R_U)⌉ with 80 digits."""
    with localcontext() as context:
        context.prec = 80
        ratio = (2 * Decimal(error)).ln() / (1 - Decimal(reach)).ln()
        return math.ceil(ratio)


@pytest.mark.parametrize("error", [0.3, 0.1, 0.05, 1e-3])
@pytest.mark.parametrize("reach", [0.3, 0.09, 1e-3, 1e-6, 1e-9])
def test_the_fewest_rollouts_exactly(error: float, reach: float) -> None:
    assert barrier_rollouts(error, reach) == true_fewest(error, reach)


def test_the_fewest_rollouts_at_tiny_reaches_are_right_to_a_double() -> None:
    n, known = barrier_rollouts(0.05, 1e-30), true_fewest(0.05, 1e-30)
    assert abs(n - known) <= 1e-15 * known


# ---- the experiments -----------------------------------------------------------------------------


def measured(experiment: Experiment, numbers: tuple[int, ...]) -> list[Row]:
    """Rows as ``reproduce`` keeps them."""
    rows = [
        {**experiment.setting(n), **row}
        for n in numbers
        for row in experiment.measure(experiment.setting(n))
    ]
    return json.loads(json.dumps(rows))


@pytest.fixture(scope="module")
def quick() -> dict[str, list[Row]]:
    return {e.id: measured(e, e.quick) for e in (collapse.EXPERIMENT, barrier.EXPERIMENT)}


@pytest.mark.slow(1)
@pytest.mark.parametrize(
    "experiment", [collapse.EXPERIMENT, barrier.EXPERIMENT], ids=lambda e: e.id
)
def test_quick_runs_hold(experiment: Experiment, quick: dict[str, list[Row]]) -> None:
    checks = experiment.check(quick[experiment.id])
    assert [c for c in checks if not c.holds] == []
    page = markup_of(experiment.show(quick[experiment.id]))
    assert page.count("<table>") == 2
    assert page.count("<figure>") == (3 if experiment.id == "barrier" else 0)


def doctored(rows: list[Row], kind: str, **changes: Any) -> list[Row]:
    """Rows of one kind changed: a function of the row, or a value."""
    return [
        {**r, **{k: v(r) if callable(v) else v for k, v in changes.items()}}
        if r["kind"] == kind and all(k in r for k in changes)
        else r
        for r in rows
    ]


@pytest.mark.slow(1)
@pytest.mark.parametrize(
    ("id", "kind", "changes", "fails"),
    [
        ("collapse", "served", {"difference": 2e-12}, [0, 2]),
        ("collapse", "adaptive", {"difference": 2e-12}, [1]),
        ("collapse", "recorded", {"same": False}, [3]),
        ("collapse", "reset", {"reset": 0.9}, [4]),
        ("collapse", "reset", {"canonical": 0.1}, [4]),
        ("barrier", "laws", {"exact": lambda r: r["exact"] + 2e-12}, [0]),
        ("barrier", "laws", {"tv": lambda r: 1 - r["tv"]}, [0, 1]),
        ("barrier", "test", {"wrong": lambda r: r["attempts"] - r["wrong"]}, [2, 3]),
        ("barrier", "test", {"wrong": 0}, [2, 3, 4]),
        ("barrier", "law", {"wrong": lambda r: int(r["wrong"] * 1.2)}, [5]),
        ("barrier", "fewest", {"at": lambda r: r["short"] * 1.01}, [6]),
        ("barrier", "fewest", {"short": lambda r: r["at"] / 1.1}, [6]),
        ("barrier", "fewest", {"wrong_at": lambda r: r["attempts"] // 2}, [7]),
    ],
)  # fmt: skip
def test_checks_can_fail(
    id: str, kind: str, changes: dict[str, Any], fails: list[int], quick: dict[str, list[Row]]
) -> None:
    experiment = {"collapse": collapse.EXPERIMENT, "barrier": barrier.EXPERIMENT}[id]
    checks = experiment.check(doctored(quick[id], kind, **changes))
    failed = [i for i, check in enumerate(checks) if not check.holds]
    assert set(fails) <= set(failed)
    assert len(failed) <= len(fails) + 1
