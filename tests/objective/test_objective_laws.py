"""Exact laws of sampling methods down to β → 0, against enumeration of the learners and closed limits."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest

from reroot.access.learner import BoundLearner
from reroot.certify.toys import SHORT
from reroot.learners.sampling.pessimism import inference_time_pessimism
from reroot.learners.sampling.soft_best_of_n import soft_best_of_n
from reroot.learners.sampling.softmax_rejection import softmax_rejection
from reroot.objective import laws
from reroot.testing import enumerate_runs
from reroot.types import FloatArray

N, BOUND = 2, 4.0
TINY = (1e-3, 1e-6, 1e-17, 1e-200)
P, REWARDS = SHORT.p, SHORT.rewards
Law = Callable[[FloatArray, FloatArray, float], FloatArray]

LAWS: dict[str, Law] = {
    "soft_best_of_n": lambda p, r, beta: laws.soft_best_of_n(p, r, N, beta),
    "softmax_rejection": lambda p, r, beta: laws.softmax_rejection(p, r, N, beta, BOUND),
    "inference_time_pessimism": lambda p, r, beta: laws.pessimism(p, r, N, beta),
}


def learner(name: str, beta: float) -> BoundLearner:
    if name == "soft_best_of_n":
        return soft_best_of_n(n=N, beta=beta)
    if name == "softmax_rejection":
        return softmax_rejection(beta=beta, bound=BOUND, n=N, batch=1, growth=1.0)
    return inference_time_pessimism(n=N, beta=beta, batch=1, growth=1.0)


def acceptance(name: str, reward: float, drawn: tuple[float, ...]) -> float:
    """The limit β → 0 of the probability to accept ``reward`` after rollouts with rewards ``drawn``."""
    best = max(drawn)
    if name == "softmax_rejection":
        at_best = min(1.0, len(drawn) / (drawn.count(best) * BOUND))
        return 1.0 if reward > best else at_best if reward == best else 0.0
    if reward < best:
        return 0.0
    return 1.0 if best == 1.0 else (reward - best) / (1.0 - best)


def limit(name: str) -> FloatArray:
    """(m,) the law at β → 0, over all pairs of rollouts."""
    found = np.zeros(len(P))
    for places in itertools.product(range(len(P)), repeat=N):
        mass = math.prod(P[i] for i in places)
        drawn = tuple(REWARDS[list(places)].tolist())
        if name == "soft_best_of_n":
            best = [i for i in places if REWARDS[i] == max(drawn)]
            for i in best:
                found[i] += mass / len(best)
        else:
            accepted = np.array([acceptance(name, r, drawn) for r in REWARDS.tolist()])
            found += mass * laws.first_accepted(P, accepted, N)
    return found


@pytest.mark.slow(1)
@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("beta", [0.5, 1e-3])
def test_the_law_is_that_of_the_learner(name: str, beta: float) -> None:
    runs = enumerate_runs(
        learner(name, beta), SHORT.problem(), SHORT.generator, grants="root/sample+reward",
        choices=True,
    )  # fmt: skip
    masses = dict.fromkeys(SHORT.tree.outputs, 0.0)
    for run in runs:
        assert run.attempt.output is not None
        masses[run.attempt.output.tokens] += run.probability
    stated = LAWS[name](P, REWARDS, beta)
    np.testing.assert_allclose(stated, list(masses.values()), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("beta", TINY)
def test_the_law_tends_to_its_limit(name: str, beta: float) -> None:
    law = LAWS[name](P, REWARDS, beta)
    np.testing.assert_allclose(law, limit(name), rtol=0, atol=4 * beta + 1e-14)
    assert law.sum() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("name", ["soft_best_of_n", "softmax_rejection"])
@pytest.mark.parametrize("beta", [0.5, 1e-3, 1e-6])
@pytest.mark.parametrize("shift", [-1024.0, 1024.0])
def test_tilts_do_not_feel_a_constant_in_the_rewards(name: str, beta: float, shift: float) -> None:
    law = LAWS[name]
    np.testing.assert_allclose(law(P, REWARDS + shift, beta), law(P, REWARDS, beta), atol=1e-13)
