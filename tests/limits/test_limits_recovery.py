"""The hidden path: draws of the plurality walk, its exact error, success and depth from the root."""

from __future__ import annotations

import itertools
import math
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest
from scipy import stats

from reroot import InvalidInput
from reroot.limits import (
    capacity,
    capacity_floor,
    log_root_success,
    plurality_draws,
    plurality_error,
    root_depths,
    root_rollouts,
    root_success,
    two_point_floor,
)
from reroot.randomness import keyed_rng, stream_key


@pytest.mark.parametrize(
    ("vocab_size", "horizon", "p", "hoeffding", "chernoff"),
    [
        (2, 32, 0.6, 324, 317),
        (4, 32, 0.4, 379, 217),
        (16, 64, 0.25, 494, 125),
        (64, 128, 0.1, 3265, 304),
    ],
)
def test_plurality_draws_published_values(
    vocab_size: int, horizon: int, p: float, hoeffding: int, chernoff: int
) -> None:
    assert plurality_draws(vocab_size, horizon, p, 0.05, "hoeffding") == hoeffding
    assert plurality_draws(vocab_size, horizon, p, 0.05) == chernoff


def test_plurality_draws_of_large_trees() -> None:
    K, H, p, delta = 10**5, 10**4, 2e-5, 1e-9
    q = (1 - p) / (K - 1)
    nats = math.log((K - 1) * H / delta)
    m = plurality_draws(K, H, p, delta)
    assert m == math.ceil(nats / -math.log1p(-((math.sqrt(p) - math.sqrt(q)) ** 2)))
    assert m <= plurality_draws(K, H, p, delta, "hoeffding")
    assert plurality_draws(K, H, 1 - 1e-12, 0.5) >= 1


def brute_plurality_error(K: int, p: float, m: int) -> float:
    """By enumeration of all K^m outcomes; the path token is 0."""
    q, won = (1 - p) / (K - 1), 0.0
    for draws in itertools.product(range(K), repeat=m):
        counts = [draws.count(a) for a in range(K)]
        if counts[0] == max(counts):
            won += p ** counts[0] * q ** (m - counts[0]) / counts.count(counts[0])
    return 1 - won


@pytest.mark.parametrize(
    ("K", "p", "m"),
    [(2, 0.6, 0), (2, 0.6, 1), (2, 0.6, 8), (2, 0.9, 9), (3, 0.5, 7), (4, 0.3, 6), (6, 0.4, 5)],
)
def test_plurality_error_by_enumeration(K: int, p: float, m: int) -> None:
    assert plurality_error(K, p, m) == pytest.approx(brute_plurality_error(K, p, m), abs=1e-13)


