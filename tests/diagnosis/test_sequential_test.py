"""Group-sequential binomial tests: exact sizes, by another count of the same paths."""

from __future__ import annotations

import math

import numpy as np
import pytest

from reroot.diagnosis import SequentialTest, sequential_test, signal_threshold
from reroot.errors import InvalidInput


def chances(test: SequentialTest, p: float) -> tuple[float, float]:
    """(Pr(claims above), Pr(claims below)) at pass rate ``p``, stopping at the first claim."""
    step = int(test.looks[0])
    law, above, below = {0: 1.0}, 0.0, 0.0
    for n in test.looks.tolist():
        after: dict[int, float] = {}
        for count, mass in law.items():
            for k in range(step + 1):
                more = mass * math.comb(step, k) * p**k * (1 - p) ** (step - k)
                after[count + k] = after.get(count + k, 0.0) + more
        law = {}
        for count, mass in after.items():
            claim = test.decide(count, n)
            above += mass * (claim is True)
            below += mass * (claim is False)
            if claim is None:
                law[count] = mass
    return above, below


@pytest.mark.parametrize("group", [4, 8, 16])
def test_false_claims_have_at_most_their_probability(group: int) -> None:
    tau = signal_threshold(group)
    test = sequential_test(tau, most=math.ceil(10.6 / tau))
    for p in (tau, tau / 2, tau / 5, 1e-4):
        assert chances(test, p)[0] <= test.sizes[0] + 1e-12 <= 0.025 + 1e-12
    for p in (tau, 1.5 * tau, min(0.9, 4 * tau)):
        assert chances(test, p)[1] <= test.sizes[1] + 1e-12 <= 0.025 + 1e-12
    assert min(test.sizes) >= 0.02  # little is given away
    assert chances(test, 3 * tau)[0] >= 0.95
    assert chances(test, tau / 10)[1] >= 0.95


def test_its_length_and_when_silence_is_shown() -> None:
    """128 rollouts at G = 8; without a pass 56, 104 and 392 at G = 8, 16, 64."""
    for group, silent in ((8, 56), (16, 104), (64, 392)):
        tau = signal_threshold(group)
        test = sequential_test(tau, most=math.ceil(10.6 / tau))
        if group == 8:
            assert test.looks[-1] == 128
        assert next(n for n in test.looks.tolist() if test.decide(0, n) is False) == silent


def test_boundaries_nest() -> None:
    test = sequential_test(0.3, most=100, every=5)
    assert (np.diff(test.upper) >= 0).all()
    assert (np.diff(test.lower) >= 0).all()
    assert (test.lower < test.upper).all()


def test_what_is_out_of_range_is_refused() -> None:
    with pytest.raises(InvalidInput):
        sequential_test(0.0, most=100)
    with pytest.raises(InvalidInput):
        sequential_test(0.1, most=0)
    with pytest.raises(InvalidInput, match="looks after"):
        sequential_test(0.1, most=16).decide(0, 9)
