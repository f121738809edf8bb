"""Barrier, decoys, trie, parity, and the values of KL-regularized outcome reward."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

from reroot import InvalidInput, limits
from reroot.limits import (
    balancing_beta,
    barrier_error,
    barrier_rollouts,
    barrier_tv,
    decoy_draws,
    first_success_value,
    log_blind_success,
    optimal_value,
    parity_sample_floor,
    root_value,
    root_value_at_depth,
    root_value_rollouts,
    steered_root_value,
    trie_draws,
)

# ---- barrier -------------------------------------------------------------------------------------


def test_barrier() -> None:
    assert barrier_tv(3, 0.25) == pytest.approx(1 - 0.75**3, abs=1e-15)
    assert barrier_tv(0, 0.25) == 0.0
    assert barrier_tv(0, 1.0) == 0.0
    assert barrier_tv(5, 1.0) == 1.0
    assert barrier_tv(5, 0.0) == 0.0
    assert barrier_tv(10**30, 1e-30) == pytest.approx(1 - math.exp(-1), rel=1e-12)
    assert barrier_tv(10**400, 1e-300) == 1.0
    assert barrier_tv(1, 1e-300) == pytest.approx(1e-300, rel=1e-12)
    for n, reach in itertools.product((1, 7, 10**9), (1e-12, 1e-3, 0.4)):
        assert barrier_tv(n, reach) <= n * reach * (1 + 1e-12)
    assert barrier_error(2, 0.5) == pytest.approx(0.125)


@pytest.mark.parametrize(("error", "reach"), [(0.05, 0.01), (0.25, 0.3), (1e-6, 1e-9)])
def test_barrier_rollouts_are_the_fewest(error: float, reach: float) -> None:
    n = barrier_rollouts(error, reach)
    slack = 1e-9 * error  # rounding of 1 - TV
    assert barrier_error(n, reach) <= error + slack
    assert barrier_error(n - 1, reach) > error - slack


# ---- decoys, trie, parity ------------------------------------------------------------------------


def test_blind_success() -> None:
    assert log_blind_success(4, 6, 3) == pytest.approx(math.log(5 / 216))
    assert log_blind_success(10**9, 2, 3) == 0.0
    assert log_blind_success(0, 10**5, 10_000) == pytest.approx(-10_000 * math.log(10**5))


def test_decoy_draws_bound_the_union_of_pairs() -> None:
    K, H, k, p0, p1, delta = 8, 6, 2, 0.25, 0.2, 0.05
    q1 = (1 - k * p0 - p1) / (K - k - 1)
    miss = (1 - (math.sqrt(p1) - math.sqrt(q1)) ** 2) ** decoy_draws(K, H, k, p0, p1, delta)
    assert (K - k - 1) * H * miss <= delta
    fewer = (1 - (math.sqrt(p1) - math.sqrt(q1)) ** 2) ** (decoy_draws(K, H, k, p0, p1, delta) - 1)
    assert (K - k - 1) * H * fewer > delta


def test_trie_draws() -> None:
    m = trie_draws(16, 20, 0.3, 0.1, 0.05)
    assert m == math.ceil(2 * math.log(2 * 16 * 20 / 0.05) / 0.04)
    # Hoeffding at distance (a - b)/2 for K tokens at S nodes leaves at most delta/2
    assert 16 * 20 * math.exp(-2 * m * 0.1**2) <= 0.025


def test_parity_floor() -> None:
    h = -0.2 * math.log(0.2) - 0.8 * math.log(0.8)
    assert parity_sample_floor(6, 0.2) == pytest.approx(5 * math.log(2) / (math.log(2) - h))


# ---- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        ((0, 2, 5, 0.6, 0.2), 0.034675),
        ((1, 3, 4, 0.5, 0.1), 0.037446),
        ((2, 2, 6, 0.7, 0.3), 0.029594),
        ((4, 2, 5, 0.6, 0.2), 0.504550),
    ],
)
def test_published_values(arguments: tuple[Any, ...], value: float) -> None:
    assert root_value_at_depth(*arguments) == pytest.approx(value, abs=5e-7)


@pytest.mark.parametrize("horizon", [8, 16, 24, 32])
def test_half_the_optimum_takes_twice_as_many_rollouts_per_token(horizon: int) -> None:
    beta = balancing_beta(horizon, 0.5)
    best = optimal_value(4, horizon, 0.5, beta)
    assert best == pytest.approx(0.5, abs=4e-4)
    n = root_value_rollouts(best / 2, 4, horizon, 0.5, beta)
    assert 1 << (n - 1).bit_length() == 2 ** (horizon - 1)  # the first power of two that suffices
    assert root_value(n, 4, horizon, 0.5, beta) >= best / 2
    assert root_value(n - 1, 4, horizon, 0.5, beta) < best / 2


def hidden_laws(K: int, H: int, p: float, path: tuple[int, ...]) -> dict[tuple[int, ...], Any]:
    """Prefix → law of ``HiddenPath``."""
    q = (1 - p) / (K - 1)
    return {
        u: np.where(np.arange(K) == path[t], p, q) if u == path[:t] else np.full(K, 1 / K)
        for t in range(H)
        for u in itertools.product(range(K), repeat=t)
    }


def mass(laws: dict[tuple[int, ...], Any], y: tuple[int, ...]) -> float:
    return math.prod(float(laws[y[:t]][y[t]]) for t in range(len(y)))


@pytest.mark.parametrize(("K", "H", "p"), [(2, 4, 0.6), (3, 3, 0.5)])
def test_explicit_value_by_enumerating_posteriors(K: int, H: int, p: float) -> None:
    """max_π E_z[π(z)·R - β·KL(π ‖ P_z)] over explicit laws, for each number of known tokens."""
    beta, R = 0.3, 1.3
    strings = list(itertools.product(range(K), repeat=H))
    for known in range(H + 1):
        paths = [(*(0,) * known, *rest) for rest in itertools.product(range(K), repeat=H - known)]
        masses = np.array([[mass(hidden_laws(K, H, p, z), y) for y in strings] for z in paths])
        right = np.array([[y == z for y in strings] for z in paths])
        # a Gibbs law: log π ∝ mean log P_z + mean reward / β
        scores = np.log(masses).mean(axis=0) + right.mean(axis=0) * R / beta
        value = beta * float(np.logaddexp.reduce(scores))
        if known:
            assert root_value_at_depth(known - 1, K, H, p, beta, R) == pytest.approx(
                value, abs=1e-12
            )
        else:
            assert root_value(0, K, H, p, beta, R) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(("known", "K", "H", "p"), [(1, 2, 3, 0.6), (2, 2, 3, 0.7), (0, 3, 2, 0.5)])
def test_steered_value_by_optimizing_over_all_tilts(known: int, K: int, H: int, p: float) -> None:
    """max_θ E_z[J(P_z·e^θ)] by gradient descent from several starts, z uniform beyond n0 tokens."""
    beta, R = 0.25, 1.0
    paths = [(*(0,) * known, *rest) for rest in itertools.product(range(K), repeat=H - known)]
    bases = [hidden_laws(K, H, p, z) for z in paths]
    prefixes = list(bases[0])
    strings = list(itertools.product(range(K), repeat=H))

    def loss(theta: np.ndarray) -> float:
        tilt = dict(zip(prefixes, theta.reshape(len(prefixes), K), strict=True))
        total = 0.0
        for z, base in zip(paths, bases, strict=True):
            policy = {}
            for u in prefixes:
                weights = base[u] * np.exp(tilt[u])
                policy[u] = weights / weights.sum()
            for y in strings:
                own = mass(policy, y)
                if own > 0:
                    total += own * (R * (y == z) - beta * math.log(own / mass(base, y)))
        return -total / len(paths)

    rng = np.random.default_rng(0)
    starts = [np.zeros(len(prefixes) * K), *rng.normal(0, 1.0, (3, len(prefixes) * K))]
    best = max(-minimize(loss, start, method="L-BFGS-B").fun for start in starts)
    value = beta * math.log1p(p**known * math.expm1(p ** (H - known) * R / beta))
    assert best == pytest.approx(value, abs=1e-6)


def test_steered_value_averages_over_depths() -> None:
    N, K, H, p, beta = 7, 3, 4, 0.5, 0.2
    total, below = 0.0, 0.0
    for d in range(H + 1):
        at_most = (1 - p ** (d + 1)) ** N if d < H else 1.0
        known = min(H, d + 1)
        value = beta * math.log1p(p**known * math.expm1(p ** (H - known) / beta))
        total, below = total + (at_most - below) * value, at_most
    assert steered_root_value(N, K, H, p, beta) == pytest.approx(total, abs=1e-13)


@pytest.mark.parametrize("rollouts", [0, 1, 100, 10**6, 10**30, 10**400])
@pytest.mark.parametrize(("K", "H", "p"), [(2, 6, 0.6), (4, 16, 0.5), (10**5, 10_000, 0.3)])
def test_values_are_ordered(rollouts: int, K: int, H: int, p: float) -> None:
    beta = balancing_beta(H, p)
    best = optimal_value(K, H, p, beta)
    explicit = root_value(rollouts, K, H, p, beta)
    steered = steered_root_value(rollouts, K, H, p, beta)
    first = first_success_value(rollouts, K, H, p, beta)
    assert explicit <= steered + 1e-12
    assert 0 <= first <= steered + 1e-12 <= best + 2e-12
    assert all(map(math.isfinite, (explicit, steered, first, best)))


def test_the_value_before_and_after_the_first_success() -> None:
    """p^H·R until a rollout passes, J* from then on: here p^H = 1/8, R = 2, and 3 rollouts."""
    best = 0.5 * math.log(7 / 8 + math.exp(2 / 0.5) / 8)
    for rollouts, missed in ((0, 1.0), (1, 7 / 8), (3, (7 / 8) ** 3)):
        known = missed * 2 / 8 + (1 - missed) * best
        found = first_success_value(rollouts, 5, 3, 0.5, 0.5, reward=2.0)
        assert found == pytest.approx(known, rel=1e-13)
    assert first_success_value(10**6, 5, 3, 0.5, 0.5, reward=2.0) == pytest.approx(best, rel=1e-13)


def test_an_explicit_law_can_be_worth_less_than_the_generator() -> None:
    """Why ``root_value`` is no limit for learners that may fall back on the generator."""
    assert root_value(1, 4, 16, 0.5, balancing_beta(16, 0.5)) < 0
    assert steered_root_value(1, 4, 16, 0.5, balancing_beta(16, 0.5)) > 0


def test_optimal_value_in_extremes() -> None:
    assert optimal_value(4, 10_000, 0.5, 1e-5) == pytest.approx(1 - 0.1 * math.log(2), rel=1e-3)
    tiny = optimal_value(4, 64, 0.5, 1.0)
    assert tiny == pytest.approx(0.5**64 * math.expm1(1.0), rel=1e-12)
    assert optimal_value(2, 3, 0.6, 0.5, reward=0.0) == 0.0


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: barrier_tv(-1, 0.5), "rollouts"),
        (lambda: barrier_tv(1, 1.5), "reach"),
        (lambda: barrier_rollouts(0.5, 0.5), "error"),
        (lambda: decoy_draws(8, 6, 7, 0.1, 0.1, 0.1), "decoys"),
        (lambda: decoy_draws(8, 6, 2, 0.25, 0.01, 0.1), "p1 must exceed"),
        (lambda: trie_draws(8, 5, 0.1, 0.2, 0.1), "0 <= b < a"),
        (lambda: optimal_value(4, 3, 0.5, 0.0), "beta"),
        (lambda: optimal_value(4, 3, 0.5, 0.1, reward=-1.0), "reward"),
        (lambda: root_value_at_depth(4, 4, 3, 0.5, 0.1), "depth"),
        (lambda: root_value_rollouts(2.0, 4, 3, 0.5, 0.1), "value"),
        (lambda: parity_sample_floor(6, 0.5), "noise"),
        (lambda: log_blind_success(-1, 3, 3), "reward_queries"),
    ],
)
def test_values_name_what_is_out_of_range(call: Any, names: str) -> None:
    with pytest.raises(InvalidInput, match=names):
        call()


def test_everything_public_is_documented() -> None:
    assert all(getattr(limits, name).__doc__ for name in limits.__all__)
