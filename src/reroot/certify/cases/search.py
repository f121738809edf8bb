"""Certificates of methods that walk down the tree, step back, or grow trees."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...learners.recovery import greedy_walk
from ...learners.sampling.action_rejection import action_rejection
from ...learners.sampling.beam_search import beam_search
from ...learners.sampling.diligent_search import diligent_search
from ...learners.sampling.segment_tree import segment_tree
from ...learners.sampling.tree_rollouts import tree_rollouts
from ...learners.sampling.tree_search import tree_search
from ...learners.sampling.verifier_tree_search import verifier_tree_search
from ...learners.verified import backtracking, tokenwise_rejection
from ...objective import laws
from ...testing import EnumeratedRun
from ..case import Aim, Case, given_right, tilted
from ..toys import COINS, LENGTHS, PRINTED, SHORT, Tokens, Toy


def tokenwise_rejection_cases() -> Iterator[Case]:
    """Π P·V/Σ P·V, which is not P given right."""
    law, draws = laws.tokenwise_rejection(LENGTHS.tree, LENGTHS.accepted, 3)
    yield Case(
        learner=tokenwise_rejection(growth=1.0, max_tries=3),
        toy=LENGTHS,
        states="Π_t P·V/Σ P·V, with at most 3 draws at each prefix",
        law={**LENGTHS.law(law), None: 1.0 - law.sum()},
        aim=given_right(LENGTHS),
        costs={"queries": draws},
        view=_passed,
    )


def backtracking_cases() -> Iterator[Case]:
    """Erases a token, up to a quota; then the verifier is ignored."""
    for quota in (1, 3):
        yield Case(
            learner=backtracking(quota=quota, stride=1),
            toy=LENGTHS,
            states=f"the recursion over prefixes and what is left of a quota of {quota}",
            law=LENGTHS.law(laws.backtracking(LENGTHS.tree, LENGTHS.accepted, quota)),
            aim=given_right(LENGTHS),
        )


def action_rejection_cases() -> Iterator[Case]:
    """The target where values are exact; with noisy ones the law that they make, token by token."""
    yield _action_rejection(COINS, None)
    yield _action_rejection(LENGTHS, 0.5)


def _action_rejection(toy: Toy, beta: float | None) -> Case:
    noise = ", values off by a factor 1.5" if toy.noise else ", exact values: P given right"
    return Case(
        learner=action_rejection(beta=beta, twist="value"),
        toy=toy,
        states=f"Π P(a|u)·V̂(ua)/Σ P·V̂{noise}",
        law=toy.law(toy.of(laws.weighed(toy.tree, toy.log_values(beta)))),
        aim=given_right(toy) if beta is None else tilted(toy, beta),
        beta=beta,
    )


def greedy_walk_cases() -> Iterator[Case]:
    """The most likely token at each prefix, which need not lead to the most likely output."""
    greedy: Tokens = ()
    while greedy not in PRINTED.tree.outputs:
        greedy += (int(PRINTED.tree.laws[PRINTED.tree.prefixes.index(greedy)].argmax()),)
    mode = PRINTED.tree.outputs[int(PRINTED.p.argmax())]
    yield Case(
        learner=greedy_walk(),
        toy=PRINTED,
        states="one output: the most likely token at each prefix",
        law={greedy: 1.0},
        aim=Aim("mode of P", {mode: 1.0}),
        costs={"queries": len(greedy), "tokens": len(greedy)},
    )


def verifier_tree_search_cases() -> Iterator[Case]:
    """Greedy descents by the verifier, the best of them by reward."""
    policy = laws.guided(COINS.tree, COINS.accepted, 2)
    one = COINS.of(policy)
    yield Case(
        learner=verifier_tree_search(subtrees=1, width=2),
        toy=COINS,
        states="Π_t P·(1 − (1 − a)^m)/a where V accepts, P·(1 − a)^(m−1) where not",
        law=COINS.law(one),
        aim=given_right(COINS),
        costs={"tokens": 2.0 * COINS.generator.horizon},
    )
    yield Case(
        learner=verifier_tree_search(subtrees=2, width=1),
        toy=COINS,
        states="width 1: best-of-n of as many rollouts as subtrees",
        law=COINS.law(laws.best_of_n(COINS.p, COINS.rewards, 2)),
        aim=given_right(COINS),
        costs={"tokens": 2.0 * COINS.generator.horizon, "rewards": 2},
    )


def beam_search_cases() -> Iterator[Case]:
    """Exact where the beam holds every prefix."""
    for verify in (False, True):
        score = np.where(LENGTHS.passes, LENGTHS.p, 0.0) if verify else LENGTHS.p
        mode = (score == score.max()).astype(float)
        yield Case(
            learner=beam_search(width=15, verify=verify),
            toy=LENGTHS,
            states="the mode of P" + (" among right outputs" if verify else ""),
            law=LENGTHS.law(mode),
        )


def diligent_search_cases() -> Iterator[Case]:
    """Depth-first search over drawn proposals."""
    for tries in (1, 2):
        law, proposals = laws.diligent(COINS.tree, COINS.passes, tries)
        yield Case(
            learner=diligent_search(tries=tries),
            toy=COINS,
            states="s(u) = 1 − (1 − Σ P·s)^tries, the passing child ∝ P·s",
            law={**COINS.law(law), None: 1.0 - law.sum()},
            aim=given_right(COINS),
            costs={"tokens": proposals},
            view=_passed,
        )


def _passed(run: EnumeratedRun) -> Tokens | None:
    output = run.attempt.output
    return output.tokens if output is not None and run.attempt.passed else None


def tree_search_cases() -> Iterator[Case]:
    """The sum over all histories of the tree; best-of-n of as many rollouts beside it."""
    for toy, children, simulations in ((COINS, 2, 4), (LENGTHS, 3, 2)):
        law, expected = laws.puct(toy.tree, toy.rewards, simulations)
        best = toy.law(laws.best_of_n(toy.p, toy.rewards, simulations))
        yield Case(
            learner=tree_search(simulations=simulations, children=children),
            toy=toy,
            states="the sum over all histories of rollouts, the tree after each by its rule",
            law=toy.law(law),
            aim=Aim(f"best-of-{simulations}", best),
            # the first simulation is a rollout, the others are queries
            costs={"rollouts": 1, "queries": expected - 1},
        )


def tree_rollouts_cases() -> Iterator[Case]:
    """A leaf of a tree that forks at surprising tokens is not a rollout."""
    yield Case(
        learner=tree_rollouts(chains=1, forks=1, branches=1, rounds=1, pick="any"),
        toy=LENGTHS,
        states="½·P + ½·Σ_y P(y)·P(· | y before its most surprising token)",
        law=LENGTHS.law(laws.forked(LENGTHS.tree)),
        aim=Aim("P", LENGTHS.law(LENGTHS.p)),
    )
    yield Case(
        learner=tree_rollouts(chains=2, forks=0, pick="best"),
        toy=LENGTHS,
        states="without forks: best-of-n",
        law=LENGTHS.law(laws.best_of_n(LENGTHS.p, LENGTHS.rewards, 2)),
        costs={"rollouts": 2, "tokens": 2 * LENGTHS.mean_length, "rewards": 2},
    )


def segment_tree_cases() -> Iterator[Case]:
    """A leaf found by uniform choices is a rollout."""
    yield Case(
        learner=segment_tree(segment=1, branching=2, width=3, pick="any"),
        toy=SHORT,
        states="P, for a leaf found by a uniform choice at each branching",
        law=SHORT.law(SHORT.p),
    )
    yield Case(
        learner=segment_tree(segment=3, branching=2, width=2, pick="best"),
        toy=LENGTHS,
        states="one segment: best-of-n",
        law=LENGTHS.law(laws.best_of_n(LENGTHS.p, LENGTHS.rewards, 2)),
        costs={"tokens": 2 * LENGTHS.mean_length, "rewards": 2},
    )
