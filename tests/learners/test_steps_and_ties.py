"""Single steps of sampling methods, exactly: their laws, and what they do on ties.

Certificates hold whole laws, most of them in the slow run; a constant or a rule for ties that only moves
how fast a chain mixes, or which of equal outputs comes, shows here.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

import reroot
from reroot.certify.cases import chains
from reroot.certify.toys import COINS, SHORT
from reroot.generators.tabular import Tabular
from reroot.learners import get_learner
from reroot.learners.sampling.latent_exploration import step_law
from reroot.learners.sampling.pessimism import inference_time_pessimism
from reroot.learners.sampling.segment_tree import segment_tree
from reroot.limits import pessimistic_level
from reroot.objective import pessimistic_law, power_law
from reroot.tasks.base import Problem
from reroot.testing import enumerate_runs, output_law

EXACT = 1e-12


# ---- chains --------------------------------------------------------------------------------------


@pytest.mark.parametrize("twist", ["value", "verifier"])
def test_a_step_of_vgb_stays_with_probability_one_half(twist: str) -> None:
    """Every row of its transition matrix, by the definition."""
    problem, tree = COINS.problem(None), COINS.tree
    children = np.exp(np.array([COINS.generator.log_laws((), [u])[0] for u in tree.prefixes]))
    law_at = dict(zip(tree.prefixes, children, strict=True))
    reward = dict(zip(tree.outputs, COINS.rewards, strict=True))

    def value(u: tuple[int, ...]) -> float:
        if u in reward:
            return float(reward[u])
        if twist == "verifier":
            return float(u in COINS.right)
        assert problem.value is not None
        return problem.value(reroot.Output(u, "", False))

    for v in (*tree.prefixes, *(y for y in tree.outputs if reward[y])):
        weights = {(*v, c): float(p) * value((*v, c)) for c, p in enumerate(law_at.get(v, ()))}
        if v:
            weights[v[:-1]] = value(v)
        total = math.fsum(weights.values())
        known = {u: 0.5 * w / total for u, w in weights.items() if w > 0} | {v: 0.5}
        step = chains.vgb_step(twist, None)(state=v)
        runs = enumerate_runs(step, problem, COINS.generator, grants=step.requires, choices=True)
        assert output_law(runs) == pytest.approx(known, abs=EXACT)


@pytest.mark.parametrize("temperature", [None, pytest.param(0.5, marks=pytest.mark.slow)])
def test_a_move_of_power_sampling_leaves_its_law_where_outputs_end_early(
    temperature: float | None,
) -> None:
    """P^α is left as it is only with the factor |x|/|x'| of the places."""
    target = dict(zip(SHORT.tree.outputs, SHORT.of(power_law(SHORT.tree, 3.0)), strict=True))
    after = dict.fromkeys(target, 0.0)
    for x, mass in target.items():
        move = chains.power_step(3.0, temperature, SHORT.generator.horizon)(state=x)
        grants = "chosen/full"
        runs = enumerate_runs(move, SHORT.problem(), SHORT.generator, grants=grants, choices=True)
        for y, probability in output_law(runs).items():
            assert y is not None
            after[y] += mass * probability
    assert after == pytest.approx(target, abs=EXACT)


# ---- rejection and trees -------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 3])
def test_pessimism_accepts_in_proportion_to_the_reward_above_its_level(n: int) -> None:
    """With λ known the law is (1 − (1 − 1/M)^n)·χ² tilt + (1 − 1/M)^n·P, M = (R_max − λ)/β."""
    beta = 0.8
    level = pessimistic_level(SHORT.rewards, SHORT.p, beta)
    tilt = SHORT.of(pessimistic_law(SHORT.tree, SHORT.rewards, beta))
    missed = (1 - beta / (1.0 - level)) ** n
    bound = inference_time_pessimism(n=n, beta=beta, level=level, batch=1, growth=1.0)
    runs = enumerate_runs(
        bound, SHORT.problem(), SHORT.generator, grants=bound.requires, choices=True
    )
    known = SHORT.law((1 - missed) * tilt + missed * SHORT.p)
    assert output_law(runs) == pytest.approx(known, abs=EXACT)


@pytest.mark.parametrize("width", [2, 3])
def test_any_leaf_of_a_segment_tree_is_a_rollout(width: int) -> None:
    """A uniform choice at each branching gives P; among the leaves it would favour long outputs."""
    bound = segment_tree(segment=1, branching=2, width=width, pick="any")
    runs = enumerate_runs(
        bound, SHORT.problem(), SHORT.generator, grants=bound.requires, choices=True
    )
    assert output_law(runs) == pytest.approx(SHORT.law(SHORT.p), abs=EXACT)


# ---- ties ----------------------------------------------------------------------------------------

FLAT = Tabular([np.full((3,) * (t + 1), 1 / 3) for t in range(3)])
"""All outputs of three tokens are equally likely, and so are all prefixes of each length."""


def output_of(spec: str, generator: Tabular = FLAT, right: tuple[int, ...] = ()) -> tuple[int, ...]:
    learner = get_learner(spec)
    problem = Problem(
        "p", (), generator.horizon,
        reward=lambda output: 1.0,
        verifier=lambda output: output.tokens[: len(right)] == right[: len(output.tokens)],
    )  # fmt: skip
    (attempt,) = reroot.run(learner, [problem], generator, grants=learner.requires).attempts
    assert attempt.error is None
    assert attempt.output is not None
    return attempt.output.tokens


@pytest.mark.parametrize(
    "spec",
    [
        "beam_search:width=1",
        "beam_search:width=2",
        "beam_search:width=3",
        "greedy_walk",
        "law_walk",
    ],
)
def test_walks_take_the_smaller_token_on_ties(spec: str) -> None:
    assert output_of(spec) == (0, 0, 0)


def test_a_beam_takes_the_smaller_tokens_on_ties_between_its_members() -> None:
    """Two members of the beam, each with one likely child: the outputs 0·1 and 1·0 are equally likely."""
    law = Tabular([[0.5, 0.5], np.array([[0.25, 0.75], [0.75, 0.25]])])
    assert output_of("beam_search:width=2", law) == (0, 1)
    assert output_of("beam_search:width=3,verify=true", FLAT, right=(1,)) == (1, 0, 0)


def test_a_beam_lists_as_many_children_as_it_is_wide() -> None:
    """The most likely output starts with the last of three children of one prefix."""
    second = [[0.34, 0.34, 0.32], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    third = np.full((3, 3, 3), 1 / 3)
    third[0, 2] = [0.0, 1.0, 0.0]
    law = Tabular([[0.9, 0.05, 0.05], second, third])
    assert output_of("beam_search:width=3", law) == (0, 2, 1)
    assert output_of("beam_search:width=2", law)[:2] == (0, 0)


def test_latent_exploration_explores_the_smaller_tokens_on_ties() -> None:
    own = np.array([0.1, 0.3, 0.3, 0.3])
    flat = np.full(4, 0.25)
    known = 0.3 * own + 0.7 * np.array([0.0, 0.5, 0.5, 0.0])
    assert step_law(np.log([flat, own]), 2) == pytest.approx(known, abs=EXACT)
