"""Learners of block MDPs: the oracle by brute force, exact accounts, covers, and where GOLF stays wrong."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import reroot
from reroot import AccessDenied, Contract, InvalidInput, limits
from reroot.access.learner import BoundLearner, learner
from reroot.access.session import Session
from reroot.families import CombinationLock
from reroot.generators.tabular import Tabular
from reroot.learners import get_learner
from reroot.learners.resets.environment import Environment
from reroot.learners.resets.golf import golf, golf_on
from reroot.learners.resets.oracle import Fitted, RegressionOracle
from reroot.learners.resets.pce import pce
from reroot.learners.resets.pcr import pcr
from reroot.learners.resets.rvfs import rvfs
from reroot.learners.resets.sim_golf import sim_golf_on
from reroot.tasks.base import Problem
from reroot.testing import check_learner
from reroot.types import Finding

TINY = "actions=2,goods=2,noise=0,decoders=3"


def learned(bound: BoundLearner, lock: CombinationLock, seed: int = 0) -> dict[str, Any]:
    """What one attempt under exactly what it requires found out."""
    run = reroot.run(bound, [lock.problem()], lock, grants=bound.requires, seed=seed)
    (attempt,) = run.attempts
    assert attempt.error is None
    return {**attempt.metadata, "queries": attempt.cost.queries, "passed": attempt.passed}


def value_of(found: dict[str, Any], lock: CombinationLock) -> float:
    """The exact value of the policy found."""
    return lock.value(np.eye(lock.shape.actions)[np.array(found["policy"])])


# ---- the oracle ------------------------------------------------------------------------------


def residual(design: np.ndarray, y: np.ndarray) -> float:
    """Σ squared residuals of least squares."""
    return float(((y - design @ np.linalg.lstsq(design, y, rcond=None)[0]) ** 2).sum())


def test_one_context_regression_against_least_squares() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=(5, 12))
    x, y = rng.integers(12, size=40), rng.normal(size=(40, 2))
    oracle = RegressionOracle(3)
    fit = oracle.one_context(labels, x, y)
    losses = [residual(np.eye(3)[phi[x]], y) for phi in labels]
    assert fit.member == int(np.argmin(losses))
    assert np.isclose(fit.loss, min(losses))
    assert np.isclose(((fit.cells[labels[fit.member, x]] - y) ** 2).sum(), fit.loss)
    assert oracle.counts() == {"calls": 1, "rows": 40, "candidates": 5}


def test_two_context_regression_against_every_pair() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.integers(2, size=(3, 6)), rng.integers(2, size=(4, 6))
    x, a, z = rng.integers(6, size=60), rng.integers(2, size=60), rng.integers(6, size=60)
    y = rng.normal(size=60)
    oracle = RegressionOracle(2)
    fit = oracle.two_contexts(first, second, x, a, z, y, 2)
    losses = {
        (i, k): residual(np.eye(8)[4 * a + 2 * first[i, x] + second[k, z]], y)
        for i, k in itertools.product(range(3), range(4))
    }
    assert np.isclose(losses[fit.other, fit.member], min(losses.values()))
    assert np.isclose(fit.loss, min(losses.values()))
    told = fit.cells[a, first[fit.other, x], second[fit.member, z], 0]
    assert np.isclose(((told - y) ** 2).sum(), fit.loss)
    assert oracle.counts() == {"calls": 1, "rows": 60, "candidates": 12}


def test_widths_by_hand() -> None:
    """One decoder, cell 0 fitted by two rows of value 1 with slack ½, cell 1 never seen."""
    fitted = Fitted([0, 0], np.ones(2), 0.5)
    widths = fitted.widths(np.array([[0, 1]]), np.array([[0, 0], [1, 1]]), np.array([1.0, 0.0]))
    assert np.allclose(widths, [0.5, 1.0])


# ---- the learners ------------------------------------------------------------------------------


@pytest.mark.slow(20)
@pytest.mark.parametrize(
    "spec",
    ["rvfs:", "pcr:episodes=5,", "pce:episodes=5,", "sim_golf:episodes=6,", "golf:episodes=6,"],
)
def test_conformance(spec: str) -> None:
    lock = CombinationLock(2, 2, 2, 0, decoders=3, seed=1)
    check_learner(spec + TINY, places=[(lock, [lock.problem(id=str(i)) for i in range(2)])])


@pytest.mark.parametrize(
    ("spec", "requires"),
    [
        ("rvfs", "reset/sample+reward"),
        ("sim_golf", "reset/sample+reward"),
        ("pcr", "reset/sample+reward"),
        ("pce", "episode/sample+reward"),
        ("golf", "episode/sample+reward"),
    ],
)
def test_contracts(spec: str, requires: str) -> None:
    assert get_learner(spec).requires == Contract.parse(requires)


def test_episodes_are_refused_to_those_that_return() -> None:
    lock = CombinationLock(2, decoders=2)
    for grants in ("visited/full+reward", "episode/sample+reward"):
        with pytest.raises(AccessDenied):
            reroot.run(rvfs(decoders=2), [lock.problem()], lock, grants=grants)


@pytest.mark.parametrize("wrong", ["goods=0", "form=median", "form=product", "fail=1", "beta=0"])
def test_bad_parameters(wrong: str) -> None:
    with pytest.raises(InvalidInput):
        get_learner(f"sim_golf:{wrong}")


def test_a_session_that_is_no_such_lock_is_refused() -> None:
    lock = CombinationLock(2, decoders=2)
    with pytest.raises(InvalidInput, match="no block MDP"):
        reroot.run(rvfs(noise=5), [lock.problem()], lock, grants="reset/sample+reward")


@pytest.mark.slow(3)
@pytest.mark.parametrize("H", [3, 4])
def test_rvfs_fits_from_the_end_and_counts_its_failures(H: int) -> None:
    lock = CombinationLock(H, noise=4, seed=H)
    found = learned(rvfs(noise=4, plays=8), lock)
    fits = found["fitted"][1:]
    assert fits == sorted(fits, reverse=True)
    assert found["failures"] == sum(found["core"])
    assert max(found["core"]) <= 7
    assert found["reward"] == limits.lock_value(H, 0.0)
    assert found["queries"] > found["draws"] > found["episodes"]


@pytest.mark.slow(3)
def test_agreement_does_not_show_misspecification() -> None:
    """With decoders none of which is right RVFS passes its own tests, and plays as if blind."""
    lock = CombinationLock(4, noise=6, seed=1)
    found = learned(rvfs(class_seed=99, plays=8), lock)
    assert found["reward"] <= 0.5
    assert found["failures"] == sum(found["core"])


@pytest.mark.slow(3)
def test_pcr_draws_what_its_formula_says_and_covers_every_layer() -> None:
    H, Np, m = 3, 120, 16
    lock = CombinationLock(H, noise=4, seed=2)
    found = learned(pcr(noise=4, episodes=Np), lock)
    draws = Np * H * (H + 1)
    for h, k in enumerate(found["centres"]):
        draws += m * (h + 1) + 4 * Np + k * Np * (h + 1) * (h + 2)
    assert found["draws"] == draws
    assert found["queries"] == draws + H + 1  # and one episode
    assert value_of(found, lock) == 1.0
    assert cover_quality(found, lock) == 1.0


@pytest.mark.slow(3)
def test_pce_covers_without_a_return() -> None:
    lock = CombinationLock(3, noise=4, seed=2)
    found = learned(pce(noise=4, episodes=200), lock)
    assert value_of(found, lock) == 1.0
    assert cover_quality(found, lock) == 1.0
    assert found["draws"] >= found["episodes"] * 2


def cover_quality(found: dict[str, Any], lock: CombinationLock) -> float:
    """The largest of max_π d(s)/max_Ψ d(s) over the layers that have a cover, and their states."""
    A, codes, H = lock.shape.actions, lock.shape.codes, lock.shape.layers
    worst = 1.0
    for h, cover in enumerate(found["cover"][1:], 1):
        rest = np.full((H - h, codes, A), 1 / A)
        occupied = [
            lock.occupancies(np.concatenate([np.eye(A)[np.array(policy)], rest]))[h]
            for policy in cover
        ]
        best = np.array([1 / lock.goods] * lock.goods + [1.0])
        worst = max(worst, float((best / np.max(occupied, axis=0)).max()))
    return worst


def test_golf_and_sim_golf_accounts() -> None:
    lock = CombinationLock(2, seed=1)
    found = learned(golf(episodes=5), lock)
    assert (found["draws"], found["episodes"], len(found["returns"])) == (15, 5, 5)
    found = learned(get_learner("sim_golf:episodes=5,backups=3"), lock)
    assert (found["draws"], found["episodes"], len(found["returns"])) == (5 * 7, 5, 5)
    assert found["chains_left"]


# ---- two layers where GOLF stays wrong for ever ------------------------------------------------


def counterexample() -> Tabular:
    """x_1 (.2) leads to y_1, where action 1 is right; x_2 (.8) to y_g, which is right, w.p. .55, else y_b."""
    K = 3
    first = np.array([0.2, 0.8, 0.0])
    levels = [first, np.full((K, K), [0.5, 0.5, 0.0])]
    after = np.zeros((K, K, K))
    after[0], after[1], after[2] = [1.0, 0, 0], [0, 0.55, 0.45], [0, 0, 1.0]
    levels += [after, np.full((K,) * 4, [0.5, 0.5, 0.0])]
    ends = np.zeros((K,) * 5)
    ends[..., 0] = 1.0
    ends[:, :, 0, 1] = [0.0, 1.0, 0.0]
    ends[:, :, 1] = [0.0, 1.0, 0.0]
    return Tabular([*levels, ends])


def members() -> list[np.ndarray]:
    """Q* and D: D thinks nothing of x_1, and that x_2 is sure; a sliver decides D's action at y_1."""
    first = np.array([[[1.0] * 2, [0.55] * 2, [0.0] * 2], [[0.0] * 2, [1.0] * 2, [0.0] * 2]])
    true = [[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]]
    second = np.array([true, [[1e-9, 0.0], *true[1:]]])
    return [first, second]


