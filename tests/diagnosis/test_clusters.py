"""Intervals over lines: exact where each line agrees, seen to cover otherwise, the plain ones without repeats."""

from __future__ import annotations

import math
from functools import cache
from itertools import product

import numpy as np
import pytest
from scipy import stats

from reroot.contract import Control
from reroot.diagnosis import (
    BASE_LIMIT,
    ROOT_LIMIT,
    Arm,
    Interval,
    bounded_interval,
    clopper_pearson,
    cluster_means,
    decide,
    mean_of_means,
    pass_interval,
)
from reroot.diagnosis.clusters import cluster_weights, standard_error
from reroot.errors import InvalidInput


@cache
def interval_of(shares: tuple[float, ...]) -> Interval:
    return bounded_interval(shares)


def lines(rng: np.random.Generator, count: int, rate: float, icc: float) -> np.ndarray:
    """(count,) pass probabilities of lines whose attempts correlate by ``icc``: beta laws between."""
    if icc in (0, 1):
        return np.full(count, rate) if icc == 0 else (rng.random(count) < rate).astype(float)
    total = (1 - icc) / icc
    return rng.beta(rate * total, (1 - rate) * total, count)


# ---- one attempt per line, and lines that agree ---------------------------------------------------


@pytest.mark.parametrize(("k", "n"), [(0, 6), (1, 6), (5, 24), (24, 24)])
def test_without_repeats_it_is_clopper_pearson_to_the_bit(k: int, n: int) -> None:
    passed = np.arange(n) < k
    assert pass_interval(passed, range(n)) == clopper_pearson(k, n)
    assert cluster_means(passed, range(n)).mean() == k / n


@pytest.mark.parametrize(("k", "n"), [(0, 6), (2, 6), (9, 12)])
def test_repeats_of_lines_that_agree_change_nothing(k: int, n: int) -> None:
    """Three seeds of a greedy learner; and one line repeated a hundred times."""
    passed, line = np.arange(n) < k, list(range(n))
    assert pass_interval(np.tile(passed, 3), line * 3) == clopper_pearson(k, n)
    often = [*passed, *[passed[0]] * 100]
    assert pass_interval(often, [*line, *[0] * 100]) == clopper_pearson(k, n)


def test_without_attempts() -> None:
    assert pass_interval([], []) == (0.0, 1.0)
    assert len(cluster_means([], [])) == 0
    assert standard_error([0.5]) is None


def test_means_and_weights_of_clusters() -> None:
    clusters = ["b", "a", "b", "c"]
    assert cluster_means([1.0, 2.0, 3.0, 5.0], clusters).tolist() == [2.0, 2.0, 5.0]
    assert cluster_weights(clusters).tolist() == [0.5, 1.0, 0.5, 1.0]
    assert standard_error([2.0, 2.0, 5.0]) == pytest.approx(1.0)


# ---- Gaffke's bounds -------------------------------------------------------------------------------


@pytest.mark.parametrize("shares", [[0.5], [0.2, 0.2, 0.9], [0, 1 / 3, 2 / 3, 1, 1 / 3, 1]])
def test_bounds_are_quantiles_of_dirichlet_means(shares: list[float]) -> None:
    """100,000 draws of the weights: 2.5 % of them fall beyond either bound, within 4 standard errors."""
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(len(shares) + 1), 100_000)
    low, high = bounded_interval(shares)
    error = 4 * math.sqrt(0.025 * 0.975 / 100_000)
    assert np.mean(weights @ np.append(shares, 0.0) < low) == pytest.approx(0.025, abs=error)
    assert np.mean(weights @ np.append(shares, 1.0) > high) == pytest.approx(0.025, abs=error)


def test_inversion_agrees_with_the_beta_law() -> None:
    """Numbers a hair's breadth off 0 and 1 go through the inversion, and give Clopper-Pearson."""
    for k, n in ((1, 6), (3, 6), (20, 50), (199, 400)):
        shares = np.where(np.arange(n) < k, 1.0, 1e-13)
        assert bounded_interval(shares) == pytest.approx(clopper_pearson(k, n), abs=1e-9)


def test_symmetric_and_narrower_than_lines_that_agree() -> None:
    shares = np.array([0, 1, 2, 2, 3, 1]) / 3
    low, high = bounded_interval(shares)
    assert bounded_interval(1 - shares) == pytest.approx((1 - high, 1 - low))
    whole = bounded_interval([0, 0, 1, 1, 1, 0])
    assert whole.low < low < shares.mean() == 0.5 < high < whole.high


@pytest.mark.parametrize("shares", [[0.5, 1.1], [-0.1], [math.nan]])
def test_what_is_no_share_is_refused(shares: list[float]) -> None:
    with pytest.raises(InvalidInput, match="shares"):
        bounded_interval(shares)
    with pytest.raises(InvalidInput, match="one cluster per value"):
        cluster_means(shares, [])


