"""Log-probabilities and draws from draws: exact laws where they can be enumerated, else by counts.

Statistical tests have fixed seeds; each would fail for a right reduction with probability 1e-4 at most.
"""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import optimize, stats

from reroot.diagnosis import clopper_pearson
from reroot.errors import BackendError
from reroot.generators import Tabular
from reroot.generators.lifted import Bias, Held, LogitServer, Narrowed
from reroot.generators.lifted.by_draws import (
    law_by_biased_counts,
    law_by_collecting,
    law_by_counts,
    list_by_collecting,
    logprob_by_counts,
    logprob_by_hits,
    logprobs_by_bias,
    logprobs_by_search,
)
from reroot.generators.lifted.certificates import truncation_diameter
from reroot.generators.lifted.tempering import (
    draw_kept,
    draw_retempered,
    draws_expected,
    flat_tail,
    list_diameter,
    list_radius,
    normalizer_interval,
    power_coin,
    retempered,
)
from reroot.types import FloatArray

P = np.array([0.35, 0.25, 0.2, 0.12, 0.08])


def held(p: FloatArray, serves: str, bias: Bias | None = None, seed: int = 0) -> Held:
    tree = Tabular([p])
    server = Narrowed(tree, serves) if bias is None else LogitServer(tree, serves, bias)
    return Held(server, seed)


def collected(p: FloatArray, done: object) -> float:
    """E of the draws until the set of seen tokens is ``done``, by recursion over sets."""
    K = len(p)
    expected: dict[frozenset[int], float] = {}
    for size in range(K, -1, -1):
        for seen in map(frozenset, itertools.combinations(range(K), size)):
            if done(seen):  # type: ignore[operator]
                expected[seen] = 0.0
                continue
            new = [a for a in range(K) if a not in seen]
            mass = float(p[new].sum())
            after = sum(p[a] * expected[seen | {a}] for a in new)
            expected[seen] = (1.0 + after) / mass
    return expected[frozenset()]


def until_certain(p: FloatArray, k: int) -> float:
    def done(seen: frozenset[int]) -> bool:
        values = sorted((p[a] for a in seen), reverse=True)
        return len(values) >= k and values[k - 1] >= 1 - sum(values) - 1e-12

    return collected(p, done)


# ---- log-probabilities -------------------------------------------------------------------------------


def test_lists_and_laws_by_collecting_are_exact() -> None:
    for seed in range(20):
        one = held(P, "chosen/logprob", seed=seed)
        assert np.abs(law_by_collecting(one.at()) - np.log(P)).max() <= 1e-12
        ids, values = list_by_collecting(one.at(stream=(1, 0)), 3)
        assert ids == [0, 1, 2]
        assert np.abs(values - np.log(P[:3])).max() <= 1e-12


def test_the_price_of_collecting() -> None:
    """Expected draws by recursion over sets; measured means in their band of 4.5 standard errors."""
    exact = [until_certain(P, k) for k in (1, 2, 3)]
    assert exact == pytest.approx([5.10, 6.76, 7.40], abs=0.005)
    full = collected(P, lambda seen: len(seen) >= 4)
    assert full == pytest.approx(7.88, abs=0.005)
    K = 6
    uniform = collected(np.full(K, 1 / K), lambda seen: len(seen) >= K - 1)
    assert uniform == pytest.approx(K * (sum(1 / i for i in range(1, K + 1)) - 1))
    used: list[int] = []
    for seed in range(120):
        one = held(P, "chosen/logprob", seed=seed)
        list_by_collecting(one.at(), 2)
        used.append(one.used.draws)
    assert abs(np.mean(used) - exact[1]) <= 4.5 * np.std(used) / math.sqrt(len(used))


def test_hits_are_unbiased_at_their_price() -> None:
    token, r, found, used = 2, 12, [], []
    for seed in range(100):
        one = held(P, "chosen/sample", seed=seed)
        found.append(math.exp(logprob_by_hits(one.at(), token, r).log_estimate))
        used.append(one.used.draws)
    p = P[token]
    for values, mean in ((found, p), (used, r / p)):
        assert abs(np.mean(values) - mean) <= 4.5 * np.std(values) / math.sqrt(len(values))
    assert np.std(found) / p == pytest.approx(1 / math.sqrt(r - 2), rel=0.25)


def test_intervals_of_counts_cover() -> None:
    """Exactly: Clopper-Pearson at N = 200 covers with probability .9503 or more."""
    N = 200
    intervals = [clopper_pearson(k, N) for k in range(N + 1)]
    least = 1.0
    for p in np.linspace(0.005, 0.995, 199):
        inside = [k for k, (low, high) in enumerate(intervals) if low <= p <= high]
        least = min(least, float(stats.binom.pmf(inside, N, p).sum()))
    assert least >= 0.95
    counted = logprob_by_counts(held(P, "chosen/sample").at(), 0, N)
    low, high = clopper_pearson(counted.hits, counted.draws)
    assert low <= P[0] <= high


