"""Starts within demonstrations: curves, and the simulated trainer against real strategies."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from scipy import stats

from reroot.diagnosis.starts import PLACES, Trainer, first_signal_tokens, next_cut, rates_along
from reroot.errors import InvalidInput
from reroot.families import HiddenPath
from reroot.families.many import ensemble
from reroot.training import collect_groups, strategies


def test_where_the_output_is_unique_the_rest_is_exact() -> None:
    forced = np.log([0.5, 0.25, 0.8, 0.1])
    rates = rates_along(
        {}, 4, np.full(3, 0.9), np.random.default_rng(0), forced=forced, unique=True
    )
    assert rates.shape == (3, PLACES + 1)
    at = [0, PLACES // 4, PLACES // 2, 3 * PLACES // 4, PLACES]
    assert rates[1, at] == pytest.approx([0.01, 0.02, 0.08, 0.1, 1.0])


def test_curves_rise_between_cuts_and_stay_above_the_forced_tail() -> None:
    rng = np.random.default_rng(0)
    forced = np.log(np.full(16, 0.9))
    rates = rates_along({8: (4, 32), 12: (16, 32)}, 16, np.full(400, 1e-6), rng)
    assert (np.diff(rates, axis=1) >= -1e-12).all()
    assert np.median(rates[:, PLACES // 2]) == pytest.approx(4 / 32, rel=0.2)
    middle = np.median(np.log(rates[:, PLACES // 4]))  # log-linear
    assert middle == pytest.approx((np.log(1e-6) + np.log(4 / 32)) / 2, abs=0.3)
    floor = rates_along({8: (0, 32)}, 16, np.full(50, 1e-6), rng, forced=forced)
    assert (floor[:, 0] >= 0.9**16 - 1e-9).all()
    assert (floor[:, PLACES // 2] >= 0.9**8 - 1e-9).all()
    with pytest.raises(InvalidInput, match="within 1"):
        rates_along({16: (1, 2)}, 16, np.full(2, 0.5), rng)


def test_more_cuts_go_where_the_rate_falls() -> None:
    assert next_cut({0: (0, 64), 4: (0, 32), 8: (16, 32), 12: (30, 32)}, 16) == 6
    assert next_cut({0: (0, 1), 1: (0, 1)}, 2) is None


@pytest.mark.parametrize("schedule", ["r3", "adaback"])
def test_signal_needs_passes_and_fails(schedule: Literal["r3", "adaback"]) -> None:
    rng = np.random.default_rng(0)
    lengths = np.tile(np.arange(PLACES, -1, -1) / 8.0, (4, 1))
    for rate in (0.0, 1.0):
        never = np.full((20, 4, PLACES + 1), rate)
        found = first_signal_tokens(schedule, never, lengths, Trainer(8, 2, 30), rng)
        assert np.isinf(found).all()
    half = np.full((20, 4, PLACES + 1), 0.5)
    found = first_signal_tokens(schedule, half, lengths, Trainer(64, 2, 30), rng)
    assert (found <= 2 * 64 * 16).all()  # one step


@pytest.mark.slow(10)
@pytest.mark.parametrize("strategy", ["r3", "adaback"])
def test_the_simulated_trainer_is_the_trainer(strategy: Literal["r3", "adaback"]) -> None:
    """Tokens to the first signal of 60 runs and of the simulation have one law (two samples, level 1e-3)."""
    H, p, group, problems, b = 16, 0.5, 4, 4, 2
    family = ensemble([HiddenPath(4, H, p, seed=i) for i in range(problems)])
    tasks, spent = family.problems(), list[int]()
    for run in range(60):
        how, rng = strategies.get_strategy(strategy), np.random.default_rng(run)
        order, tokens = list[int](), 0
        for step in range(400):
            order = order or rng.permutation(problems).tolist()
            here, order = order[:b], order[b:]
            asked = [tasks[i] for i in here]
            groups = collect_groups(family, asked, step, strategy=how, size=group, seed=run)
            tokens += sum(g.spent.tokens for g in groups)
            if not all(g.zero_variance for g in groups):
                break
        spent.append(tokens)
    rng = np.random.default_rng(0)
    forced = np.full(H, np.log(p))
    one = rates_along({}, H, np.ones(2000), rng, forced=forced, unique=True)
    rates = np.repeat(one[:, None], problems, axis=1)
    lengths = np.tile(H - np.arange(PLACES + 1) * H // PLACES, (problems, 1)).astype(float)
    told = first_signal_tokens(strategy, rates, lengths, Trainer(group, b, 400), rng)
    assert stats.ks_2samp(spent, told).pvalue > 1e-3
