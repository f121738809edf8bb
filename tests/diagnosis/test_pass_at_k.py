"""pass@k from n samples: its published value, unbiasedness by enumeration, and its digits."""

from __future__ import annotations

import itertools
from fractions import Fraction
from math import comb

import pytest

from reroot import InvalidInput
from reroot.diagnosis import pass_at_k


def exact(n: int, c: int, k: int) -> Fraction:
    return 1 - Fraction(comb(n - c, k), comb(n, k))


def test_the_published_value() -> None:
    assert pass_at_k(10, 3, 5) == pytest.approx(0.916667, abs=1e-6)


def test_pass_at_k_is_unbiased() -> None:
    """Σ_c Binomial(n, q)(c)·estimate = 1 − (1 − q)^k."""
    for n, q in itertools.product((1, 2, 6, 8), (0.0, 0.05, 0.3, 0.9, 1.0)):
        for k in range(1, n + 1):
            mean = sum(
                comb(n, c) * q**c * (1 - q) ** (n - c) * pass_at_k(n, c, k) for c in range(n + 1)
            )
            assert mean == pytest.approx(1 - (1 - q) ** k, abs=1e-12)


def test_it_is_the_share_of_subsets_with_a_pass() -> None:
    for n, c in ((5, 2), (6, 1), (4, 4), (4, 0)):
        passed = [True] * c + [False] * (n - c)
        for k in range(1, n + 1):
            subsets = list(itertools.combinations(passed, k))
            assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


@pytest.mark.parametrize("c", [0, 1, 7, 300, 5000, 9999, 10_000])
@pytest.mark.parametrize("k", [1, 2, 64, 1000, 9999, 10_000])
def test_it_keeps_its_digits_at_ten_thousand_samples(c: int, k: int) -> None:
    assert pass_at_k(10_000, c, k) == pytest.approx(float(exact(10_000, c, k)), rel=1e-12, abs=0)


def test_small_estimates_keep_their_digits() -> None:
    assert pass_at_k(10**9, 1, 3) == pytest.approx(3e-9, rel=1e-14, abs=0)


def test_no_pass_is_plain_zero() -> None:
    assert str(pass_at_k(4, 0, 4)) == "0.0"


@pytest.mark.parametrize(
    ("n", "c", "k", "why"),
    [
        (4, 1, 5, "k must be an integer in 1…4, got 5"),
        (4, 1, 0, "k must be"),
        (4, 5, 1, "c must be an integer in 0…4, got 5"),
        (0, 0, 1, "n must be"),
        (4, 1.0, 1, "c must be"),
    ],
)
def test_bad_counts(n: int, c: int, k: int, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        pass_at_k(n, c, k)