def test_plurality_error_of_two_tokens_is_a_binomial_tail() -> None:
    for m in (101, 1501, 20_001):  # by convolution, and by Fourier transform
        tail = float(stats.binom.cdf((m - 1) // 2, m, 0.52))
        assert plurality_error(2, 0.52, m) == pytest.approx(tail, rel=1e-8, abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("K", "p", "m"), [(16, 0.25, 40), (1000, 0.05, 60), (100_000, 0.1, 20)])
def test_plurality_error_by_sampling(K: int, p: float, m: int) -> None:
    """20,000 samples each, fixed seeds; a right formula fails here with probability 3e-5."""
    rng = keyed_rng(stream_key(0, "plurality", "test", (K, m)))
    own = rng.binomial(m, p, size=20_000)
    missed = 0.0
    for c in own.tolist():
        others = np.bincount(rng.integers(K - 1, size=m - c))
        most, ties = int(others.max(initial=0)), int((others == c).sum()) if c else K - 1
        missed += 1.0 if most > c else ties / (ties + 1)
    error = plurality_error(K, p, m)
    assert abs(missed / len(own) - error) < 4.2 * math.sqrt(error * (1 - error) / len(own))


@pytest.mark.parametrize(("K", "H", "p"), [(2, 32, 0.6), (4, 32, 0.4), (16, 64, 0.25)])
def test_exact_plurality_draws_are_the_fewest(K: int, H: int, p: float) -> None:
    m = plurality_draws(K, H, p, 0.05, "exact")
    assert m < plurality_draws(K, H, p, 0.05)

    def failure(m: int) -> float:
        return 1 - (1 - plurality_error(K, p, m)) ** H

    assert failure(m) <= 0.05 < failure(m - 1)


def test_plurality_error_at_scale() -> None:
    error = plurality_error(100_000, 0.1, 150)
    assert 0 < error <= (100_000 - 1) * (1 - (math.sqrt(0.1) - math.sqrt(0.9 / 99_999)) ** 2) ** 150
    grid = [plurality_error(8, 0.3, m) for m in range(0, 200, 7)]
    assert grid == sorted(grid, reverse=True)  # more draws never hurt the Bayes rule


def test_capacity_is_the_mutual_information_of_a_draw() -> None:
    K, p = 5, 0.37
    q = (1 - p) / (K - 1)
    joint = np.full((K, K), q / K)
    np.fill_diagonal(joint, p / K)
    information = float((joint * np.log(joint * K * K)).sum())
    assert capacity(K, p) == pytest.approx(information, abs=1e-14)
    assert capacity_floor(16, 64, 0.25) == pytest.approx(990.12226, abs=1e-4)
    kl = (p - q) * math.log(p / q)
    assert two_point_floor(K, p, 0.05) == pytest.approx(math.log(20) / kl)


def test_depths_follow_their_law() -> None:
    """χ² of 20,000 depths against the law; a right formula fails with probability 1e-4."""
    H, p = 12, 0.6
    for N in (1, 50, 10**4):
        u = keyed_rng(stream_key(0, "depths", "test", (N,))).random(20_000)
        counts = np.bincount(root_depths(N, H, p, u), minlength=H + 1)
        below = np.array([(1 - p ** (d + 1)) ** N for d in range(H)] + [1.0])
        law = np.diff(below, prepend=0.0)
        kept = law * len(u) >= 5
        rest = np.append(counts[kept], counts[~kept].sum())
        expected = np.append(law[kept], law[~kept].sum()) * len(u)
        rest, expected = rest[expected > 0], expected[expected > 0]
        assert stats.chisquare(rest, expected).pvalue > 1e-4


def test_depths_beyond_the_floats() -> None:
    u = np.array([0.0, 1e-300, 0.5, 1 - 1e-16])
    depths = root_depths(10**30, 10_000, 0.5, u)
    assert depths.tolist() == sorted(depths.tolist())
    assert 88 <= depths[1] <= depths[2] <= 105  # about log(10^30)/log 2
    assert root_depths(10**400, 2_000, 0.5, [0.5])[0] in range(1320, 1340)
    assert root_depths(10**400, 100, 0.5, [0.5])[0] == 100


@pytest.mark.parametrize("success", [0.1, 0.5, 0.95])
@pytest.mark.parametrize(("K", "H", "p"), [(4, 8, 0.5), (2, 20, 0.6), (3, 1, 0.5)])
def test_root_rollouts_are_the_fewest(K: int, H: int, p: float, success: float) -> None:
    n = root_rollouts(success, K, H, p)
    assert root_success(n, K, H, p) >= success
    assert n == 0 or root_success(n - 1, K, H, p) < success


def test_root_rollouts_grow_by_one_over_p_per_token() -> None:
    for H in (40, 400, 4_000):
        nats = math.log(root_rollouts(0.5, 4, H, 0.5))
        # log 2 · p^(1-H), but for partial credit below depth H - 1
        assert nats == pytest.approx((H - 1) * math.log(2) + math.log(math.log(2)), abs=0.25)
    assert root_rollouts(1e-9, 4, 4, 0.5) == 0  # a guess suffices


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        ((10, 2, 6, 0.6), 0.70338),
        ((100, 3, 6, 0.5), 0.97178),
        ((50, 4, 8, 0.55), 0.60201),
        ((1000, 2, 12, 0.6), 0.98622),
    ],
)
def test_root_success_published_values(arguments: tuple[Any, ...], value: float) -> None:
    assert root_success(*arguments) == pytest.approx(value, abs=5e-6)


def decimal_log_success(N: int, K: int, H: int, p: float, M: int) -> float:
    """log of the formula term by term in many digits, with differences taken as they stand."""
    with localcontext() as context:
        context.prec = 60 + math.ceil(-H * math.log10(p))  # 1 - p^H must not round to 1
        total, below = Decimal(0), Decimal(0)
        for d in range(H + 1):
            at_most = Decimal(1) if d == H else ((1 - Decimal(p) ** (d + 1)).ln() * N).exp()
            hit = min(Decimal(1), Decimal(M + 1) / Decimal(K) ** max(0, H - 1 - d))
            total += (at_most - below) * hit
            below = at_most
        return float(total.ln())


