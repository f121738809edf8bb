"""Enumerated trees and the exact KL-regularized objective against brute force and closed forms."""

from __future__ import annotations

import inspect
import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reroot import BackendError, InvalidInput, limits, objective
from reroot.families import HiddenPath
from reroot.generators.stops import Stop
from reroot.generators.tabular import Tabular
from reroot.objective import (
    Tree,
    expected_reward,
    gibbs_policy,
    gradient,
    kl,
    log_ratios,
    soft_values,
    value,
)

ZEROS = [
    np.array([0.5, 0.3, 0.2]),
    np.array([[0.8, 0.2, 0.0], [0.0, 1.0, 0.0], [0.25, 0.25, 0.5]]),
]
SHAPES = [(2, 4, ()), (3, 3, (2,)), (4, 3, (0, 3)), (5, 1, (1,)), (3, 4, ())]


def random_tree(K: int, H: int, end: tuple[int, ...] = (), seed: int = 0) -> Tree:
    return Tree.of(Tabular.random(K, H, seed=seed, end=end), horizon=H)


def random_policy(tree: Tree, seed: int, scale: float = 1.0) -> Tree:
    """Laws P·e^θ with normal θ, normalized the slow way."""
    theta = np.random.default_rng(seed).normal(0.0, scale, tree.laws.shape)
    weights = np.exp(tree.laws + theta)
    with np.errstate(divide="ignore"):
        return tree.with_laws(np.log(weights / weights.sum(axis=1, keepdims=True)))


def random_rewards(tree: Tree, seed: int) -> np.ndarray:
    return np.random.default_rng(seed + 1000).normal(0.0, 1.0, len(tree.outputs))


def steps(tree: Tree, y: tuple[int, ...]) -> list[tuple[int, int]]:
    """(number of the prefix, token) along an output, by looking prefixes up."""
    numbers = {u: i for i, u in enumerate(tree.prefixes)}
    return [(numbers[y[:t]], y[t]) for t in range(len(y))]


# ---- the tree ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("K", "H", "end"), SHAPES)
def test_it_lists_every_output_with_its_probability(K: int, H: int, end: tuple[int, ...]) -> None:
    generator = Tabular.random(K, H, seed=3, end=end)
    tree = Tree.of(generator, horizon=H)
    listed = dict(zip(tree.outputs, tree.log_probabilities().tolist(), strict=True))
    assert listed == pytest.approx(dict(generator.enumerate_outputs()), abs=1e-12)
    assert list(tree.prefixes) == sorted(tree.prefixes, key=lambda u: (len(u), u))
    np.testing.assert_allclose(tree.laws, generator.log_laws((), tree.prefixes), atol=1e-14)


def test_children_lead_where_they_say() -> None:
    tree = Tree.of(Tabular(ZEROS, end=(1,)), horizon=2)
    nodes = tree.prefixes + tree.outputs
    assert tree.prefixes == ((), (0,), (2,))
    assert tree.outputs == ((1,), (0, 0), (0, 1), (2, 0), (2, 1), (2, 2))
    for (i, u), a in itertools.product(enumerate(tree.prefixes), range(3)):
        child = tree.children[i, a]
        assert (child == -1) == (tree.laws[i, a] == -np.inf)
        assert child == -1 or nodes[child] == (*u, a)
    assert [tree.prefixes[level] for level in tree.levels] == [((),), ((0,), (2,))]


def test_stop_tokens_horizons_and_prompts() -> None:
    generator = Tabular.random(3, 4, seed=1, end=(2,))
    tree = Tree.of(generator, (1,), horizon=2, stop=Stop(frozenset({0})))
    assert tree.outputs == ((0,), (2,), (1, 0), (1, 1), (1, 2))
    np.testing.assert_allclose(tree.laws, generator.log_laws((1,), [(), (1,)]), atol=1e-14)


@pytest.mark.parametrize(("K", "H", "end"), SHAPES)
def test_visits(K: int, H: int, end: tuple[int, ...]) -> None:
    tree = random_tree(K, H, end)
    mass = np.exp(tree.log_probabilities())
    for u, visits in zip(tree.prefixes, tree.visits(), strict=True):
        through = [m for y, m in zip(tree.outputs, mass, strict=True) if y[: len(u)] == u]
        assert visits == pytest.approx(sum(through), abs=1e-13)


def test_a_policy_may_leave_tokens_out_but_not_add_any() -> None:
    tree = Tree.of(Tabular(ZEROS), horizon=2)
    narrow = np.array(tree.laws)
    narrow[1] = [0.0, -np.inf, -np.inf]
    policy = tree.with_laws(narrow)
    assert policy.log_probabilities()[tree.outputs.index((0, 1))] == -np.inf
    assert policy.with_laws(tree.laws).laws[1, 1] == pytest.approx(math.log(0.2))
    wide = np.array(tree.laws)
    wide[2] = np.log([0.5, 0.25, 0.25])
    with pytest.raises(InvalidInput, match=r"token 0 at prefix \[1\]"):
        tree.with_laws(wide)


