"""Walks that read log-probabilities or laws, and decoys in the greedy and the plurality walk.

Exact laws come from every sequence of draws (``enumerate_runs``) and are compared within 1e-12.
Statistical tests use fixed seeds; "error rate" is the probability that a correct program fails.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from scipy import stats

import reroot
from reroot import AccessDenied, Budget, InvalidInput, RunResult
from reroot.access.runner import Attempt
from reroot.experiments.formulas import scoring_quantile
from reroot.families import DecoyPath, HiddenPath, PathFamily
from reroot.generators.tabular import Tabular
from reroot.learners import BoundLearner
from reroot.learners.logprob_walks import law_walk, logprob_walk
from reroot.learners.recovery import greedy_walk, plurality_walk
from reroot.limits import decoy_draws
from reroot.tasks.base import Problem
from reroot.testing import EnumeratedRun, enumerate_runs, largest_difference, law_of

EXACT = 1e-12
HIDDEN = HiddenPath(5, 12, 0.3, seed=1)
DECOYS = DecoyPath(8, 10, 2, 0.25, 0.2, seed=1)  # p1 > 1/(K - k): one look shows the path
FAINT = DecoyPath(4, 1, 1, 0.4, 0.3, path=[2])  # p1 < 1/(K - k): only with the decoy in view


def every(bound: BoundLearner, path: PathFamily) -> list[EnumeratedRun]:
    runs = enumerate_runs(bound, path.problem("p"), path, grants=bound.requires)
    assert math.fsum(run.probability for run in runs) == pytest.approx(1, abs=EXACT)
    assert all(run.attempt.error is None and run.attempt.stopped is None for run in runs)
    return runs


def reach(bound: BoundLearner, path: PathFamily, count: int = 1, **more: Any) -> RunResult:
    problems = [path.problem(id=f"{i}") for i in range(count)]
    return reroot.run(bound, problems, path, grants=more.pop("grants", bound.requires), **more)


def asked(attempt: Attempt) -> int:
    """Queries; with H = 1 a draw at the root is a rollout."""
    return attempt.cost.queries + attempt.cost.rollouts


def ends(runs: list[EnumeratedRun]) -> dict[tuple[int, int], float]:
    """(tokens of the output, queries) → probability."""
    return law_of(runs, lambda r: (len(r.attempt.output or ()), asked(r.attempt)))


def waiting(stages: list[float], most: int) -> dict[tuple[int, int], float]:
    """The same for stages that wait for a hit of probability p, at most ``most`` draws each."""
    alive, found = {0: 1.0}, defaultdict[tuple[int, int], float](float)
    for done, p in enumerate(stages):
        after = defaultdict[int, float](float)
        for queries, mass in alive.items():
            for n in range(1, most + 1):
                after[queries + n] += mass * p * (1 - p) ** (n - 1)
            found[done, queries + most] += mass * (1 - p) ** most
        alive = after
    for queries, mass in alive.items():
        found[len(stages), queries] += mass
    return {key: mass for key, mass in found.items() if mass > 0}


# ---- what it costs, exactly ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "most", "p"),
    [
        (HiddenPath(2, 3, 0.6, seed=3), 3, 0.6),
        (HiddenPath(3, 2, 0.5, seed=3), 3, 0.5),
        (DecoyPath(4, 2, 1, 0.4, 0.36, seed=3), 2, 0.36),
    ],
)
def test_visited_waits_a_geometric_time_for_each_token(path: PathFamily, most: int, p: float):
    k = path.k if isinstance(path, DecoyPath) else 0
    walk = every(logprob_walk(decoys=k, max_draws=most), path)
    assert largest_difference(ends(walk), waiting([p] * path.horizon, most)) < EXACT
    law = every(law_walk(decoys=k, control="visited", max_draws=most), path)
    last = [p] * (path.horizon - 1) + [1.0]  # the last token need not be emitted
    assert largest_difference(ends(law), waiting(last, most)) < EXACT
    for run in (*walk, *law):  # what max_draws cut short is a part of the path
        output = tuple(run.attempt.output or ())
        assert output == path.path[: len(output)]


def test_total_waiting_is_negative_binomial():
    path, count = HiddenPath(4, 6, 0.5, seed=2), 30
    for bound, hits in [(logprob_walk(), 6), (law_walk(control="visited"), 5)]:
        result = reach(bound, path, count)
        assert result.pass_rate == 1
        missed = result.cost.queries - 6 * count
        low, high = stats.nbinom(hits * count, 0.5).interval(1 - 1e-6)
        assert low <= missed <= high  # error rate 1e-6


def test_a_faint_path_waits_for_the_decoy_too():
    """Shown once z and the decoy were drawn, in either order: two coupons."""
    most, z, decoy = 4, 0.3, 0.4
    runs = every(logprob_walk(decoys=1, max_draws=most), FAINT)
    open_after = [(1 - z) ** n + (1 - decoy) ** n - (1 - z - decoy) ** n for n in range(most + 1)]
    law = {(1, n): open_after[n - 1] - open_after[n] for n in range(2, most + 1)}
    law[0, most] = open_after[most]
    assert largest_difference(ends(runs), law) < EXACT
    assert all(tuple(r.attempt.output or ()) in ((), (2,)) for r in runs)


@pytest.mark.parametrize(
    ("K", "H", "k", "p0", "p"),
    [(2, 2, 0, 0, 0.6), (3, 2, 0, 0, 0.5), (4, 1, 0, 0, 0.4), (4, 2, 1, 0.4, 0.36),
     (6, 1, 2, 0.27, 0.26)],
)  # fmt: skip
def test_reset_scores_as_scoring_quantile_says(K: int, H: int, k: int, p0: float, p: float):
    n, law = K - k, defaultdict[int, float](float)
    for secret in itertools.product(range(k, K), repeat=H):  # a uniform path
        path = DecoyPath(K, H, k, p0, p, secret) if k else HiddenPath(K, H, p, secret)
        for run in every(logprob_walk(decoys=k, control="reset"), path):
            assert run.attempt.passed
            assert H <= asked(run.attempt) <= n * H
            law[asked(run.attempt)] += run.probability / n**H
    q, below = (1 - k * p0 - p) / (n - 1), 0.0
    for queries in range(H, n * H + 1):  # equal quantiles, at levels inside each step
        for share in (0.001, 0.5, 0.999):
            level = below + share * law[queries]
            assert law[queries] == 0 or scoring_quantile(n, H, p, q, level) == queries
        below += law[queries]


@pytest.mark.parametrize(
    ("K", "k", "p0", "p1"),
    [(4, 1, 0.4, 0.3), (3, 1, 0.4, 0.35), (5, 2, 0.25, 0.22), (4, 2, 0.3, 0.25)],
)
def test_a_faint_path_is_found_with_reset_too(K: int, k: int, p0: float, p1: float):
    """Where decoys hide the mean of the others, the token that exceeds the others is the path's."""
    assert p1 < 1 / (K - k)
    for secret in range(k, K):
        for run in every(
            logprob_walk(decoys=k, control="reset"), DecoyPath(K, 1, k, p0, p1, [secret])
        ):
            assert run.attempt.passed
            assert asked(run.attempt) <= (K - k if K - k > 2 else 3)