def test_a_bias_to_one_half_makes_rare_tokens_as_cheap_as_any() -> None:
    """Root mean square error 2/√n at q = 1/2, whatever p: exactly, and measured on one token."""
    p, n = 1e-6, 1537
    k = np.arange(1, n)
    estimate = np.log(k / (n - k))  # logit q̂ at q = 1/2; β takes p away exactly
    rmse = math.sqrt(float(stats.binom.pmf(k, n, 0.5) @ estimate**2))
    assert rmse == pytest.approx(2 / math.sqrt(n), rel=2e-3)
    beta = math.log((1 - p) / p)
    one = held(np.array([1 - p, p]), "chosen/sample", Bias(1, 20.0))
    found = logprobs_by_bias(one.at(), {1: beta}, n)[1]
    assert abs(found - math.log(p)) <= 4 * rmse
    assert one.used.calls == 1


def test_biases_are_found_and_many_tokens_share_draws() -> None:
    p = np.array([0.9, 0.09, 0.0099, 1e-4 - 1e-8, 1e-8])
    one = held(p, "chosen/sample", Bias(4, 30.0))
    found = logprobs_by_search(one.at(), np.arange(1, 5), 500)
    error = np.abs([found[i] - math.log(p[i]) for i in range(1, 5)])
    sd = (1 + 2) / math.sqrt(4 * 500) * 2  # tuned biases may be off by a factor e^0.7
    assert error.max() <= 4 * sd
    law = law_by_biased_counts(held(p, "chosen/sample", Bias(2, 30.0), seed=1).at(), 400)
    assert np.abs(law - np.log(p)).max() <= 0.5
    with pytest.raises(BackendError, match="no biases"):
        logprobs_by_search(held(p, "chosen/sample", Bias(1, 3.0)).at(), np.array([4]), 50)


def test_frequencies_have_the_stated_total_variation() -> None:
    """Exact mean for K = 500 even tokens at N = 20000: .06288; first order .06302."""
    K, N = 500, 20_000
    k = np.arange(N + 1)
    mean = 0.5 * K * float(stats.binom.pmf(k, N, 1 / K) @ np.abs(k / N - 1 / K))
    assert mean == pytest.approx(0.06288, abs=5e-5)
    assert math.sqrt((K - 1) / (2 * math.pi * N)) == pytest.approx(0.06302, abs=5e-6)
    law = law_by_counts(held(np.full(K, 1 / K), "chosen/sample").at(), N)
    assert 0.5 * np.abs(np.exp(law) - 1 / K).sum() == pytest.approx(mean, abs=0.006)


# ---- temperature -------------------------------------------------------------------------------------


@pytest.mark.parametrize("tau", [2.0, 3.0, 1.5, 2.4, 0.6])
def test_draws_at_another_temperature_follow_the_law(tau: float) -> None:
    """Chi-squared at error 1e-4; the mean of the draws in its band of 4.5 standard errors."""
    x = np.array([0.5, 0.3, 0.15, 0.05])
    wanted = x**tau / (x**tau).sum()
    one = held(x, "chosen/sample")
    rng = np.random.default_rng(0)
    tokens, used = [], []
    place = one.at()
    for _ in range(400):
        before = one.used.draws
        tokens.append(draw_retempered(place, tau, rng))
        used.append(one.used.draws - before)
    counts = np.bincount(tokens, minlength=4)
    assert stats.chisquare(counts, 400 * wanted).pvalue > 1e-4
    price = draws_expected(np.log(x), tau)
    assert abs(np.mean(used) - price) <= 4.5 * np.std(used) / math.sqrt(len(used))


class _Misses:
    """A place and coins that never stop a factory, and write its stopping probabilities down."""

    def __init__(self, rounds: int) -> None:
        self.held, self.stops = SimpleNamespace(most=rounds), list[float]()

    def token(self) -> int:
        return -1

    def random(self) -> _Misses:
        return self

    def __lt__(self, probability: float) -> bool:
        self.stops.append(probability)
        return False


