"""The law of the first step with signal: enumeration over orders, and calibration of the forecast."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from reroot.diagnosis import Posterior, Reach, first_signal, poisson_binomial, posterior
from reroot.diagnosis.first_signal import _Counted, _Prior
from reroot.errors import InvalidInput


@pytest.mark.parametrize("per_step", [1, 2, 3])
def test_the_law_is_that_of_all_orders(per_step: int) -> None:
    x = [0.9, 0.2, 0.7, 1.0, 0.5]
    law = first_signal(np.array([x]), per_step)
    steps = -(-len(x) // per_step)
    orders = list(itertools.permutations(x))
    for t in range(2 * steps + 1):
        epochs, j = divmod(t, steps)
        within = np.mean([np.prod(order[: j * per_step]) for order in orders])
        assert law.survival(t) == pytest.approx(np.prod(x) ** epochs * within, rel=1e-12)


def test_equal_problems_wait_geometrically() -> None:
    law = first_signal(np.full((3, 12), 0.97), 4)
    t = np.arange(40)
    assert law.survival(t) == pytest.approx(0.97 ** (4 * t), rel=1e-10)
    q = law.quantile(0.5)
    assert q is not None
    assert law.survival(q) <= 0.5 < law.survival(q - 1)


def test_where_nothing_passes_it_waits_for_ever() -> None:
    law = first_signal(np.ones((2, 5)), 2)
    assert law.survival([0, 10**9]) == pytest.approx([1, 1])
    assert law.quantile(0.1) is None


@pytest.mark.parametrize("n", [4, 16])
def test_the_prior_gives_the_counts_a_law(n: int) -> None:
    prior = _Prior.draw(np.random.default_rng(0), 50)
    total = sum(prior.joint(_Counted(c, n)).sum(axis=1) for c in range(n + 1))
    assert total == pytest.approx(
        np.ones(50), rel=2e-2
    )  # the trapezoid rule at 40 points per factor 10


def _population(rng: np.random.Generator, name: str, count: int) -> np.ndarray:
    if name == "mixed":
        return np.choose(
            rng.integers(4, size=count),
            [np.zeros(count), np.ones(count), rng.random(count), 10 ** rng.uniform(-4, 0, count)],
        )
    return 10 ** rng.uniform(-3, -0.5, count)


@pytest.mark.slow(20)
@pytest.mark.parametrize("name", ["mixed", "small"])
def test_the_forecast_is_calibrated(name: str) -> None:
    """Probability integral transform of T in 80 runs: Kolmogorov-Smirnov at level 1e-3."""
    rng = np.random.default_rng(3)
    group, per_step, problems = 8, 2, 40
    ranks, inside = [], 0
    for _ in range(80):
        p = _population(rng, name, problems)
        found = posterior(rng.binomial(16, p), 16, rng, draws=200)
        law = first_signal(found.silent(group), per_step)
        x = (1 - p) ** group + p**group
        t, order = 0, rng.permutation(problems)
        while True:
            t += 1
            at = order[(t - 1) % 20 * per_step :][:per_step]
            if (rng.random(len(at)) >= x[at]).any():
                break
            if t % 20 == 0:
                order = rng.permutation(problems)
        before, after = 1 - law.survival([t - 1, t])
        ranks.append(before + rng.random() * (after - before))
        low, high = found.share(group, 60, rng)
        picked = x[np.concatenate([rng.permutation(problems), rng.permutation(problems)[:20]])]
        inside += low <= (rng.random(60) < picked).mean() <= high
    assert stats.kstest(ranks, "uniform").pvalue > 1e-3
    assert inside >= 68  # of 80 at 95 %: fewer has probability below 1e-3


def test_a_share_is_predicted_by_its_law() -> None:
    """Known rates: in an epoch each problem has one group, so the count is a Poisson binomial."""
    rng = np.random.default_rng(0)
    p = np.array([1e-9, 0.1, 0.5, 1.0, 0.02, 0.3])
    found = Posterior(np.tile(p, (20_000, 1)))
    x = found.silent(8)[0]
    law = poisson_binomial(x)
    low, high = found.share(8, 6, rng)
    assert law[: round(6 * low)].sum() <= 0.025 + 0.005
    assert law[: round(6 * low) + 1].sum() >= 0.025 - 0.005
    assert law[: round(6 * high) + 1].sum() >= 0.975 - 0.005
    assert found.share(8, 600, rng).high - found.share(8, 600, rng).low < (high - low) / 4


def test_others_vary_more_than_these() -> None:
    rng = np.random.default_rng(0)
    found = posterior([0] * 8 + [9] * 8, 16, rng)
    these, others = found.share(8, 16, rng), found.share_of_others(8, 16, rng)
    assert others.high - others.low > these.high - these.low
    silent = posterior([0] * 8, 16, rng)
    assert silent.share_of_others(8, 64, rng).low < silent.share(8, 64, rng).low


@pytest.mark.slow(12)
def test_shares_of_other_problems_cover() -> None:
    """40 populations of which 24 problems are seen: below 34 of 40 has probability below 1e-2 at 95 %."""
    rng = np.random.default_rng(11)
    inside = 0
    for _ in range(40):
        p, q = (_population(rng, "small", n) for n in (24, 64))
        passed = rng.binomial(16, p)
        known = {i: Reach(np.log(p[i]), 0.0) for i in np.flatnonzero(passed == 0)}
        found = posterior(passed, 16, rng, draws=200, reach=known)
        low, high = found.share_of_others(8, 64, rng)
        inside += low <= (rng.random(64) < (1 - q) ** 8 + q**8).mean() <= high
    assert inside >= 34


def test_a_measured_reach_tells_of_the_prior() -> None:
    """Small rates that were measured make small rates of others likelier than silence alone does."""
    rng = np.random.default_rng(2)
    counts = posterior([0] * 6, 16, rng, draws=2000).unseen
    known = {i: Reach(np.log(1e-6), 0.1) for i in range(6)}
    told = posterior([0] * 6, 16, rng, draws=2000, reach=known).unseen
    assert counts is not None
    assert told is not None
    assert (told == 0).mean() < 0.2 < (counts == 0).mean()


def test_a_measured_reach_takes_the_place_of_counts() -> None:
    rng = np.random.default_rng(1)
    found = posterior([0, 8], 8, rng, draws=2000, reach={0: Reach(np.log(1e-9), 0.3)})
    assert np.log(found.p[:, 0]).mean() == pytest.approx(np.log(1e-9), abs=0.05)
    assert found.p[:, 1].mean() > 0.8
    with pytest.raises(InvalidInput, match="of problems 0 to 1"):
        posterior([0, 8], 8, rng, reach={2: Reach(0.0, 1.0)})


def test_silence_keeps_small_probabilities() -> None:
    p = np.array([[0.0, 1.0, 1e-15, 0.5]])
    assert Posterior(p).silent(8)[0] == pytest.approx([1, 1, 1 - 8e-15, 2 * 0.5**8], rel=1e-15)


def test_what_is_out_of_range_is_refused() -> None:
    with pytest.raises(InvalidInput):
        first_signal(np.array([[1.2]]), 1)
    with pytest.raises(InvalidInput):
        first_signal(np.ones((2, 3)), 0)