@pytest.mark.parametrize("secret", [(0, 0, 0), (1, 0, 1), (0, 1, 1)])
def test_two_tokens_take_one_query_each(secret: tuple[int, ...]):
    path = HiddenPath(2, 3, 0.6, secret)
    for bound in (
        logprob_walk(control="reset"),
        law_walk(report="logprob"),
        law_walk(report="full"),
        law_walk(report="topk(1)"),
    ):
        runs = every(bound, path)
        assert len(runs) == 8
        assert all(r.attempt.passed and r.attempt.cost.queries == 3 for r in runs)
    # VISITED: what LOGPROB shows need not be emitted at the last place, as with laws
    one, law = (every(law_walk(report=r, control="visited", max_draws=3), path)
                for r in ("logprob", "full"))  # fmt: skip
    assert largest_difference(ends(one), ends(law)) < EXACT


# ---- that it is right ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", [HIDDEN, DECOYS], ids=["hidden", "decoys"])
def test_reports_that_show_the_path_find_it(path: PathFamily):
    k, H, count = path.k if isinstance(path, DecoyPath) else 0, path.horizon, 4
    lists = [f"topk({j})" for j in (k + 1, k + 2, path.vocab_size)]
    for report in ("full", *lists):
        result = reach(law_walk(decoys=k, report=report), path, count)
        assert result.pass_rate == 1
        assert all(a.cost.queries == a.cost.tokens == H for a in result.attempts)
    for bound in (
        greedy_walk(decoys=k),
        logprob_walk(decoys=k),
        logprob_walk(decoys=k, control="reset"),
        law_walk(decoys=k, report=f"topk({k + 1})", control="visited"),
    ):
        result = reach(bound, path, count)
        assert result.pass_rate == 1
        if bound.requires.control == reroot.Control.RESET:
            most = H if bound.name == "greedy_walk" else H * (path.vocab_size - k)
            assert all(H <= a.cost.queries <= most for a in result.attempts)