def test_the_factory_is_the_power() -> None:
    """x^a by the stopping probabilities that ``power_coin`` uses, with x^(a-1) expected flips."""
    for x, a in itertools.product((0.05, 0.3, 0.9), (0.1, 0.5, 0.8)):
        misses = _Misses(3000)
        with pytest.raises(BackendError):
            power_coin(misses, 0, a, misses)  # type: ignore[arg-type]
        reach, heads, flips = 1.0, 0.0, 0.0
        for stop in misses.stops:
            flips += reach
            heads += reach * x
            reach *= (1 - x) * (1 - stop)
        assert heads == pytest.approx(x**a, abs=1e-12)
        assert flips == pytest.approx(x ** (a - 1), abs=1e-9)


def test_prices_of_other_temperatures() -> None:
    x = np.array([0.5, 0.3, 0.15, 0.05])
    assert draws_expected(np.log(x), 2.0) == pytest.approx(2 / (x**2).sum())
    assert draws_expected(np.log(x), 1.5) == pytest.approx((1 + (x**0.5).sum()) / (x**1.5).sum())
    assert draws_expected(np.log(x), 0.5) == pytest.approx((x**-0.5).sum() / (x**0.5).sum())


def test_laws_at_another_temperature_are_free() -> None:
    p = np.log(P)
    cool = retempered(p, 1 / 1.7)
    assert np.abs(np.exp(retempered(cool, 1.7)) - P).max() <= 1e-15
    eta, tau = 1e-3, 2.0  # an error of the reports, and what it does at worst
    share = 1 / (1 + math.exp(tau * eta))
    x = retempered(np.log([share, 1 - share]), 1 / tau)
    moved = retempered(x + np.array([eta, -eta]), tau)
    distance = 0.5 * np.abs(np.exp(moved) - [share, 1 - share]).sum()
    assert distance == pytest.approx(math.tanh(tau * eta / 2), rel=1e-9)


def test_kept_tokens_by_rejection() -> None:
    one = held(P, "chosen/sample")
    place = one.at()
    tokens = [draw_kept(place, (0, 1, 2)) for _ in range(400)]
    assert stats.chisquare(np.bincount(tokens, minlength=3), 400 * P[:3] / 0.8).pvalue > 1e-4
    assert abs(one.used.draws / 400 - 1 / 0.8) <= 4.5 * math.sqrt(0.2) / 0.8 / 20


# ---- what lists leave open ---------------------------------------------------------------------------


def test_what_a_list_leaves_open_by_linear_programs() -> None:
    """Diameter and radius of the capped simplex against linear programs, and the serve that attains it."""
    rng = np.random.default_rng(1)
    for _ in range(5):
        K, k = int(rng.integers(4, 9)), int(rng.integers(1, 4))
        p = np.sort(rng.dirichlet(np.ones(K)))[::-1]
        n, m, c = K - k, float(p[k:].sum()), float(p[k - 1])
        # max Σ_{i in A}(q - q'): for each size of A a program with two tails
        best = 0.0
        for size in range(1, n):
            gain = np.kron([1.0, -1.0], np.arange(n) < size)
            equal = np.kron(np.eye(2), np.ones(n))
            program = optimize.linprog(-gain, A_eq=equal, b_eq=[m, m], bounds=(0, c))
            best = max(best, -program.fun)
        assert list_diameter(np.log(p[:k]), K) == pytest.approx(best, abs=1e-9)
        flat = m / n
        worst = 0.0
        for size in range(1, n + 1):
            gain = (np.arange(n) < size).astype(float)
            program = optimize.linprog(-gain, A_eq=np.ones((1, n)), b_eq=[m], bounds=(0, c))
            worst = max(worst, -program.fun - size * flat)
        assert list_radius(np.log(p[:k]), K) == pytest.approx(worst, abs=1e-9)
        served = np.exp(flat_tail(list(range(k)), np.log(p[:k]), K))
        assert served == pytest.approx([*p[:k], *[flat] * n])


def test_published_values_of_lists() -> None:
    assert list_diameter(np.log([0.95 - 19e-3, *[1e-3] * 19]), 49152) == pytest.approx(0.05)
    assert truncation_diameter(1e-3, 49152, 20) == pytest.approx(0.980, abs=5e-4)
    widths = []
    for tau in (0.7, 1.5, 2.0):
        low, high = normalizer_interval(np.log([0.5, 0.2, 0.1]), 49152, tau)
        widths.append(high - low)
    assert widths == pytest.approx([1.81, 0.124, 0.065], abs=0.005)


def test_the_normalizer_lies_in_its_interval() -> None:
    rng = np.random.default_rng(2)
    for tau in (0.7, 1.5, 2.0):
        for _ in range(50):
            x = np.sort(rng.dirichlet(np.ones(7)))[::-1]
            low, high = normalizer_interval(np.log(x[:3]), 7, tau)
            assert low - 1e-12 <= math.log((x**tau).sum()) <= high + 1e-12
