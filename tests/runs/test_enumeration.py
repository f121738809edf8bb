"""Exact laws by enumeration, against closed forms; and what enumeration refuses.

"Sum to 1" and "equal" mean within 1e-12.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from reroot import (
    AccessDenied,
    BackendError,
    Budget,
    Contract,
    Control,
    InvalidInput,
    Prefix,
    Query,
    Report,
)
from reroot.access.learner import BoundLearner, learner
from reroot.access.session import Session
from reroot.access.transcript import messages, replies_from_json
from reroot.families import HiddenPath
from reroot.generators.tabular import Tabular
from reroot.learners.recovery import greedy_walk, plurality_walk
from reroot.learners.root_start import best_of_n
from reroot.randomness import keyed_rng, learner_key
from reroot.tasks.base import Problem
from reroot.testing import (
    EnumeratedRun,
    enumerate_runs,
    largest_difference,
    law_of,
    output_law,
    total_variation,
)
from toys import Body, Wrapped, as_learner

EXACT = 1e-12


def task(tree: Tabular | HiddenPath, **changes: Any) -> Problem:
    fields = {"reward": lambda output: float(sum(output.tokens)), **changes}
    return Problem("p", (), tree.horizon, **fields)


def runs_of(
    body: Body | BoundLearner, tree: Tabular | HiddenPath, grants: str = "root/sample", **more: Any
) -> list[EnumeratedRun]:
    bound = body if isinstance(body, BoundLearner) else as_learner(body)
    return enumerate_runs(bound, task(tree), tree, grants=grants, **more)


def total(runs: list[EnumeratedRun]) -> float:
    return math.fsum(run.probability for run in runs)


def outputs(tree: Tabular) -> dict[tuple[int, ...], float]:
    """The law of one rollout, from the tables alone."""
    return {y: math.exp(logprob) for y, logprob in tree.enumerate_outputs()}


def power(law: dict[Any, float], n: int) -> dict[tuple[Any, ...], float]:
    """The law of n independent draws."""
    return {ys: math.prod(law[y] for y in ys) for ys in itertools.product(law, repeat=n)}


def drawn(run: EnumeratedRun) -> tuple[tuple[int, ...], ...]:
    """All outputs that the learner of a recorded run was shown, in order."""
    lines = messages(run.transcript[1:])
    replies = [reply for line in lines for reply in replies_from_json(line["value"])]
    return tuple(y.tokens for reply in replies for y in reply.outputs())


trees = st.builds(
    lambda K, H, seed, ends: Tabular.random(K, H, seed=seed, end=(K - 1,) if ends else ()),
    st.integers(2, 3),
    st.integers(1, 3),
    st.integers(0, 10**6),
    st.booleans(),
)


@settings(max_examples=30)
@given(trees)
def test_one_rollout_has_the_law_of_the_tables(tree: Tabular) -> None:
    async def roll(session: Session) -> Prefix:
        return (await session.rollouts(1)).outputs()[0]

    runs = runs_of(roll, tree)
    assert abs(total(runs) - 1) <= EXACT
    assert len(runs) == len(outputs(tree))
    assert largest_difference(output_law(runs), outputs(tree)) <= EXACT


@settings(max_examples=8)
@given(
    trees.filter(lambda tree: len(outputs(tree)) <= 12), st.sampled_from(["one", "many", "gather"])
)
def test_rollouts_are_independent_however_they_are_asked(tree: Tabular, how: str) -> None:
    """Two rollouts in one query, in two queries of one message, and in two messages at once."""

    async def roll(session: Session) -> None:
        if how == "one":
            await session.rollouts(2)
        elif how == "many":
            await session.ask([Query(), Query()])
        else:
            await asyncio.gather(session.rollouts(1), session.rollouts(1))

    runs = runs_of(roll, tree, transcripts=True)
    law = law_of(runs, drawn)
    assert len(law) == len(runs)  # every pair once
    assert largest_difference(law, power(outputs(tree), 2)) <= EXACT


def test_best_of_two_in_closed_form() -> None:
    """Pr(y) from the law of the maximum of two independent rewards, the first on ties."""
    tree = Tabular.random(3, 2, seed=4)
    expected: dict[tuple[int, ...], float] = {}
    for (one, two), probability in power(outputs(tree), 2).items():
        best = one if sum(one) >= sum(two) else two
        expected[best] = expected.get(best, 0.0) + probability
    runs = runs_of(best_of_n(n=2), tree, "root/sample+reward")
    assert largest_difference(output_law(runs), expected) <= EXACT


def test_plurality_walk_in_closed_form() -> None:
    """m = 3 of two tokens: no ties, so each stage is right with the binomial probability."""
    tree, right = HiddenPath(2, 3, 0.6, seed=2), stats.binom.sf(1, 3, 0.6)
    law = output_law(runs_of(plurality_walk(draws_per_token=3), tree, "reset/sample"))
    assert law[tree.path] == pytest.approx(right**3, abs=EXACT)
    assert sum(law.values()) == pytest.approx(1, abs=EXACT)


def test_an_adaptive_learner_that_stops_at_a_time_of_its_own() -> None:
    """Draws at the root until the first 0, or 4 draws: the number is geometric, cut at 4."""
    tree = Tabular([[0.3, 0.7]])

    async def wait(session: Session) -> Prefix:
        for _ in range(4):
            reply = await session.draws(session.root, 1)
            if reply.tokens[0, 0] == 0:
                break
        return reply.outputs()[0]

    runs = runs_of(wait, tree, "reset/sample")
    law = law_of(runs, lambda run: run.attempt.cost.tokens)
    assert law == pytest.approx({1: 0.3, 2: 0.21, 3: 0.147, 4: 0.343}, abs=EXACT)


@pytest.mark.parametrize(
    ("grants", "expected"),
    [
        ("reset/sample", {0: 0.1, 1: 0.2, 2: 0.7}),
        ("reset/sample@T=0.5", {0: 1 / 54, 1: 4 / 54, 2: 49 / 54}),
        ("reset/sample@T=1,top_k=2", {1: 2 / 9, 2: 7 / 9}),
        ("reset/sample@T=0", {2: 1.0}),
    ],
)
def test_laws_are_those_of_the_contract(grants: str, expected: dict[int, float]) -> None:
    async def draw(session: Session) -> Prefix:
        return (await session.draws(session.root, 1)).outputs()[0]

    law = output_law(runs_of(draw, Tabular([[0.1, 0.2, 0.7]]), grants))
    assert {y[0]: p for y, p in law.items() if y} == pytest.approx(expected, abs=EXACT)


def test_what_is_impossible_is_left_out() -> None:
    tree = Tabular([[0.0, 1.0], [[0.5, 0.5], [1.0, 0.0]]])

    async def roll(session: Session) -> Prefix:
        return (await session.rollouts(1)).outputs()[0]

    assert output_law(runs_of(roll, tree)) == {(1, 0): 1.0}


def test_without_draws_there_is_one_run() -> None:
    tree = Tabular.random(3, 3, seed=5)
    (run,) = runs_of(greedy_walk(), tree, "reset/argmax(1)")
    assert run.probability == 1.0
    assert run.attempt.error is None


def test_no_output_is_a_value_of_the_law() -> None:
    """Ended by its budget, by an output that is none, or at its own wish."""
    tree = Tabular([[0.3, 0.7], [[0.5, 0.5], [0.5, 0.5]]])

    async def twice(session: Session) -> Prefix | None:
        first = (await session.draws(session.root, 1)).outputs()[0]
        if first[0] == 0:
            return None
        return (await session.draws(first, 1)).outputs()[0]

    law = output_law(runs_of(twice, tree, "reset/sample", budget=Budget(queries=1)))
    assert law == pytest.approx({None: 1.0}, abs=EXACT)
    law = output_law(runs_of(twice, tree, "reset/sample"))
    assert law == pytest.approx({None: 0.3, (1, 0): 0.35, (1, 1): 0.35}, abs=EXACT)


def test_the_learners_own_numbers_are_held_fixed() -> None:
    """As documented: a coin of ``session.rng`` falls the same way in all runs of one seed."""
    tree = Tabular([[0.25, 0.75]])

    async def coin(session: Session) -> Prefix:
        await session.draws(session.root, 1)
        return Prefix((int(session.rng.integers(2)),))

    for seed in range(4):
        key = learner_key(seed, "p")
        law = output_law(runs_of(coin, tree, "reset/sample", seed=seed))
        assert law == {(int(keyed_rng(key).integers(2)),): 1.0}


def test_transcripts_are_kept_on_request() -> None:
    tree = Tabular.random(2, 2, seed=6)

    async def roll(session: Session) -> Prefix:
        return (await session.rollouts(1, report=Report.FULL)).outputs()[0]

    for run in runs_of(roll, tree, "root/full", transcripts=True):
        head, line = run.transcript
        assert head["contract"] == "root/full@T=1"
        assert tuple(line["value"][0]["tokens"][0]) == (run.attempt.output or Prefix()).tokens
    assert all(run.transcript == [] for run in runs_of(roll, tree, "root/full"))


def test_the_generator_is_left_as_it_was() -> None:
    tree = Tabular.random(2, 2, seed=7)

    async def roll(session: Session) -> Prefix:
        return (await session.rollouts(1)).outputs()[0]

    runs_of(roll, tree)
    assert "_draw" not in vars(tree)
    with pytest.raises(InvalidInput):
        runs_of(roll, tree, limit=2)
    assert "_draw" not in vars(tree)

    def mine(*_: Any) -> Any:
        raise AssertionError("not asked")

    tree._draw = mine  # type: ignore[method-assign]
    runs_of(roll, tree)
    assert tree._draw is mine


@pytest.mark.parametrize("limit", [1, 15])
def test_more_runs_than_the_limit_are_refused(limit: int) -> None:
    tree = Tabular.random(2, 2, seed=8)

    async def roll(session: Session) -> None:
        await session.rollouts(2)

    assert len(runs_of(roll, tree, limit=16)) == 16
    with pytest.raises(InvalidInput, match=f"'p' takes more than {limit} runs"):
        runs_of(roll, tree, limit=limit)


def test_a_learner_that_does_as_it_likes_is_refused() -> None:
    tree, calls = Tabular.random(3, 2, seed=9), itertools.count()

    async def fickle(session: Session) -> None:
        await session.draws(session.root, 1)
        await session.draws((next(calls) % 3,), 1)

    with pytest.raises(InvalidInput, match="the learner did not do the same again"):
        runs_of(fickle, tree, "reset/sample")


@pytest.mark.parametrize("asked", [1, 2])
def test_a_generator_that_fails_on_some_draws_fails_in_those_runs_only(asked: int) -> None:
    """The law at the prefix (1,) is none: runs that come there end without an output."""

    def law(prefix: tuple[int, ...]) -> list[float]:
        return [0.2, 0.3, 0.5] if prefix != (1,) else [1.0, 1.0, 1.0]

    tree = Tabular.from_function(law, 3, 2)

    async def roll(session: Session) -> Prefix | None:
        try:
            return (await session.rollouts(asked)).outputs()[0]
        except BackendError:
            return None

    law_found = output_law(runs_of(roll, tree))
    assert sum(law_found.values()) == pytest.approx(1, abs=EXACT)
    assert law_found[None] == pytest.approx(1 - 0.7**asked, abs=EXACT)
    assert law_found[(0, 1)] == pytest.approx(0.2 * 0.3 * 0.7 ** (asked - 1), abs=EXACT)


def test_other_refusals() -> None:
    tree = Tabular.random(2, 2, seed=10)

    async def roll(session: Session) -> None:
        await session.rollouts(1)

    async def wrong(session: Session) -> None:
        await session.rollouts(1)
        raise ValueError("a slip")

    @learner(requires=Contract(Control.RESET, Report.SAMPLE))
    async def needs_resets(session: Session) -> None:
        await session.rollouts(1)

    with pytest.raises(InvalidInput, match="enumeration needs a SteppingGenerator"):
        enumerate_runs(as_learner(roll), task(tree), Wrapped(tree), grants="root/sample")
    with pytest.raises(AccessDenied, match="reset/sample"):
        enumerate_runs(needs_resets, task(tree), tree, grants="root/sample")
    with pytest.raises(InvalidInput, match="toy failed in a run: ValueError: a slip"):
        output_law(runs_of(wrong, tree))
    with pytest.raises(InvalidInput, match="limit must be"):
        runs_of(roll, tree, limit=0)


@pytest.mark.parametrize("size", [None, 2, (2, 1)])
def test_choices_of_any_shape_are_enumerated(size: int | tuple[int, ...] | None) -> None:
    """Each of the learner's own choices by itself, with its probability; impossible ones are not made."""

    async def toss(session: Session) -> Prefix:
        made = session.rng.choice(3, size=size, p=[0.25, 0.0, 0.75])
        assert np.shape(made) == np.zeros(size or ()).shape
        return Prefix(tuple(int(x) for x in np.ravel(made)))

    tree = Tabular.random(3, 2, seed=1)
    found = output_law(runs_of(toss, tree, choices=True))
    known = power({0: 0.25, 2: 0.75}, 1 if size is None else 2)
    assert largest_difference(found, known) <= EXACT


def test_distances_of_laws() -> None:
    one, other = {"a": 0.5, "b": 0.5}, {"b": 0.25, "c": 0.75}
    assert total_variation(one, other) == 0.75
    assert largest_difference(one, other) == 0.75
    assert total_variation(one, one) == largest_difference({}, {}) == 0.0


def test_frequencies_of_real_runs_follow_the_enumerated_law() -> None:
    """500 runs of another seed each, chi-square at level 1e-6."""
    from reroot import run

    tree = Tabular.random(3, 2, seed=11)
    law = output_law(runs_of(best_of_n(n=2), tree, "root/sample+reward"))
    tasks = [Problem(f"{i}", (), 2, lambda y: float(sum(y.tokens))) for i in range(500)]
    attempts = run(best_of_n(n=2), tasks, tree, grants="root/sample+reward").attempts
    seen = {y: sum(a.output is not None and a.output.tokens == y for a in attempts) for y in law}
    expected = np.array([500 * p for p in law.values()])
    assert stats.chisquare(list(seen.values()), expected).pvalue > 1e-6