def test_without_knowledge_of_decoys_the_walk_takes_a_decoy():
    assert all(tuple(a.output or ()) == (0,) * 10 for a in reach(greedy_walk(), DECOYS, 2).attempts)
    assert tuple(reach(law_walk(), DECOYS).attempts[0].output or ()) == (0,) * 10


def test_greedy_and_law_walk_are_argmax_walks_past_decoys():
    """Small integer weights: many ties, which the smaller id wins; some outputs end early."""
    rng = np.random.default_rng(0)
    for seed in range(12):
        K, H, k = int(rng.integers(3, 6)), int(rng.integers(1, 4)), int(rng.integers(0, 3))
        counts = [rng.integers(1, 4, size=(K,) * (t + 1)) for t in range(H)]
        levels = [c / c.sum(axis=-1, keepdims=True) for c in counts]
        tree = Tabular(levels, end=(K - 1,) if seed % 2 else ())
        expected: tuple[int, ...] = ()
        while len(expected) < H and not (seed % 2 and expected and expected[-1] == K - 1):
            expected += (k + int(np.argmax(levels[len(expected)][expected][k:])),)
        for bound in (
            greedy_walk(decoys=k),
            law_walk(decoys=k),
            law_walk(decoys=k, report=f"topk({k + 1})"),
        ):
            task = Problem("p", (), H, lambda output: 0.0)
            (a,) = reroot.run(bound, [task], tree, grants=bound.requires).attempts
            assert (tuple(a.output or ()), asked(a)) == (expected, len(expected))


# ---- the plurality walk behind decoys ------------------------------------------------------------


def stage_success(n: int, p: float, q: float, rivals: int, decoys: float) -> float:
    """One batch of n with a non-decoy in it: the path token leads, ties broken uniformly."""
    right = 0.0
    for counts in itertools.product(range(n + 1), repeat=rivals + 1):
        if 0 < sum(counts) <= n:
            cells = (*counts, n - sum(counts))
            mass = stats.multinomial.pmf(cells, n, (p, *[q] * rivals, decoys))
            right += mass * (counts[0] == max(counts)) / counts.count(max(counts))
    return right / (1 - decoys**n)


def test_plurality_walk_leaves_decoys_out_by_enumeration():
    path, m, count = DecoyPath(4, 2, 2, 0.26, 0.25, path=[3, 3]), 3, 500  # no tie goes to 3 first
    result = reach(plurality_walk(draws_per_token=m, decoys=2), path, count)
    success = stage_success(m, 0.25, path.q1, 1, 0.52) ** 2
    low, high = stats.binom(count, success).interval(1 - 1e-4)
    assert low <= sum(a.passed for a in result.attempts) <= high  # error rate 1e-4
    # decoys are as likely everywhere, so batches are H geometric variables on and off the path
    again = result.cost.queries // m - 2 * count
    low, high = stats.nbinom(2 * count, 1 - 0.52**m).interval(1 - 1e-5)
    assert low <= again <= high  # error rate 1e-5
    assert all(min(a.output or (0,)) >= 2 for a in result.attempts)


