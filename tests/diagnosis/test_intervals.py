"""Intervals and exact laws against closed forms, enumeration and seeded simulation."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from reroot.diagnosis import intervals as iv
from reroot.errors import InvalidInput


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (1, 1), (250, 1000)])
def test_clopper_pearson_solves_the_tail_equations(k: int, n: int) -> None:
    low, high = iv.clopper_pearson(k, n, 0.95)
    assert low == 0 if k == 0 else stats.binom.sf(k - 1, n, low) == pytest.approx(0.025, rel=1e-9)
    assert high == 1 if k == n else stats.binom.cdf(k, n, high) == pytest.approx(0.025, rel=1e-9)


def test_clopper_pearson_closed_forms() -> None:
    assert iv.clopper_pearson(0, 24).high == pytest.approx(1 - 0.025 ** (1 / 24))
    assert iv.clopper_pearson(24, 24).low == pytest.approx(0.025 ** (1 / 24))
    assert iv.clopper_pearson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("n", [1, 5, 24])
def test_clopper_pearson_covers_at_every_p(n: int) -> None:
    """Exact coverage by enumeration over k: never below 95 %."""
    for p in np.linspace(0.01, 0.99, 49):
        covered = [iv.clopper_pearson(k, n).low <= p <= iv.clopper_pearson(k, n).high for k in range(n + 1)]  # fmt: skip
        assert stats.binom.pmf(np.arange(n + 1), n, p)[covered].sum() >= 0.95 - 1e-12


def trinomial(n: int, win: float, loss: float) -> dict[tuple[int, int], float]:
    """The exact law of (wins, losses) among n paired attempts."""
    return {
        (w, x): float(stats.multinomial.pmf([w, x, n - w - x], n, [win, loss, 1 - win - loss]))
        for w in range(n + 1)
        for x in range(n + 1 - w)
    }


@pytest.mark.parametrize("n", [4, 12])
@pytest.mark.parametrize(
    ("win", "loss"), [(0.1, 0.1), (0.45, 0.45), (0.3, 0.05), (0.0, 0.02), (0.9, 0.05), (0.2, 0.6)]
)
def test_paired_difference_covers_exactly(n: int, win: float, loss: float) -> None:
    """Both one-sided error probabilities, enumerated over all outcomes, stay at most 5 %."""
    law = trinomial(n, win, loss)
    too_high = too_low = 0.0
    for (w, x), mass in law.items():
        low, high = iv.paired_difference(w, x, n, alpha_low=0.05, alpha_high=0.05)
        too_high += mass * (low > win - loss + 1e-12)
        too_low += mass * (high < win - loss - 1e-12)
    assert too_high <= 0.05
    assert too_low <= 0.05


def test_paired_difference_decides_like_mcnemar() -> None:
    """The lower bound is positive exactly when the exact one-sided test rejects at 3α/4."""
    for w, x in itertools.product(range(13), range(13)):
        low, _ = iv.paired_difference(w, x, 40, alpha_low=0.05, alpha_high=0.05)
        p_value = stats.binom.sf(w - 1, w + x, 0.5) if w + x else 1.0
        assert (low > 0) == (p_value < 0.0375), (w, x)


def test_scaled_counts_of_learners_that_never_agree_are_bounded() -> None:
    """Counts scaled to plan ahead round: wins + losses may lie one ulp above the attempts."""
    factors = np.exp(np.linspace(0.01, 12.0, 200))[:, None]
    wins = np.arange(1.0, 13.0)
    rounded_up = 0
    for n in (6, 12, 24, 25):
        f, won = factors, wins[wins <= n]
        rounded_up += int((f * won + f * (n - won) > f * n).sum())
        low, high = iv.paired_difference(
            f * won, f * (n - won), f * n, alpha_low=0.01, alpha_high=0.01
        )
        assert np.isfinite(low).all()
        assert np.isfinite(high).all()
        gain = np.broadcast_to((2 * won - n) / n, low.shape)
        assert (low <= gain + 1e-9).all()
        assert (high >= gain - 1e-9).all()
        # all attempts are discordant, so the probability of that is bounded by α/4 at n of n
        p = iv.lower_bound(f * won, f * n, 0.0075)
        many = iv.lower_bound(f * n, f * n, 0.0025)
        lead = 2 * p - 1
        np.testing.assert_allclose(low, lead * np.where(lead > 0, many, 1.0), rtol=1e-6, atol=1e-9)
    assert rounded_up > 0
    with pytest.raises(InvalidInput, match="discordant"):
        iv.paired_difference(5.0, 1.00001, 6.0, alpha_low=0.01, alpha_high=0.01)


def test_paired_difference_is_antisymmetric_and_bounded() -> None:
    low, high = iv.paired_difference([24, 3, 0], [0, 5, 0], 24, alpha_low=0.01, alpha_high=0.02)
    back_low, back_high = iv.paired_difference([0, 5, 0], [24, 3, 0], 24, alpha_low=0.02, alpha_high=0.01)  # fmt: skip
    assert np.allclose(low, -back_high)
    assert np.allclose(high, -back_low)
    assert (low >= -1).all()
    assert (high <= 1).all()
    assert (low <= np.array([24, -2, 0]) / 24).all()
    assert (high >= np.array([24, -2, 0]) / 24).all()


def test_best_of_n_against_exact_fractions() -> None:
    for p, n in [(0.5, 3), (0.1, 1), (0.3, 40), (1e-3, 1000), (1.0, 2), (0.25, 0)]:
        exact = float(1 - (1 - Fraction(p)) ** n)
        assert float(iv.best_of_n(math.log(p), n)) == pytest.approx(exact, rel=1e-13, abs=0)


@pytest.mark.parametrize(
    ("log10_p", "log10_n", "expected"),
    [
        (-300, 30, 1e-270),
        (-30, 30, -math.expm1(-1.0)),
        (-25, 30, 1.0),
        (-16, 4, 1e-12),
        (-17, 17, -math.expm1(-1.0)),  # 1 - p rounds to 1 here
    ],
)
def test_best_of_n_far_from_the_range_of_doubles(
    log10_p: float, log10_n: float, expected: float
) -> None:
    got = float(iv.best_of_n(log10_p * math.log(10), 10.0**log10_n))
    assert got == pytest.approx(expected, rel=1e-11, abs=0)


def test_log_best_of_n_beyond_doubles() -> None:
    """p = e^-9000 (horizon 10^4) and N = 10^30: log success = log p + log N."""
    log_n = 30 * math.log(10)
    assert float(iv.log_best_of_n(-9000.0, log_n)) == pytest.approx(-9000 + log_n, rel=1e-14)
    assert float(iv.log_best_of_n(-9000.0, 9000.0)) == pytest.approx(math.log(-math.expm1(-1.0)))
    assert float(iv.log_best_of_n(-np.inf, 5.0)) == -np.inf
    assert float(iv.log_best_of_n(-2.0, -np.inf)) == -np.inf
    assert float(iv.log_best_of_n(0.0, 0.0)) == 0.0


def test_poisson_binomial_against_enumeration() -> None:
    ps = [0.1, 0.5, 0.9, 1.0, 0.0, 0.3]
    law = np.zeros(len(ps) + 1)
    for outcome in itertools.product([0, 1], repeat=len(ps)):
        law[sum(outcome)] += math.prod(p if x else 1 - p for p, x in zip(ps, outcome, strict=True))
    assert np.abs(iv.poisson_binomial(ps) - law).max() < 1e-15
    assert np.allclose(iv.poisson_binomial([0.2] * 30), stats.binom.pmf(np.arange(31), 30, 0.2))


def test_count_band_is_the_tightest_with_both_tails() -> None:
    for p, n in [(0.0, 8), (1.0, 8), (0.3, 24), (0.02, 24), (0.5, 200)]:
        low, high = iv.count_band([p] * n)
        law = stats.binom(n, p)
        assert law.cdf(low - 1) <= 0.025 < law.cdf(low) + 1e-15
        assert law.sf(high) <= 0.025 < law.sf(high - 1) + 1e-15


def test_bootstrap_means_are_paired_and_clustered() -> None:
    values = np.array([[1.0, 3.0], [2.0, 4.0], [5.0, 7.0], [0.0, 2.0]])
    rng = np.random.default_rng(1)
    means = iv.bootstrap_means(values, ["a", "a", "b", "c"], rng=rng, draws=500)
    assert np.allclose(means[:, 1] - means[:, 0], 2.0)  # the same resample for both columns
    sums, sizes = {"a": 3.0, "b": 5.0, "c": 0.0}, {"a": 2, "b": 1, "c": 1}
    reachable = {
        sum(sums[c] for c in draw) / sum(sizes[c] for c in draw)
        for draw in itertools.product("abc", repeat=3)
    }
    got = means[:, 0]
    assert all(min(abs(m - r) for r in reachable) < 1e-12 for m in got)
    assert len(set(np.round(got, 9))) == len(set(np.round(list(reachable), 9)))


@pytest.mark.slow(1)
def test_bootstrap_interval_coverage() -> None:
    """1,500 simulated sets of 12 problems x 2 seeds with a shared problem effect.

    Skewed problem effects (exponential), so the 95 % interval covers a little less: the measured
    coverage must lie in [0.90, 0.97]; its standard error is 0.6 points.
    """
    rng = np.random.default_rng(7)
    clusters = [i // 2 for i in range(24)]
    covered = 0
    for _ in range(1500):
        effect = rng.exponential(1.0, 12).repeat(2) + rng.normal(0, 0.5, 24)
        low, high = iv.bootstrap_interval(effect, clusters, rng=rng, draws=300)
        covered += low <= 1.0 <= high
    assert 0.90 <= covered / 1500 <= 0.97


def test_bootstrap_ignoring_clusters_would_undercover() -> None:
    """The same data with every attempt as its own problem gives clearly shorter intervals."""
    rng = np.random.default_rng(3)
    effect = rng.normal(0, 1, 20).repeat(4)
    together = iv.bootstrap_interval(effect, [i // 4 for i in range(80)], rng=rng)
    apart = iv.bootstrap_interval(effect, list(range(80)), rng=rng)
    assert apart.high - apart.low < 0.65 * (together.high - together.low)


def test_bootstrap_needs_two_problems() -> None:
    low, high = iv.bootstrap_interval([1.0, 2.0], ["a", "a"], rng=np.random.default_rng(0))
    assert math.isnan(low)
    assert math.isnan(high)


@pytest.mark.parametrize(
    "call",
    [
        lambda: iv.clopper_pearson(3, 2),
        lambda: iv.lower_bound(1, 2, 0.0),
        lambda: iv.best_of_n(0.1, 3),
        lambda: iv.best_of_n(-1.0, -1),
        lambda: iv.best_of_n(math.nan, 1),
        lambda: iv.poisson_binomial([0.5, 1.2]),
        lambda: iv.bootstrap_means([], [], rng=np.random.default_rng(0)),
        lambda: iv.bootstrap_means([math.nan], ["a"], rng=np.random.default_rng(0)),
        lambda: iv.paired_difference(3, 3, 5, alpha_low=0.1, alpha_high=0.1),
        lambda: iv.paired_difference(3, -1, 5, alpha_low=0.1, alpha_high=0.1),
    ],
)
def test_bad_input_is_refused(call) -> None:
    with pytest.raises(InvalidInput):
        call()