def test_laws_in_single_precision_are_normalized() -> None:
    tree = random_tree(5, 2)
    policy = tree.with_laws(tree.laws.astype(np.float32))
    np.testing.assert_allclose(np.exp(policy.laws).sum(axis=1), 1.0, atol=1e-15)


@pytest.mark.parametrize(
    ("laws", "names"),
    [
        (np.zeros((1, 3)), r"shape \(4, 3\), got \(1, 3\)"),
        (np.zeros((4, 3)), r"prefix \[\] sums to 3"),
        (np.full((4, 3), np.nan), "sums to nan"),
        (np.full((4, 3), 1e9), "sums to inf"),
    ],
)
def test_what_is_no_law_is_refused(laws: np.ndarray, names: str) -> None:
    with pytest.raises(InvalidInput, match=names):
        Tree.of(Tabular(ZEROS), horizon=2).with_laws(laws)


def test_large_trees_are_refused_before_they_are_built() -> None:
    with pytest.raises(InvalidInput, match="more than 100,000 nodes"):
        Tree.of(HiddenPath(4, 1000, 0.5), horizon=1000)
    assert len(Tree.of(Tabular.random(2, 3, seed=0), horizon=3, limit=15).prefixes) == 7
    with pytest.raises(InvalidInput, match="more than 14 nodes"):
        Tree.of(Tabular.random(2, 3, seed=0), horizon=3, limit=14)


def test_a_generator_that_breaks_the_protocol_is_named() -> None:
    class Broken(Tabular):
        def log_laws(self, prompt: Any, prefixes: Any) -> Any:
            return np.zeros((len(prefixes), 3))

    with pytest.raises(BackendError, match="sums to 3"):
        Tree.of(Broken(ZEROS), horizon=2)


# ---- the optimum ---------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.05, 0.7, 30.0])
@pytest.mark.parametrize(("K", "H", "end"), SHAPES)
def test_the_optimum_by_enumeration(K: int, H: int, end: tuple[int, ...], beta: float) -> None:
    tree = random_tree(K, H, end)
    r, log_p = random_rewards(tree, K), tree.log_probabilities()
    values, best = soft_values(tree, r, beta)
    assert best == values[0]
    assert best == pytest.approx(beta * np.logaddexp.reduce(log_p + r / beta), abs=1e-12)
    for u, v in zip(tree.prefixes, values, strict=True):
        behind = np.array([y[: len(u)] == u for y in tree.outputs])
        log_q = log_p[behind] - np.logaddexp.reduce(log_p[behind])
        assert v == pytest.approx(beta * np.logaddexp.reduce(log_q + r[behind] / beta), abs=1e-12)

    policy = gibbs_policy(tree, r, beta)
    np.testing.assert_allclose(policy.log_probabilities(), log_p + (r - best) / beta, atol=2e-12)
    assert value(policy, tree, r, beta) == pytest.approx(best, abs=1e-12)
    ratios = log_ratios(policy, tree)
    for y, reward in zip(tree.outputs, r, strict=True):
        along = sum(ratios[i, a] for i, a in steps(tree, y))
        assert along == pytest.approx((reward - best) / beta, abs=2e-12)


def test_tokens_of_probability_zero() -> None:
    tree = Tree.of(Tabular(ZEROS), horizon=2)
    r = -10.0 - np.arange(len(tree.outputs))  # all below 0, the value of what is not there
    for beta in (1e-6, 0.3, 1e6):
        values, best = soft_values(tree, r, beta)
        masses = np.exp(tree.log_probabilities() + (r - best) / beta)
        policy = gibbs_policy(tree, r, beta)
        np.testing.assert_array_equal(policy.laws == -np.inf, tree.laws == -np.inf)
        np.testing.assert_allclose(np.exp(policy.log_probabilities()), masses, atol=1e-9)
        assert np.isfinite(values).all()
        assert value(policy, tree, r, beta) == pytest.approx(best, abs=1e-12)
        assert np.isfinite(gradient(policy, tree, r, beta)).all()
    assert soft_values(tree, r, 1e-308)[1] == r.max()
    assert gibbs_policy(tree, r, 1e-308).log_probabilities()[r.argmax()] == 0.0


