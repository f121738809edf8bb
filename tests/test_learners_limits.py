"""The closed forms behind the learners: draws of the plurality walk, success from the root."""

from __future__ import annotations

import itertools
import math
from decimal import Decimal, localcontext
from typing import Any

import pytest

from reroot import InvalidInput
from reroot.limits import log_root_success, plurality_draws, root_success


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
    ],
)
def test_limits_name_what_is_out_of_range(call: Any, names: str) -> None:
    with pytest.raises(InvalidInput, match=names):
        call()