@learner(requires="episode/sample+reward")
async def golf_there(session: Session, *, episodes: int = 120) -> Finding:
    """GOLF with the class {Q*, D}."""
    return await golf_on(Environment(session, 2, 3, 0, 3), members(), 6.0, episodes)


@learner(requires="reset/sample+reward")
async def sim_golf_there(session: Session, *, form: str, backups: int, beta: float) -> Finding:
    """SimGolf with the class {Q*, D}."""
    env = Environment(session, 2, 3, 0, 3)
    return await sim_golf_on(env, members(), backups, beta, form, 120)


def play_there(bound: BoundLearner, seed: int) -> dict[str, Any]:
    law = counterexample()
    task = Problem("two layers", (), 5, reward=lambda o: float(o.tokens[-1] == 1))
    (attempt,) = reroot.run(bound, [task], law, grants=bound.requires, seed=seed).attempts
    assert attempt.error is None
    return dict(attempt.metadata)


@pytest.mark.slow(3)
def test_golf_stays_wrong_for_ever_and_sim_golf_does_not() -> None:
    wrong = play_there(golf_there(), 0)["played"]
    assert wrong[60:] == [[1, 1]] * 60
    product = play_there(sim_golf_there(form="product", backups=2, beta=1.0), 0)["played"]
    assert product[80:] == [[0, 0]] * 40
    left = play_there(sim_golf_there(form="mean", backups=2, beta=4.0), 0)
    assert not left["chains_left"]  # the mean form has ruled out the truth as well
