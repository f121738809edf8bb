"""Spanners, projections and operator models against brute force and closed forms."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.optimize import minimize

from reroot import InvalidInput
from reroot.linear.operators import OperatorModel, all_strings
from reroot.linear.projection import relative_entropy_projection
from reroot.linear.spanner import barycentric_spanner

# ---- spanners ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("most", [1.001, 1.1, 2.0])
def test_all_rows_are_small_mixtures_of_the_spanner(seed: int, most: float) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((40, 3)) @ rng.standard_normal((3, 7))  # rank 3
    chosen, coefficients = barycentric_spanner(rows, most)
    assert len(set(chosen)) == 3
    assert np.abs(coefficients).max() <= most
    assert coefficients @ rows[chosen] == pytest.approx(rows, abs=1e-9)


def test_the_spanner_has_nearly_the_largest_volume() -> None:
    rows = np.random.default_rng(3).standard_normal((12, 3))
    chosen, _ = barycentric_spanner(rows, 1.001)
    volumes = [abs(np.linalg.det(rows[list(c)])) for c in itertools.combinations(range(12), 3)]
    # a C-spanner cannot gain a factor C by one exchange; by Hadamard, Cramer and |coefficients| ≤ C
    # no k rows have more than C^k·k^{k/2} times its volume
    assert abs(np.linalg.det(rows[chosen])) * 1.001**3 * 3**1.5 >= max(volumes)
    swaps = ([*chosen[:i], j, *chosen[i + 1 :]] for i in range(3) for j in range(12))
    best = max(abs(np.linalg.det(rows[swap])) for swap in swaps)
    assert best <= 1.001 * abs(np.linalg.det(rows[chosen])) * (1 + 1e-12)


def test_rows_that_span_nothing_are_refused() -> None:
    for rows, most in ((np.zeros((3, 2)), 1.1), (np.array([[np.nan]]), 1.1), (np.eye(2), 1.0)):
        with pytest.raises(InvalidInput, match=r"spanner needs finite rows|above 1"):
            barycentric_spanner(rows, most)


# ---- projections ---------------------------------------------------------------------------------


def divergence(r: np.ndarray, other: np.ndarray) -> float:
    """KL of unnormalized measures, mean over futures."""
    return float((r * np.log(r / other) - r + other).mean())


def test_the_projection_minimizes_the_divergence() -> None:
    rng = np.random.default_rng(0)
    rows, wanted = rng.gamma(1, 1, (5, 60)) + 0.01, rng.gamma(1, 1, (4, 60)) + 1e-3
    found = relative_entropy_projection(rows, wanted)
    assert found.sum(axis=1) == pytest.approx(np.ones(4), abs=1e-12)
    assert (found @ rows).min() > 0
    for v, target in zip(found, wanted, strict=True):

        def objective(u: np.ndarray, target: np.ndarray = target) -> float:
            x = np.append(u, 1 - u.sum())
            r = x @ rows
            if r.min() <= 0:
                return 1e9
            return float((r * np.log(r / target) - r).mean() + 5e-5 * ((x - 0.2) ** 2).sum())

        best = minimize(objective, np.full(4, 0.2), method="BFGS", options={"gtol": 1e-9})
        assert objective(v[:4]) <= best.fun + 1e-13
        assert v[:4] == pytest.approx(best.x, abs=1e-5)


def test_the_projection_leaves_what_lies_in_the_set_and_leads_nearer_to_all_of_it() -> None:
    rng = np.random.default_rng(1)
    rows = rng.gamma(2, 1, (3, 200)) + 0.05
    rows /= rows.mean(axis=1, keepdims=True)
    inside = rng.dirichlet(np.ones(3), 20)
    assert relative_entropy_projection(rows, inside @ rows) == pytest.approx(inside, abs=2e-3)
    wanted = rng.gamma(2, 1, (20, 200)) + 0.05
    projected = relative_entropy_projection(rows, wanted) @ rows
    for p in inside @ rows:
        for before, after in zip(wanted, projected, strict=True):
            # Pythagoras: KL(p ‖ q⁺) ≤ KL(p ‖ q') − KL(q⁺ ‖ q') for p in the set, up to the ridge
            gained = divergence(p, before) - divergence(after, before)
            assert divergence(p, after) <= gained + 1e-3


def test_the_projection_of_a_row_does_not_depend_on_the_others() -> None:
    rng = np.random.default_rng(2)
    rows, wanted = rng.gamma(1, 1, (8, 50)) + 0.01, rng.gamma(1, 1, (30, 50)) + 1e-3
    together = relative_entropy_projection(rows, wanted)
    alone = [relative_entropy_projection(rows, row[None])[0] for row in wanted]
    assert together == pytest.approx(np.array(alone), abs=1e-12)
    assert relative_entropy_projection(rows[:1], wanted).tolist() == [[1.0]] * 30


# ---- laws by operators ---------------------------------------------------------------------------


def model() -> OperatorModel:
    rng = np.random.default_rng(5)
    A = rng.dirichlet(np.ones(6), 3).reshape(3, 2, 3)  # weights × tokens × weights
    return OperatorModel(np.array([0.2, 0.5, 0.3]), [A.sum(axis=2)] * 4, [A] * 3, end=(1,))


def test_probabilities_are_products_of_operators() -> None:
    known, strings = model(), all_strings(2, 4)
    A = known.operators[0]
    for string, found in zip(strings.tolist(), known.log_probabilities(strings), strict=True):
        row = known.start
        for token in string:
            row = row @ A[:, token]
        assert np.exp(found) == pytest.approx(row.sum(), rel=1e-12)
    assert np.exp(known.log_probabilities(strings)).sum() == pytest.approx(1.0, abs=1e-12)


def test_a_model_comes_back_from_its_text_to_the_bit() -> None:
    known = model()
    again = OperatorModel.from_json(known.to_json())
    assert again.digest() == known.digest()
    assert (again.end, again.horizon, again.vocab_size, again.ranks) == ((1,), 4, 2, (3, 3, 3))
    for damaged in ({}, {"arrays": {}}, known.to_json() | {"arrays": {"start": {"shape": [9]}}}):
        with pytest.raises(InvalidInput, match=r"no model of operators|shapes"):
            OperatorModel.from_json(damaged)


def test_operators_that_do_not_fit_are_refused() -> None:
    A = model().operators[0]
    with pytest.raises(InvalidInput, match="shapes"):
        OperatorModel(np.ones(2) / 2, [A.sum(axis=2)] * 2, [A])
    with pytest.raises(InvalidInput, match="finite"):
        OperatorModel(np.full(3, np.nan), [A.sum(axis=2)] * 2, [A])


def test_behind_what_cannot_happen_there_is_some_law() -> None:
    K = np.zeros((2, 2, 2))
    K[0] = np.eye(2)  # token 1 has probability 0
    known = OperatorModel(np.ones(2) / 2, [K.sum(axis=2).T] * 3, [K.transpose(1, 0, 2)] * 2)
    states = known.moved(0, known.start[None], np.array([1]))
    assert states.tolist() == [[0.5, 0.5]]
    assert known.laws(1, states).tolist() == [[1.0, 0.0]]


def test_draws_follow_the_law() -> None:
    known, n = model(), 20_000
    drawn = known.draw(n, np.random.default_rng(0)) @ (8, 4, 2, 1)
    p = np.exp(known.log_probabilities(all_strings(2, 4)))
    counts = np.bincount(drawn, minlength=16)
    # six standard deviations each: an error below 1e-7 in all
    assert (np.abs(counts - n * p) <= 6 * np.sqrt(n * p * (1 - p)) + 1).all()