@settings(max_examples=40)
@given(
    st.integers(2, 4),
    st.integers(1, 3),
    st.booleans(),
    st.integers(0, 10**6),
    st.floats(0.02, 20.0),
)
def test_no_policy_beats_the_optimum(K: int, H: int, ends: bool, seed: int, beta: float) -> None:
    tree = random_tree(K, H, (0,) if ends else (), seed)
    r = random_rewards(tree, seed)
    _, best = soft_values(tree, r, beta)
    policy = random_policy(tree, seed, scale=2.0)
    log_q, log_p = policy.log_probabilities(), tree.log_probabilities()
    nats = float(np.exp(log_q) @ (log_q - log_p))
    assert kl(policy, tree) == pytest.approx(nats, abs=1e-12)
    worth = value(policy, tree, r, beta)
    assert worth == pytest.approx(float(np.exp(log_q) @ r) - beta * nats, abs=1e-11)
    assert worth == pytest.approx(  # the gap to the optimum is a KL
        best - beta * kl(policy, gibbs_policy(tree, r, beta)), abs=1e-11
    )
    assert worth <= best


@pytest.mark.parametrize("exponent", range(-6, 7))
def test_temperatures_from_cold_to_hot(exponent: int) -> None:
    tree, beta = random_tree(3, 4, (2,)), 10.0**exponent
    r = random_rewards(tree, 0)
    values, best = soft_values(tree, r, beta)
    policy = gibbs_policy(tree, r, beta)
    assert np.isfinite(values).all()
    assert r @ np.exp(tree.log_probabilities()) - 1e-12 <= best <= r.max()
    assert value(policy, tree, r, beta) == pytest.approx(best, abs=1e-12)
    assert np.isfinite(gradient(policy, tree, r, beta)).all()
    if exponent == -6:  # the best output, at the price of its surprisal
        surprisal = -tree.log_probabilities()[r.argmax()]
        assert best == pytest.approx(r.max() - beta * surprisal, abs=1e-12)
    if exponent == 6:  # mean + variance/(2β), both to the last digits
        p = np.exp(tree.log_probabilities())
        mean = p @ r
        assert best - mean == pytest.approx(p @ (r - mean) ** 2 / (2 * beta), abs=1e-12)


def test_small_divergences_keep_their_digits() -> None:
    tree = random_tree(4, 3)
    theta = np.random.default_rng(0).normal(0.0, 1.0, tree.laws.shape)
    nats = kl(random_policy(tree, 0, scale=1e-6), tree)
    p = np.exp(tree.laws)
    variance = (p * theta**2).sum(axis=1) - (p * theta).sum(axis=1) ** 2
    assert nats == pytest.approx(0.5e-12 * tree.visits() @ variance, rel=1e-5)
    assert kl(tree, tree) == 0.0


def test_divergence_where_supports_differ() -> None:
    tree = Tree.of(Tabular(ZEROS), horizon=2)
    laws = np.array(tree.laws)
    laws[1] = [0.0, -np.inf, -np.inf]
    narrow = tree.with_laws(laws)
    r = random_rewards(tree, 0)
    assert kl(narrow, tree) == pytest.approx(0.5 * -math.log(0.8), abs=1e-15)
    assert np.isfinite(gradient(narrow, tree, r, 1.0)).all()
    assert kl(tree, narrow) == math.inf
    assert value(tree, narrow, r, 1.0) == -math.inf
    with pytest.raises(InvalidInput, match=r"token 1 at prefix \[0\]"):
        gradient(tree, narrow, r, 1.0)
    laws[:2] = [
        [-np.inf, 0.0, -np.inf],
        tree.laws[1],
    ]  # leaves the base's support, but never gets there
    assert kl(tree.with_laws(laws), narrow) == pytest.approx(-math.log(0.3), abs=1e-15)


# ---- the gradient --------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.0625, 2.0])
@pytest.mark.parametrize(("K", "H", "end"), SHAPES[:4])
def test_gradient_by_finite_differences(K: int, H: int, end: tuple[int, ...], beta: float) -> None:
    tree = random_tree(K, H, end)
    policy, r = random_policy(tree, 1), random_rewards(tree, 2)
    found, h = gradient(policy, tree, r, beta), 1e-4
    for i, a in np.ndindex(*found.shape):
        worth = []
        for sign in (1, -1):
            logits = np.array(policy.laws)
            logits[i, a] += sign * h
            logits[i] -= np.logaddexp.reduce(logits[i])
            log_q = tree.with_laws(logits).log_probabilities()
            worth.append(np.exp(log_q) @ (r - beta * (log_q - tree.log_probabilities())))
        assert found[i, a] == pytest.approx((worth[0] - worth[1]) / (2 * h), abs=1e-7)


@pytest.mark.parametrize("beta", [1e-3, 0.1, 3.0])
def test_gradient_vanishes_at_the_optimum_alone(beta: float) -> None:
    tree = random_tree(4, 3, (3,))
    r = random_rewards(tree, 0)
    np.testing.assert_allclose(gradient(gibbs_policy(tree, r, beta), tree, r, beta), 0, atol=1e-13)
    assert np.abs(gradient(tree, tree, r, beta)).max() > 1e-3
    zero = gradient(tree, tree, np.zeros(len(r)), beta)  # no reward, no signal
    np.testing.assert_allclose(zero, 0, atol=1e-15)


