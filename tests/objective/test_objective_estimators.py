"""KL estimators: values, and the expected gradients of what is differentiated, by enumeration."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from test_objective_exact import ZEROS, random_policy, random_tree, steps

from reroot import InvalidInput, Prefix
from reroot.generators.tabular import Tabular
from reroot.objective import (
    KINDS,
    PLACES,
    Kind,
    Place,
    Tree,
    bias_table,
    estimate_kl,
    expected_estimate,
    expected_kl_gradient,
    gradient,
    kl,
    log_ratios,
)

Starts = Mapping[Any, float]


def pair(seed: int = 0, K: int = 3, H: int = 3, end: tuple[int, ...] = (2,)) -> tuple[Tree, Tree]:
    """A policy and its base, one nat or so apart."""
    base = random_tree(K, H, end, seed)
    return random_policy(base, seed + 1), base


def some_starts(tree: Tree) -> Starts:
    """Nested prefixes and others, with unequal weights."""
    weights = np.random.default_rng(5).dirichlet(np.ones(len(tree.prefixes)))
    return dict(zip(tree.prefixes, weights.tolist(), strict=True))


def kl_gradient(policy: Tree, base: Tree) -> np.ndarray:
    return -gradient(policy, base, np.zeros(len(base.outputs)), 1.0)


def scalar_estimate(kind: Kind, ratios: list[float]) -> float:
    if kind == "k1":
        return sum(ratios)
    if kind == "k2":
        return sum(x * x for x in ratios) / 2
    if kind == "k3":
        return sum(math.exp(-x) - 1 + x for x in ratios)
    return sum(ratios) ** 2 / 2


def trajectories(
    policy: Tree, base: Tree, starts: Starts
) -> Iterator[tuple[float, list[tuple[int, int]], list[float]]]:
    """(probability, steps, log-ratios) of every trajectory from every start, one by one."""
    for start, weight in starts.items():
        for y in policy.outputs:
            path = steps(policy, y)[len(start) :]
            logs = [policy.laws[i, a] for i, a in path]
            if y[: len(start)] == start and -math.inf not in logs:
                ratios = [x - base.laws[i, a] for x, (i, a) in zip(logs, path, strict=True)]
                yield weight * math.exp(sum(logs)), path, ratios


def slow_gradient(
    policy: Tree, base: Tree, kind: Kind, place: Place, starts: Starts, to_go: bool = False
) -> np.ndarray:
    """Sum over trajectories and positions of probability × what one sample contributes."""
    total = np.zeros(policy.laws.shape)
    for probability, path, ratios in trajectories(policy, base, starts):
        slopes = {  # dk/dl_t
            "k1": [1.0] * len(ratios),
            "k2": ratios,
            "k3": [1 - math.exp(-x) for x in ratios],
            "k2_sequence": [sum(ratios)] * len(ratios),
        }
        for t, (i, a) in enumerate(path):
            score = -np.exp(policy.laws[i])  # ∇θ(u,·) log π(a|u)
            score[a] += 1
            constant = scalar_estimate(kind, ratios[t:] if to_go else ratios)
            total[i] += probability * score * (constant if place == "reward" else slopes[kind][t])
    return total


def moved(policy: Tree, step: np.ndarray) -> Tree:
    """The policy with other logits: log π + step."""
    logits = policy.laws + step
    return policy.with_laws(logits - np.logaddexp.reduce(logits, axis=1)[:, None])


def relative(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


# ---- one trajectory ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_estimates_by_hand(kind: Kind) -> None:
    rows = [[0.5, -1.0, 2.0], [1e-3, -0.25], []]
    padded = np.full((3, 3), np.nan)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    found = estimate_kl(padded, kind, lengths=[3, 2, 0])
    assert found == pytest.approx([scalar_estimate(kind, row) for row in rows], abs=1e-15)
    assert estimate_kl([[0.5, -1.0, 2.0]], kind) == pytest.approx(found[:1])


def test_estimates_of_impossible_tokens_are_infinite() -> None:
    assert estimate_kl([[math.inf, 0.1]], "k1") == math.inf
    assert estimate_kl([[math.inf, 0.1], [-800.0, 0.1]], "k3").tolist() == [math.inf] * 2


# ---- expectations --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", [(), (2,)])
def test_expected_values_by_enumeration(kind: Kind, end: tuple[int, ...]) -> None:
    policy, base = pair(end=end)
    for starts in ({(): 1.0}, some_starts(policy)):
        total = sum(
            probability * scalar_estimate(kind, ratios)
            for probability, _, ratios in trajectories(policy, base, starts)
        )
        assert expected_estimate(policy, base, kind, starts) == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", [(), (2,)])
def test_expected_gradients_by_enumeration(kind: Kind, place: Place, end: tuple[int, ...]) -> None:
    policy, base = pair(end=end)
    for starts in (None, {(): 0.25, (1,): 0.5, (1, 0): 0.25}, some_starts(policy)):
        slow = slow_gradient(policy, base, kind, place, starts or {(): 1.0})
        found = expected_kl_gradient(policy, base, kind, place, starts)
        np.testing.assert_allclose(found, slow, atol=1e-13)
        if place == "reward":
            slow = slow_gradient(policy, base, kind, place, starts or {(): 1.0}, to_go=True)
            found = expected_kl_gradient(policy, base, kind, place, starts, to_go=True)
            np.testing.assert_allclose(found, slow, atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_expected_gradients_by_finite_differences(kind: Kind) -> None:
    """In the loss: samples stay, k moves. Loss and reward together: ∇E[k], samples move too."""
    policy, base = pair()
    paths = [steps(policy, y) for y in policy.outputs]
    mass, h = np.exp(policy.log_probabilities()), 1e-5
    loss = expected_kl_gradient(policy, base, kind, "loss")
    both = loss + expected_kl_gradient(policy, base, kind, "reward")
    for i, a in np.ndindex(*policy.laws.shape):
        slope, full_slope = 0.0, 0.0
        for sign in (1, -1):
            step = np.zeros(policy.laws.shape)
            step[i, a] = sign * h
            other = moved(policy, step)
            ratios = log_ratios(other, base)
            k = np.array([scalar_estimate(kind, [ratios[s] for s in path]) for path in paths])
            slope += sign * mass @ k / (2 * h)
            full_slope += sign * np.exp(other.log_probabilities()) @ k / (2 * h)
        assert loss[i, a] == pytest.approx(slope, abs=1e-8)
        assert both[i, a] == pytest.approx(full_slope, abs=1e-8)


# ---- what is unbiased, and what is not -----------------------------------------------------------

SEEDS = range(4)


@pytest.mark.parametrize("seed", SEEDS)
def test_k1_and_k3_are_unbiased_values_and_k2_is_not(seed: int) -> None:
    policy, base = pair(seed)
    nats = kl(policy, base)
    assert expected_estimate(policy, base, "k1") == pytest.approx(nats, abs=1e-13)
    assert expected_estimate(policy, base, "k3") == pytest.approx(nats, abs=1e-13)
    assert abs(expected_estimate(policy, base, "k2") - nats) > 0.005
    assert abs(expected_estimate(policy, base, "k2_sequence") - nats) > 0.005


def test_k3_misses_what_the_policy_never_draws() -> None:
    base = Tree.of(Tabular(ZEROS), horizon=2)
    laws = np.array(base.laws)
    laws[1] = [0.0, -np.inf, -np.inf]
    policy = base.with_laws(laws)
    assert expected_estimate(policy, base, "k1") == pytest.approx(kl(policy, base), abs=1e-15)
    missed = 0.5 * 0.2  # Pr(reach [0]) · P(the token left out)
    assert expected_estimate(policy, base, "k3") - kl(policy, base) == pytest.approx(-missed)
    for place in PLACES:
        for kind in KINDS:
            np.testing.assert_allclose(
                expected_kl_gradient(policy, base, kind, place),
                slow_gradient(policy, base, kind, place, {(): 1.0}),
                atol=1e-14,
            )


@pytest.mark.parametrize("seed", SEEDS)
def test_k1_in_the_reward_is_unbiased_and_in_the_loss_zero(seed: int) -> None:
    policy, base = pair(seed)
    for to_go in (False, True):
        found = expected_kl_gradient(policy, base, "k1", "reward", to_go=to_go)
        np.testing.assert_allclose(found, kl_gradient(policy, base), atol=1e-14)
    assert not expected_kl_gradient(policy, base, "k1", "loss").any()


@pytest.mark.parametrize("seed", SEEDS)
def test_k2_of_the_sequence_in_the_loss_is_unbiased(seed: int) -> None:
    policy, base = pair(seed)
    found = expected_kl_gradient(policy, base, "k2_sequence", "loss")
    np.testing.assert_allclose(found, kl_gradient(policy, base), atol=1e-14)


@pytest.mark.parametrize("seed", SEEDS)
def test_k2_of_tokens_in_the_loss_lacks_the_effect_on_later_states(seed: int) -> None:
    """What is missing at (u, a): visits·π·(KL from ua on, less its mean). At the end: nothing."""
    policy, base = pair(seed)
    pi, ratios = np.exp(policy.laws), log_ratios(policy, base)
    # KL from each node on, as the KL of trajectories that start there
    ahead = np.zeros(policy.laws.shape)
    for i, a in np.argwhere((policy.children >= 0) & (policy.children < len(policy.prefixes))):
        start = policy.prefixes[policy.children[i, a]]
        ahead[i, a] = expected_estimate(policy, base, "k1", {start: 1.0})
    later = policy.visits()[:, None] * pi * (ahead - (pi * ahead).sum(axis=1, keepdims=True))
    found = expected_kl_gradient(policy, base, "k2", "loss")
    np.testing.assert_allclose(found, kl_gradient(policy, base) - later, atol=1e-14)
    assert np.linalg.norm(later) > 0.01 * np.linalg.norm(found)
    np.testing.assert_allclose(later[policy.levels[-1]], 0, atol=1e-15)
    now = pi * (ratios - (pi * ratios).sum(axis=1, keepdims=True))  # the KL of each state alone
    np.testing.assert_allclose(found, policy.visits()[:, None] * now, atol=1e-14)
    policy, base = pair(seed, K=5, H=1, end=())  # one token is the sequence
    found = expected_kl_gradient(policy, base, "k2", "loss")
    np.testing.assert_allclose(found, kl_gradient(policy, base), atol=1e-15)


@pytest.mark.parametrize("seed", SEEDS)
def test_k3_in_the_loss_is_a_forward_divergence(seed: int) -> None:
    """Σ_u visits(u)·∇KL(P(·|u) ‖ π(·|u)) = visits·(π − P), checked against differences too."""
    policy, base = pair(seed)
    found = expected_kl_gradient(policy, base, "k3", "loss")
    visits, p = policy.visits(), np.exp(base.laws)
    np.testing.assert_allclose(found, visits[:, None] * (np.exp(policy.laws) - p), atol=1e-15)
    direction, h = np.random.default_rng(seed).normal(size=p.shape), 1e-5
    ahead, back = (
        visits @ (p * (base.laws - moved(policy, step * direction).laws)).sum(axis=1)
        for step in (h, -h)
    )
    assert np.sum(found * direction) == pytest.approx((ahead - back) / (2 * h), abs=1e-8)
    assert relative(found, kl_gradient(policy, base)) > 0.1


@pytest.mark.parametrize("seed", SEEDS)
def test_k3_in_the_reward_lacks_what_k3_in_the_loss_has(seed: int) -> None:
    policy, base = pair(seed)
    reward = expected_kl_gradient(policy, base, "k3", "reward")
    loss = expected_kl_gradient(policy, base, "k3", "loss")
    np.testing.assert_allclose(reward + loss, kl_gradient(policy, base), atol=1e-13)
    assert relative(reward, kl_gradient(policy, base)) > 0.1


def test_near_the_base_the_loss_is_right_to_first_order_and_the_reward_is_empty() -> None:
    base = random_tree(3, 3, (2,))
    errors = []
    for scale in (1e-2, 1e-3):
        policy = random_policy(base, 1, scale)
        exact, error = kl_gradient(policy, base), {}
        for kind in ("k2", "k3"):
            error[kind] = relative(expected_kl_gradient(policy, base, kind, "loss"), exact)
        for kind in ("k2", "k3", "k2_sequence"):
            found = expected_kl_gradient(policy, base, kind, "reward")
            error[f"{kind} left"] = float(np.linalg.norm(found) / np.linalg.norm(exact))
        errors.append(error)
    for name, error in errors[0].items():
        assert 1e-4 < error < 0.05, name
        assert errors[1][name] == pytest.approx(error / 10, rel=0.1), name


def test_prefix_starts_change_the_target() -> None:
    """k1 in the reward is exact for the KL of the suffix, which is not that of the sequence."""
    policy, base = pair()
    start = {Prefix((1,)): 1.0}
    for kind, place in (("k1", "reward"), ("k2_sequence", "loss")):
        found = expected_kl_gradient(policy, base, kind, place, start)
        behind = [u[:1] == (1,) for u in policy.prefixes]
        reach = policy.visits()[policy.prefixes.index((1,))]
        np.testing.assert_allclose(found[behind] * reach, kl_gradient(policy, base)[behind])
        assert not found[~np.array(behind)].any()


# ---- the table -----------------------------------------------------------------------------------


def test_bias_table() -> None:
    policy, base = pair(3, K=3, H=4)
    starts = some_starts(policy)
    rows = bias_table(policy, base, starts)
    assert len({(r.kind, r.place, r.start) for r in rows}) == len(rows) == 16
    exact = kl_gradient(policy, base)
    for row in rows:
        given = starts if row.start == "prefix" else None
        found = expected_kl_gradient(policy, base, row.kind, row.place, given)
        bias = expected_estimate(policy, base, row.kind, given) - kl(policy, base)
        assert row.value_bias == pytest.approx(bias, abs=1e-13)
        assert row.gradient_error == pytest.approx(relative(found, exact), abs=1e-12)
        if found.any():
            norms = np.linalg.norm(found) * np.linalg.norm(exact)
            assert row.cosine == pytest.approx(np.sum(found * exact) / norms, abs=1e-12)
        else:
            assert (row.gradient_error, row.cosine) == (1.0, 0.0)
    unbiased = {(r.kind, r.place, r.start) for r in rows if r.gradient_error < 1e-12}
    assert unbiased == {("k1", "reward", "root"), ("k2_sequence", "loss", "root")}
    uniform = dict.fromkeys(policy.prefixes, 1 / len(policy.prefixes))
    assert bias_table(policy, base) == bias_table(policy, base, uniform)


def test_bias_table_at_the_base_has_nothing_to_compare_with() -> None:
    _, base = pair()
    with pytest.raises(InvalidInput, match="gradient of the KL is 0"):
        bias_table(base, base)


# ---- samples -------------------------------------------------------------------------------------


def test_samples_agree_with_the_expectations() -> None:
    """20,000 trajectories: 4 means and 4 gradients (21 entries each) within 5.5 standard errors.

    By the normal approximation a right implementation fails with probability below 1e-5.
    """
    policy, base = pair()
    masses, ratios = np.exp(policy.log_probabilities()), log_ratios(policy, base)
    drawn = np.random.default_rng(11).choice(len(masses), size=20_000, p=masses / masses.sum())
    padded = np.full((len(masses), 3), np.nan)
    scores = np.zeros((len(masses), *ratios.shape))
    for j, path in enumerate(steps(policy, y) for y in policy.outputs):
        padded[j, : len(path)] = [ratios[step] for step in path]
        for i, a in path:
            scores[j, i] -= np.exp(policy.laws[i])
            scores[j, i, a] += 1

    def check(samples: np.ndarray, expected: Any) -> None:
        error = samples.std(axis=0) / math.sqrt(len(samples))
        assert (np.abs(samples.mean(axis=0) - expected) <= 5.5 * error + 1e-12).all()

    for kind in KINDS:
        k = estimate_kl(padded, kind, [len(y) for y in policy.outputs])
        check(k[drawn], expected_estimate(policy, base, kind))
        found = expected_kl_gradient(policy, base, kind, "reward")
        check((scores * k[:, None, None])[drawn], found)


# ---- extremes and refusals -----------------------------------------------------------------------


def test_far_apart_laws_do_not_overflow() -> None:
    base = random_tree(3, 3)
    policy = random_policy(base, 0)
    laws = np.array(policy.laws)
    laws[0] = [-1e6, math.log1p(-0.5), math.log(0.5)]
    policy = base.with_laws(laws)
    for kind in KINDS:
        assert math.isfinite(expected_estimate(policy, base, kind))
        for place in PLACES:
            assert np.isfinite(expected_kl_gradient(policy, base, kind, place)).all()
    # e^-l·π = P stays, though π is 0 and e^-l is infinite
    found = expected_kl_gradient(policy, base, "k3", "loss")
    assert found[0, 0] == pytest.approx(-math.exp(base.laws[0, 0]))


def test_bad_input_is_named() -> None:
    policy, base = pair()
    narrow = np.array(base.laws)
    narrow[0] = [0.0, -np.inf, -np.inf]
    calls: list[tuple[Any, str]] = [
        (lambda: estimate_kl([[0.1]], "k4"), "'k4'"),  # type: ignore[arg-type]
        (lambda: estimate_kl([[0.1], []], "k1"), "array of numbers"),  # type: ignore[list-item]
        (lambda: estimate_kl([0.1], "k1"), r"shape \(n, L\)"),
        (lambda: estimate_kl([[0.1]], "k1", [2]), "lengths"),
        (lambda: estimate_kl([[0.1]], "k1", [1, 1]), "lengths"),
        (lambda: estimate_kl([[0.1]], "k1", [0.5]), "lengths"),
        (lambda: estimate_kl([[math.nan]], "k1"), "NaN"),
        (lambda: expected_kl_gradient(policy, base, "k5", "loss"), "'k5'"),  # type: ignore[arg-type]
        (lambda: expected_kl_gradient(policy, base, "k1", "lose"), "'lose'"),  # type: ignore[arg-type]
        (lambda: expected_kl_gradient(policy, base, "k1", "loss", to_go=True), "to_go"),
        (lambda: expected_estimate(policy, base, "k1", {(2,): 1.0}), r"\[2\] is no internal"),
        (lambda: expected_estimate(policy, base, "k1", {(1,): 0.5}), "sum to 1"),
        (lambda: expected_estimate(policy, base, "k1", {(): 2.0, (1,): -1.0}), "weight .* >= 0"),
        (lambda: expected_estimate(policy, base.with_laws(narrow), "k1"), "token 1 at prefix"),
    ]
    for call, names in calls:
        with pytest.raises(InvalidInput, match=names):
            call()