def test_decoy_draws_are_enough_and_a_tenth_is_not():
    path, count, delta = DecoyPath(4, 2, 1, 0.3, 0.28, seed=1), 60, 0.2
    m = decoy_draws(4, 2, 1, 0.3, 0.28, delta)
    enough = reach(plurality_walk(draws_per_token=m, decoys=1), path, count)
    assert all(a.cost.queries == 2 * m for a in enough.attempts)
    failed = sum(not a.passed for a in enough.attempts)
    assert failed <= stats.binom.isf(1e-6, count, delta)  # error rate 1e-6
    few = reach(plurality_walk(draws_per_token=m // 10, decoys=1), path, count)
    assert sum(not a.passed for a in few.attempts) > stats.binom.isf(1e-6, count, delta)


def test_plurality_walk_gives_up_where_all_is_decoys():
    tree = Tabular.from_function(lambda u: np.array([1.0, 0.0, 0.0]), 3, 2, name="decoys")
    task = Problem("p", (), 2, lambda output: 0.0)
    bound = plurality_walk(draws_per_token=2, decoys=1)
    (a,) = reroot.run(bound, [task], tree, grants=bound.requires).attempts
    assert (a.output, a.error, a.cost.queries) == (reroot.Prefix(()), None, 200)


# ---- budgets and refusals ------------------------------------------------------------------------


@pytest.mark.parametrize("path", [HIDDEN, DECOYS], ids=["hidden", "decoys"])
@pytest.mark.parametrize("currency", ["queries", "tokens", "prefill"])
def test_budgets_end_walks_with_what_they_have(path: PathFamily, currency: str):
    k = path.k if isinstance(path, DecoyPath) else 0
    for bound in (
        logprob_walk(decoys=k),
        logprob_walk(decoys=k, control="reset"),
        law_walk(decoys=k),
        law_walk(decoys=k, control="visited"),
        greedy_walk(decoys=k),
    ):
        lengths: list[int] = []
        for amount in (0, 1, 4, 15):
            (a,) = reach(bound, path, budget=Budget(**{currency: amount})).attempts
            assert (a.error, a.stopped) == (None, None)  # it returned by itself
            assert getattr(a.cost, currency) <= amount
            output = tuple(a.output or ())
            assert output == path.path[: len(output)]
            lengths.append(len(output))
        assert lengths == sorted(lengths)
        assert lengths[-1] > 0


def test_max_draws_are_the_most_at_one_prefix():
    flat = Tabular.from_function(lambda u: np.full(4, 0.25), 4, 3, name="flat")
    task = Problem("p", (), 3, lambda output: 0.0)
    for bound, queries in [
        (logprob_walk(max_draws=3), 3),  # nothing is ever shown
        (law_walk(control="visited", max_draws=1), 1),  # token 0 is likeliest, by its id
    ]:
        runs = enumerate_runs(bound, task, flat, grants=bound.requires)
        short = [r.attempt for r in runs if not len(r.attempt.output or ())]
        assert short
        assert all(a.cost.queries == queries and a.error is None for a in short)


@pytest.mark.parametrize(
    ("factory", "params", "why"),
    [
        (logprob_walk, {"control": "root"}, "control must be 'visited' or 'reset', got 'root'"),
        (law_walk, {"control": "chosen"}, "control must be 'visited' or 'reset', got 'chosen'"),
        (law_walk, {"control": "rest"}, "unknown control"),
        (logprob_walk, {"decoys": -1}, "decoys must be an integer >= 0, got -1"),
        (law_walk, {"decoys": True}, "decoys must be an integer >= 0, got True"),
        (greedy_walk, {"decoys": 1.0}, "decoys must be an integer >= 0, got 1.0"),
        (plurality_walk, {"decoys": None}, "decoys must be an integer >= 0, got None"),
        (plurality_walk, {"decoys": 1, "p": 0.3}, "with decoys give draws_per_token"),
        (logprob_walk, {"max_draws": 0}, "max_draws must be an integer >= 1, got 0"),
        (law_walk, {"max_draws": 0.5}, "max_draws must be an integer >= 1, got 0.5"),
        (law_walk, {"report": "sample"}, "report must show the likeliest token"),
        (law_walk, {"report": "argmax(3)"}, "report must show the likeliest token"),
        (law_walk, {"report": "topk(2)", "decoys": 2}, "'topk(3)' or more"),
        (law_walk, {"report": "logprob", "decoys": 1}, "report must show the likeliest token"),
    ],
)
def test_parameters_that_are_refused(factory: Any, params: dict[str, Any], why: str):
    with pytest.raises(InvalidInput) as caught:
        factory(**params)
    assert why in str(caught.value)


def test_vocabularies_that_are_refused():
    for bound, path, why in [
        (logprob_walk(decoys=4), HIDDEN, "at least 2 of K = 5 tokens must be no decoys"),
        (law_walk(decoys=5), HIDDEN, "at least 1 of K = 5 tokens must be no decoys"),
        (greedy_walk(decoys=5), HIDDEN, "at least 1 of K = 5 tokens must be no decoys"),
        (plurality_walk(draws_per_token=2, decoys=5), HIDDEN, "at least 1 of K = 5"),
        (law_walk(report="logprob"), HIDDEN, "one log-probability is the law at K = 2, not 5"),
    ]:
        (a,) = reach(bound, path, on_error="record").attempts
        assert why in str(a.error)
        assert a.cost.queries == 0


def test_contracts_are_the_weakest():
    for bound, contract in [
        (logprob_walk(), "visited/logprob"),
        (logprob_walk(control="reset"), "reset/logprob"),
        (law_walk(), "reset/full"),
        (law_walk(report="topk(3)", decoys=2, control="visited"), "visited/topk(3)"),
        (greedy_walk(decoys=2), "reset/argmax(3)"),
        (plurality_walk(draws_per_token=1, decoys=2), "visited/sample"),
    ]:
        assert str(bound.requires) == contract
        with pytest.raises(AccessDenied, match="it requires"):
            reach(bound, HIDDEN, grants="root/full")