# ---- the hidden path -----------------------------------------------------------------------------


def path_tree(K: int, H: int, p: float, path: tuple[int, ...]) -> tuple[Tree, np.ndarray]:
    """The tree of a hidden path and its outcome reward."""
    tree = Tree.of(HiddenPath(K, H, p, path), horizon=H)
    return tree, np.array([float(y == path) for y in tree.outputs])


@pytest.mark.parametrize(("K", "H", "p"), [(2, 10, 0.6), (4, 5, 0.5), (3, 6, 0.35)])
@pytest.mark.parametrize("beta", [1e-6, 0.01, 0.2, 5.0, 1e6])
def test_hidden_path_equals_its_formula(K: int, H: int, p: float, beta: float) -> None:
    tree, r = path_tree(K, H, p, tuple(t % K for t in range(H)))
    _, best = soft_values(tree, 1.5 * r, beta)
    assert best == pytest.approx(limits.optimal_value(K, H, p, beta, 1.5), abs=1e-12)
    assert value(gibbs_policy(tree, 1.5 * r, beta), tree, 1.5 * r, beta) == pytest.approx(
        best, abs=1e-12
    )


def test_steering_known_tokens_is_worth_what_the_limits_say() -> None:
    """With n0 known tokens the best tilt is that of the reward's mean given those tokens."""
    K, H, p, beta, N = 3, 4, 0.5, 0.2, 7
    path = (2, 0, 1, 1)
    tree, r = path_tree(K, H, p, path)
    total, below = 0.0, 0.0
    for d in range(H + 1):
        n0 = min(H, d + 1)
        hoped = [p ** (H - n0) * (y[:n0] == path[:n0]) for y in tree.outputs]
        worth = value(gibbs_policy(tree, np.array(hoped), beta), tree, r, beta)
        at_most = (1 - p ** (d + 1)) ** N if d < H else 1.0
        total, below = total + (at_most - below) * worth, at_most
    assert limits.steered_root_value(N, K, H, p, beta) == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize("depth", range(4))
def test_explicit_laws_are_worth_what_the_limits_say(depth: int) -> None:
    K, H, p, beta = 3, 3, 0.6, 0.3
    n0 = min(H, depth + 1)
    paths = [(*(0,) * n0, *rest) for rest in itertools.product(range(K), repeat=H - n0)]
    worlds = [path_tree(K, H, p, z) for z in paths]
    # the Gibbs law of the mean log-law and the mean reward: that of P_z with shifted rewards
    mean_log = np.mean([tree.log_probabilities() for tree, _ in worlds], axis=0)
    mean_reward = np.mean([r for _, r in worlds], axis=0)
    tree = worlds[0][0]
    scores = mean_reward + beta * (mean_log - tree.log_probabilities())
    policy = gibbs_policy(tree, scores, beta)
    worth = np.mean([value(policy, base, r, beta) for base, r in worlds])
    assert limits.root_value_at_depth(depth, K, H, p, beta) == pytest.approx(worth, abs=1e-12)


# ---- what is refused -----------------------------------------------------------------------------


def test_bad_input_is_named() -> None:
    tree = Tree.of(Tabular(ZEROS), horizon=2)
    r = np.zeros(len(tree.outputs))
    other = random_tree(3, 2)
    calls: list[tuple[Any, str]] = [
        (lambda: Tree.of(Tabular(ZEROS), horizon=0), "horizon"),
        (lambda: Tree.of(Tabular(ZEROS), horizon=2, stop=Stop(frozenset({3}))), "token 3"),
        (lambda: Tree.of(Tabular(ZEROS), horizon=2, limit=0), "limit"),
        (lambda: soft_values(tree, r, 0.0), "beta"),
        (lambda: value(tree, tree, r, math.inf), "beta"),
        (lambda: gradient(tree, tree, r, -1.0), "beta"),
        (lambda: gibbs_policy(tree, r[1:], 1.0), r"shape \(6,\).*, got \(5,\)"),
        (lambda: expected_reward(tree, r + np.nan), "finite"),
        (lambda: soft_values(tree, ["x"] * 6, 1.0), "numbers"),
        (lambda: kl(tree, other), "same tree"),
        (lambda: value(other, tree, np.zeros(9), 1.0), "same tree"),
        (lambda: tree.visits([1.0]), r"starts must have shape \(4,\)"),
    ]
    for call, names in calls:
        with pytest.raises(InvalidInput, match=names):
            call()


def test_everything_public_is_documented() -> None:
    public = [getattr(objective, name) for name in objective.__all__]
    assert all(
        thing.__doc__ for thing in public if inspect.isroutine(thing) or inspect.isclass(thing)
    )
