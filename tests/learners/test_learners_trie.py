"""Breadth-first search of a hidden trie: exact with laws and lists, at rate δ/2 with draws.

Statistical tests use fixed seeds; "error rate" is the probability that a correct program fails.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

import reroot
from reroot import Budget, InvalidInput
from reroot.access.runner import Attempt
from reroot.families import HiddenTrie
from reroot.families.many import ensemble
from reroot.generators.base import Generator
from reroot.generators.tabular import Tabular
from reroot.learners.trie import trie_search
from reroot.tasks.base import Problem
from reroot.testing import enumerate_runs

Leaf = tuple[int, ...]
SURE = ("full", "argmax(3)", "argmax(5)", "topk(3)", "topk(6)")


def search(members: Sequence[HiddenTrie], report: str, **more: Any) -> list[Attempt]:
    """One attempt on each of tries that share a and b."""
    tries, budget = ensemble(members), more.pop("budget", None)
    params = {"nodes": 9, "a": members[0].a, "b": members[0].b, "report": report, **more}
    bound = trie_search(**params)
    return reroot.run(bound, tries.problems(), tries, grants=bound.requires, budget=budget).attempts


def leaves(attempt: Attempt) -> list[Leaf]:
    return [tuple(leaf) for leaf in attempt.metadata["leaves"]]


def asked(attempt: Attempt) -> int:
    """Draws, lists and laws; with H = 1 a draw at the root is a rollout."""
    return attempt.cost.queries + attempt.cost.rollouts


def drawn(count: int, S: int = 9) -> list[HiddenTrie]:
    return [HiddenTrie(6, 4, 0.3, 0.17, nodes=S, seed=seed) for seed in range(count)]


def draws(report: str, K: int, S: int, a: float, b: float, delta: float) -> int:
    """m by its formula, apart from the learner."""
    if report == "sample":
        return math.ceil(2 * math.log(2 * K * S / delta) / (a - b) ** 2)
    if report == "logprob":
        return math.ceil(math.log(2 * S * math.floor(1 / a) / delta) / -math.log(1 - a))
    return 1


def inner(found: Sequence[Leaf]) -> set[Leaf]:
    return {leaf[:t] for leaf in found for t in range(len(leaf))}


SPECIAL = [
    HiddenTrie(4, 2, 1 / 3, 0.25, trie=[(i, j) for i in (0, 2, 3) for j in (0, 1, 3)]),  # c·a = 1
    HiddenTrie(2, 3, 0.6, 0.5, trie=[(1, 0, 1)]),  # b = 1/K
    HiddenTrie(5, 1, 0.24, 0.2, trie=[(0,), (2,), (3,), (4,)]),  # H = 1
    HiddenTrie(3, 2, 1 - 1e-9, 1 / 3, trie=[(2, 2)]),
]


# ---- what is found, and what it costs --------------------------------------------------------------


@pytest.mark.parametrize("report", [*SURE, "logprob", "sample"])
def test_it_finds_the_whole_trie_in_S_m_queries(report: str):
    """With draws wrong at rate δ/2 at most: here 1e-6/2 for each of 8 tries."""
    members, delta = drawn(8), 1e-6
    assert max(len(m.leaves) for m in members) > 8
    for member, attempt in zip(members, search(members, report, delta=delta), strict=True):
        assert leaves(attempt) == list(member.leaves)
        assert attempt.metadata["complete"] is True
        assert tuple(attempt.output or ()) == member.leaves[0]
        assert attempt.metadata["nodes"] == member.internal_nodes == len(inner(member.leaves))
        assert asked(attempt) == member.internal_nodes * draws(report, 6, 9, 0.3, 0.17, delta)
        assert "why" not in attempt.metadata


@pytest.mark.parametrize("member", SPECIAL, ids=["full", "binary", "flat", "sure"])
@pytest.mark.parametrize("report", ["full", "argmax", "topk", "logprob"])
def test_edge_cases_are_found(member: HiddenTrie, report: str):
    """With log-probabilities wrong at rate 1e-6/2 at most for each trie."""
    if report in ("argmax", "topk"):
        report += f"({round(1 / member.a - 1e-6)})" if member.a > 0.3 else "(4)"
    (attempt,) = search([member], report, nodes=member.internal_nodes, delta=1e-6)
    assert leaves(attempt) == list(member.leaves)
    assert attempt.metadata["complete"] is True


@pytest.mark.parametrize("told", [1, 2, 3, 5, 8, 9, 30])
@pytest.mark.parametrize("report", ["full", "argmax(3)", "logprob"])
def test_never_more_than_S_m_queries_and_never_a_part_as_the_whole(report: str, told: int):
    members = drawn(6)
    for member, attempt in zip(members, search(members, report, nodes=told), strict=True):
        assert attempt.error is None
        m, nodes = draws(report, 6, told, 0.3, 0.17, 0.05), attempt.metadata["nodes"]
        assert asked(attempt) == m * nodes <= m * told
        assert set(leaves(attempt)) <= set(member.leaves)  # nothing false is ever kept
        if told < member.internal_nodes:
            assert (attempt.output, attempt.metadata["complete"]) == (None, False)
            assert report == "logprob" or attempt.metadata["why"] == "nodes"
        elif report != "logprob":
            assert leaves(attempt) == list(member.leaves)
            assert attempt.metadata["complete"] is True


@pytest.mark.parametrize("told", [1, 4, 8])
def test_too_small_an_S_is_reported_with_samples(told: int):
    """A part passes for the whole only if a node is misread: at rate 1e-6/2 for each of 6 tries."""
    for attempt in search(drawn(6), "sample", nodes=told, delta=1e-6):
        assert (attempt.output, attempt.metadata["complete"]) == (None, False)
        assert attempt.metadata["why"] == "nodes"
        assert asked(attempt) <= told * draws("sample", 6, told, 0.3, 0.17, 1e-6)


# ---- failures --------------------------------------------------------------------------------------


def test_nodes_too_many_is_found_before_they_are_asked():
    """Levels 1, 2, 4: with S = 6 the third is not asked, and no leaf is known."""
    full = HiddenTrie(4, 3, 0.4, 0.25, trie=list(itertools.product((1, 2), repeat=3)))
    (attempt,) = search([full], "full", nodes=6)
    assert attempt.metadata == {"complete": False, "leaves": [], "nodes": 3, "why": "nodes"}
    assert attempt.cost.queries == 3
    (attempt,) = search([full], "full", nodes=7)
    assert attempt.metadata["complete"] is True


def unjudged(generator: Generator, H: int) -> Problem:
    return Problem("p", (), H, lambda output: 0.0)


@pytest.mark.parametrize("report", ["full", "argmax(2)", "logprob", "sample"])
def test_a_node_without_a_child_is_a_failure(report: str):
    """∅ has the child 1, which has none: its law is flat. Error rate with samples 1e-6."""
    laws = {(): np.array([0.1, 0.8, 0.1])}
    tree = Tabular.from_function(lambda u: laws.get(tuple(u), np.full(3, 1 / 3)), 3, 3, name="bare")
    bound = trie_search(nodes=5, a=0.5, b=0.34, delta=1e-6, report=report)
    (attempt,) = reroot.run(bound, [unjudged(tree, 3)], tree, grants=bound.requires).attempts
    assert attempt.metadata == {"complete": False, "leaves": [], "nodes": 2, "why": "childless"}
    assert attempt.output is None
    assert asked(attempt) == 2 * draws(report, 3, 5, 0.5, 0.34, 1e-6)


def test_leaves_beside_a_childless_node_are_kept():
    right = {(): [0.5, 0.0, 0.5], (0,): [0.5, 0.5, 0.0]}
    tree = Tabular.from_function(
        lambda u: np.array(right.get(tuple(u), [0.4, 0.3, 0.3])), 3, 2, name="half"
    )
    bound = trie_search(nodes=5, a=0.5, b=0.4, report="full")
    (attempt,) = reroot.run(bound, [unjudged(tree, 2)], tree, grants=bound.requires).attempts
    assert attempt.metadata == {
        "complete": False, "leaves": [[0, 0], [0, 1]], "nodes": 3, "why": "childless"
    }  # fmt: skip


def test_leaves_that_end_early_are_sorted_among_the_others():
    laws = {(): [0.5, 0.0, 0.5], (0,): [0.0, 0.5, 0.5]}
    tree = Tabular.from_function(
        lambda u: np.array(laws.get(tuple(u), [1.0, 0.0, 0.0])), 3, 2, end=(2,), name="ends"
    )
    bound = trie_search(nodes=2, a=0.5, b=0.4, report="full")
    (attempt,) = reroot.run(bound, [unjudged(tree, 2)], tree, grants=bound.requires).attempts
    assert attempt.metadata == {"complete": True, "leaves": [[0, 1], [0, 2], [2]], "nodes": 2}
    assert tuple(attempt.output or ()) == (0, 1)


def test_shares_that_are_just_the_threshold_are_kept():
    for i in range(1, 20):  # b = i/40, a = 1/2: some exp(log p) are below p
        share = (0.5 + i / 40) / 2
        law = np.array([share, 1 - share])
        tree = Tabular.from_function(lambda u, law=law: law, 2, 1, name="tight")
        for report in ("full", "argmax(2)"):
            bound = trie_search(nodes=1, a=0.5, b=i / 40, report=report)
            (attempt,) = reroot.run(
                bound, [unjudged(tree, 1)], tree, grants=bound.requires
            ).attempts
            assert leaves(attempt) == [(0,), (1,)]


@pytest.mark.parametrize("report", ["full", "sample"])
@pytest.mark.parametrize("currency", ["queries", "tokens"])
def test_a_budget_that_runs_out_is_a_failure(report: str, currency: str):
    members = drawn(2)
    m = draws(report, 6, 9, 0.3, 0.17, 0.05)
    for amount in (0, m - 1, m, 5 * m, 9 * m - 1):
        budget = Budget(**{currency: amount})
        for attempt in search(members, report, budget=budget):
            assert (attempt.error, attempt.stopped, attempt.output) == (None, None, None)
            assert (attempt.metadata["complete"], attempt.metadata["why"]) == (False, "budget")
            assert getattr(attempt.cost, currency) <= amount
            assert attempt.metadata["nodes"] * m <= asked(attempt)  # whole levels
    for attempt in search(members, report, budget=Budget(**{currency: 9 * m}), delta=0.05):
        assert attempt.metadata.get("why") != "budget"  # S·m is enough


# ---- how often it fails ----------------------------------------------------------------------------


def all_seen(children: int, a: float, m: int) -> float:
    """Each of c children of probability a is drawn at least once in m draws."""
    return sum((-1) ** j * math.comb(children, j) * (1 - j * a) ** m for j in range(children + 1))


def test_failure_with_log_probabilities_by_enumeration():
    """H = 1: every sequence of m draws; it fails where a child was not drawn."""
    member, delta = HiddenTrie(3, 1, 0.4, 1 / 3, trie=[(0,), (2,)]), 0.5
    bound = trie_search(nodes=1, a=0.4, b=1 / 3, delta=delta, report="logprob")
    m = draws("logprob", 3, 1, 0.4, 1 / 3, delta)
    runs = enumerate_runs(bound, member.problem("p"), member, grants=bound.requires)
    assert len(runs) == 3**m
    right = sum(r.probability for r in runs if leaves(r.attempt) == [(0,), (2,)])
    assert right == pytest.approx(all_seen(2, 0.4, m), abs=1e-12)
    assert 1 - right <= delta / 2
    empty = sum(r.probability for r in runs if r.attempt.metadata.get("why") == "childless")
    assert empty == pytest.approx(0.2**m, abs=1e-12)


def test_failure_with_log_probabilities_is_spent_up_to_its_half():
    """Nodes are read independently; a full binary trie is the worst one."""
    S, delta, count = 7, 0.9, 150
    member = HiddenTrie(4, 3, 0.45, 0.25, trie=list(itertools.product((1, 2), repeat=3)))
    m = draws("logprob", 4, S, 0.45, 0.25, delta)
    failure = 1 - all_seen(2, 0.45, m) ** S
    assert delta / 4 < failure <= delta / 2
    attempts = search([member] * count, "logprob", nodes=S, delta=delta)
    wrong = sum(leaves(a) != list(member.leaves) for a in attempts)
    low, high = stats.binom(count, failure).interval(1 - 1e-6)
    assert low <= wrong <= high  # error rate 1e-6


def test_failure_with_samples_is_at_most_half_of_delta():
    """Exact for one node: a child is kept if at least m(a + b)/2 of m draws are it."""
    K, a, b, delta, count = 4, 0.5, 0.25, 0.9, 200
    member = HiddenTrie(K, 1, a, b, trie=[(1,), (3,)])
    m = draws("sample", K, 1, a, b, delta)
    # the others have probability 0, and the two frequencies sum to 1
    kept = stats.binom(m, a)
    least = math.ceil(m * (a + b) / 2)
    failure = 1 - (kept.cdf(m - least) - kept.cdf(least - 1))
    assert failure <= delta / 2
    attempts = search([member] * count, "sample", nodes=1, delta=delta)
    wrong = sum(leaves(a) != list(member.leaves) for a in attempts)
    low, high = stats.binom(count, failure).interval(1 - 1e-6)
    assert low <= wrong <= high  # error rate 1e-6
    assert wrong > 0  # (with probability 1 - 4e-4 for a program that is right)


# ---- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({"nodes": 0}, "nodes must be an integer >= 1, got 0"),
        ({"nodes": True}, "nodes must be an integer >= 1, got True"),
        ({"a": 1}, "a must lie strictly between 0 and 1, got 1"),
        ({"b": 0.3}, "b must lie strictly between 0 and 0.3, got 0.3"),
        ({"b": 0}, "b must lie strictly between 0 and 0.3, got 0"),
        ({"delta": 1.0}, "delta must lie strictly between 0 and 1, got 1.0"),
        ({"report": "none"}, "'argmax(3)', got 'none'"),
        ({"report": "argmax(2)"}, "at least 1/a tokens, 'argmax(3)', got 'argmax(2)'"),
        ({"report": "topk(2)"}, "at least 1/a tokens, 'argmax(3)', got 'topk(2)'"),
        ({"report": "topk(2)", "a": 1 / 3}, "'argmax(3)', got 'topk(2)'"),
    ],
)
def test_parameters_that_are_refused(params: dict[str, Any], why: str):
    with pytest.raises(InvalidInput) as caught:
        trie_search(**params)
    assert why in str(caught.value)


def test_contracts_are_the_weakest():
    for report, contract in [
        ("sample", "visited/sample"),
        ("logprob", "visited/logprob"),
        ("full", "reset/full"),
        ("argmax(3)", "reset/argmax(3)"),
        ("topk(7)", "reset/topk(7)"),
    ]:
        assert str(trie_search(report=report).requires) == contract