@pytest.mark.slow(4)
@pytest.mark.parametrize("icc", [0.0, 0.5, 1.0])
def test_coverage_of_pass_rates(icc: float, nightly: bool) -> None:
    """Each bound is wrong in at most 2.5 %: with 600 simulations 29 or more have probability 0.05 %.

    n attempts taken for independent ones miss more often with any correlation: shown beside.
    """
    draws = 4000 if nightly else 600
    most = stats.binom.isf(5e-4, draws, 0.025)
    rng = np.random.default_rng(int(10 * icc))
    for count, rate in product((6, 12), (0.2, 0.5)):
        below = above = naive = 0
        for _ in range(draws):
            k = rng.binomial(3, lines(rng, count, rate, icc))
            low, high = interval_of(tuple(np.sort(k) / 3))
            below, above = below + (low > rate), above + (high < rate)
            plain = clopper_pearson(int(k.sum()), 3 * count)
            naive += not plain.low <= rate <= plain.high
        assert below <= most
        assert above <= most
        assert icc == 0 or naive > 0.07 * draws


@pytest.mark.slow(1)
def test_coverage_of_macro_averages() -> None:
    """Two data sets of 6 and 40 lines: 95 % intervals, 2,000 simulations; 80 misses are 4 %."""
    rng, missed = np.random.default_rng(4), 0
    for _ in range(2000):
        k = rng.binomial(6, 0.3), rng.binomial(40, 0.8)
        rates = [k[0] / 6, k[1] / 40]
        mean, (low, high) = mean_of_means(
            rates, [clopper_pearson(k[0], 6), clopper_pearson(k[1], 40)]
        )
        assert mean == pytest.approx(sum(rates) / 2)
        missed += not low <= 0.55 <= high
    assert missed <= 80


# ---- verdicts --------------------------------------------------------------------------------------


def arm(name: str, control: Control, passed: np.ndarray, clusters: list[int] | None) -> Arm:
    return Arm(name, control, passed, clusters=clusters)


def test_a_verdict_on_repeats_is_that_of_the_lines() -> None:
    """Gain, kind and plan on 12 lines, each once, and with five attempts that agree."""
    root, walk = np.arange(12) < 1, np.arange(12) < 5
    once = decide([arm("a", Control.ROOT, root, None), arm("b", Control.RESET, walk, None)])
    line = list(range(12)) * 5
    many = [np.tile(x, 5) for x in (root, walk)]
    same = decide([arm("a", Control.ROOT, many[0], line), arm("b", Control.RESET, many[1], line)])
    apart = decide([arm("a", Control.ROOT, many[0], None), arm("b", Control.RESET, many[1], None)])
    assert same.gain == pytest.approx(once.gain, abs=1e-12)
    assert (same.kind, same.attempts_needed) == (once.kind, once.attempts_needed)
    assert (same.attempts, same.clusters) == (60, 12)
    assert apart.kind == ROOT_LIMIT != same.kind
    assert "about" in same.notes[0]
    assert "lines per learner would decide (now 12)" in same.notes[0]
    assert "passes 25 of 60 (42 %, 95 % interval 15–72 over 12 lines)" in same.sentences[0]


def test_ranges_as_clusters_are_the_plain_verdict_to_the_bit() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        a, b = rng.random(30) < 0.3, rng.random(30) < 0.6
        plain = decide([arm("a", Control.ROOT, a, None), arm("b", Control.RESET, b, None)])
        told = [arm("a", Control.ROOT, a, list(range(30))), arm("b", Control.RESET, b, list(range(30)))]  # fmt: skip
        assert decide(told).to_dict() == plain.to_dict()


def test_all_lines_pass_whatever_thirds_add_up_to() -> None:
    """49 lines three times: the sum of 147 thirds rounds above 49."""
    line = sorted([*range(49)] * 3)
    both = [arm(n, c, np.ones(147, bool), line) for n, c in (("a", Control.ROOT), ("b", Control.RESET))]  # fmt: skip
    assert decide(both, exact_root=0.5).gain is not None


@pytest.mark.slow(6)
@pytest.mark.parametrize("icc", [0.0, 0.5, 1.0])
def test_false_claims_on_lines(icc: float) -> None:
    """Equally good learners, 4 attempts on each of 12 lines: "root limit" and "base limit" are false.

    Each at most 2.5 %: of 400 simulations 22 or more have probability 0.06 % each. The learners share
    their lines' difficulty only in the mean, so that their differences correlate on a line.
    """
    rng, gain, base = np.random.default_rng(20 + int(2 * icc)), 0, 0
    line = [i for i in range(12) for _ in range(4)]
    for _ in range(400):
        arms = [
            Arm(f"{c}{i}", c, rng.random(48) < lines(rng, 12, 0.5, icc).repeat(4), clusters=line)
            for c in (Control.ROOT, Control.RESET)
            for i in range(2)
        ]
        verdict = decide(arms, margin=1.0)
        gain += verdict.gain is not None and verdict.gain.low > 0
        base += verdict.kind == BASE_LIMIT
    assert gain < 22
    assert base < 22


def test_a_learner_that_is_mostly_not_judged_is_left_out() -> None:
    passed = np.ones(20, bool)
    arms = [
        Arm("a", Control.ROOT, ~passed),
        Arm("b", Control.RESET, passed, abstained=3),
        Arm("c", Control.RESET, passed, abstained=2),
    ]
    verdict = decide(arms)
    assert verdict.prefix == "c"
    assert "Left out: b, as the judge abstains on 3 of its attempts." in verdict.notes


def test_macro_average_in_closed_form() -> None:
    """Distances 0.3 and 0.4 below, 0.1 and 0 above: half of 0.5 and of 0.1."""
    mean, around = mean_of_means([0.5, 0.9], [(0.2, 0.6), (0.5, 0.9)])
    assert mean == pytest.approx(0.7)
    assert around == pytest.approx((0.45, 0.75))