@pytest.mark.parametrize(
    ("N", "K", "H", "p", "M"),
    [
        (1, 2, 1, 0.6, 0),
        (3, 3, 2, 0.5, 1),
        (7, 5, 9, 0.9, 40),
        (10**6, 4, 40, 0.3, 10**9),
        (10**30, 2, 140, 0.6, 0),
        (10**30, 1000, 200, 0.7, 10**6),
        (10**12, 3, 60, 1 - 1e-6, 0),
        (2, 100_000, 12, 2e-5, 0),
        (10**30, 4, 1_000, 0.5, 3),
    ],
)
def test_root_success_equals_the_sum_in_many_digits(
    N: int, K: int, H: int, p: float, M: int
) -> None:
    exact = decimal_log_success(N, K, H, p, M)
    assert log_root_success(N, K, H, p, M) == pytest.approx(exact, rel=1e-11, abs=1e-11)
    assert root_success(N, K, H, p, M) == pytest.approx(math.exp(exact), rel=1e-8)


def test_root_success_by_enumerating_transcripts() -> None:
    """N = 2 rollouts, K = 2, H = 3: the Bayes rule over all paths, transcript by transcript."""
    K, H, p = 2, 3, 0.7
    strings = list(itertools.product(range(K), repeat=H))

    def report(path: tuple[int, ...], y: tuple[int, ...]) -> tuple[tuple[Any, ...], float]:
        seen, probability = [], 1.0
        for t in range(H):
            on = y[:t] == path[:t]
            law = tuple((p if a == path[t] else 1 - p) if on else 0.5 for a in range(K))
            seen.append((y[t], law))
            probability *= law[y[t]]
        return tuple(seen), probability

    for M in (0, 1, 2):
        joint: dict[Any, list[float]] = {}
        for i, path in enumerate(strings):
            reports = [report(path, y) for y in strings]
            for (a, pa), (b, pb) in itertools.product(reports, repeat=2):
                joint.setdefault((a, b), [0.0] * len(strings))[i] += pa * pb / len(strings)
        # M rewards on wrong guesses exclude M paths; the best is to name the M + 1 likeliest
        best = sum(sum(sorted(w)[-(M + 1) :]) for w in joint.values())
        assert root_success(2, K, H, p, M) == pytest.approx(best, abs=1e-12)


def test_root_success_at_the_edges() -> None:
    assert root_success(0, 4, 3, 0.5) == pytest.approx(4.0**-3)
    assert root_success(0, 4, 3, 0.5, 10**6) == 1.0
    assert root_success(5, 4, 1, 0.5) == 1.0  # the first law shows the only token
    assert root_success(10**30, 2, 10_000, 0.6) < 1e-300
    assert root_success(10**400, 2, 40, 0.6) == 1.0
    grid = [root_success(10**k, 4, 64, 0.5) for k in range(31)]
    assert grid == sorted(grid)
    assert 0 < grid[0] < 1e-18
    assert grid[-1] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: plurality_draws(1, 3, 0.5, 0.1), "vocab_size"),
        (lambda: plurality_draws(4, 0, 0.5, 0.1), "horizon"),
        (lambda: plurality_draws(4, 3, 0.25, 0.1), "p must"),
        (lambda: plurality_draws(4, 3, float("nan"), 0.1), "p must"),
        (lambda: plurality_draws(4, 3, 0.5, 0.0), "delta"),
        (lambda: plurality_draws(4, 3, 0.5, 0.1, "chernof"), "Did you mean 'chernoff'"),
        (lambda: root_success(-1, 4, 3, 0.5), "rollouts"),
        (lambda: root_success(5, 4, 3, 0.5, -2), "reward_queries"),
        (lambda: root_success(True, 4, 3, 0.5), "rollouts"),
        (lambda: root_rollouts(1.0, 4, 3, 0.5), "success"),
        (lambda: root_depths(0, 3, 0.5, [0.5]), "rollouts"),
        (lambda: plurality_error(4, 0.5, -1), "draws"),
        (lambda: capacity(4, 0.2), "p must"),
        (lambda: two_point_floor(4, 0.5, 1.0), "delta"),
    ],
)
def test_limits_name_what_is_out_of_range(call: Any, names: str) -> None:
    with pytest.raises(InvalidInput, match=names):
        call()
