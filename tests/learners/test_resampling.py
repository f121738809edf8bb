"""Resampling: W of each particle is n·W expected copies, exactly, whatever n and W are."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from coins import Coins, law_of_tosses
from reroot import Prefix
from reroot.learners.sampling.resampling import RESAMPLERS, effective_size
from reroot.learners.sampling.smc import _Cloud, _resampled

WEIGHTS = {
    "three": (0.5, 0.3, 0.2),
    "whole copies": (1 / 3, 2 / 3, 0.0),
    "four, one dead": (0.45, 0.0, 0.4, 0.15),
    "five": (0.07, 0.31, 0.11, 0.29, 0.22),
    "crowded": (0.1, 0.1, 0.05, 0.75),
    "one takes all": (0.0, 1.0, 0.0),
}


def copies(scheme: str, weights: tuple[float, ...]) -> dict[tuple[int, ...], float]:
    """Copies of each particle → probability, over every sequence of the scheme's choices."""

    def toss(coins: object) -> tuple[int, ...]:
        chosen = RESAMPLERS[scheme](SimpleNamespace(rng=coins), np.array(weights))  # type: ignore[arg-type]
        assert len(chosen) == len(weights)
        assert scheme == "multinomial" or chosen == sorted(chosen)
        return tuple(np.bincount(chosen, minlength=len(weights)).tolist())

    return law_of_tosses(toss)


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("scheme", RESAMPLERS)
def test_expected_copies(scheme: str, weights: tuple[float, ...]) -> None:
    law, n = copies(scheme, weights), len(weights)
    assert math.fsum(law.values()) == pytest.approx(1.0, abs=1e-12)
    mean = sum(p * np.array(c) for c, p in law.items())
    assert mean == pytest.approx(n * np.array(weights), abs=1e-12)


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize(
    ("scheme", "below", "above"), [("systematic", 1, 1), ("stratified", 2, 2), ("residual", 1, math.inf)]
)  # fmt: skip
def test_copies_stay_near_their_mean(
    scheme: str, below: float, above: float, weights: tuple[float, ...]
) -> None:
    """One uniform number: ⌊n·W⌋ or ⌈n·W⌉ copies; one in each n-th: less than two off; the rest: at least ⌊n·W⌋."""
    mean = len(weights) * np.array(weights)
    for found in copies(scheme, weights):
        off = np.array(found) - mean
        assert (off > -below - 1e-9).all()
        assert (off < above + 1e-9).all()


def test_independent_choices_are_independent() -> None:
    """The multinomial law of the copies."""
    weights = WEIGHTS["three"]
    for found, probability in copies("multinomial", weights).items():
        ways = math.factorial(3) / math.prod(map(math.factorial, found))
        assert probability == pytest.approx(
            ways * math.prod(w**c for w, c in zip(weights, found, strict=True)), abs=1e-12
        )


@pytest.mark.parametrize(
    ("logs", "ess", "resampled"),
    [
        ((0.8, 0.2), 0.74, True),  # effective size 1/0.68 = 1.47 of 2, a share of 0.735
        ((0.8, 0.2), 0.73, False),
        ((0.5, 0.5), 1.0, True),  # 1: after each step, also where all weigh the same
        ((0.8, 0.2), 0.0, False),
        ((1.0, 1.0), 1.0, False),  # nothing was weighed
    ],
)
def test_smc_resamples_at_most_at_a_share_of_the_effective_size(
    logs: tuple[float, ...], ess: float, resampled: bool
) -> None:
    session: Any = SimpleNamespace(rng=Coins(()))
    cloud = _Cloud([Prefix((0,)), Prefix((1,))], np.log(logs), np.zeros(2))
    after = _resampled(session, cloud, "systematic", ess)
    assert (after is not cloud) == resampled
    if resampled:
        assert not after.log_weights.any()
        assert after.log_z == pytest.approx(math.log(sum(logs) / 2))


def test_effective_size() -> None:
    assert effective_size(np.full(7, 1 / 7)) == pytest.approx(7)
    assert effective_size(np.array([1.0, 0.0])) == 1.0
    assert effective_size(np.array([0.5, 0.3, 0.2])) == pytest.approx(1 / 0.38)
