"""What a comparison will take: the arithmetic in closed form, and that a probe changes no result."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reroot
from commands import call
from reroot.access.episode import bind
from reroot.access.runner import Attempt, Job
from reroot.cli import progress
from reroot.families import HiddenPath
from reroot.learners import get_learner
from reroot.runs import estimate as estimates
from reroot.runs.attempts import attempts_of
from reroot.runs.estimate import Estimate, Range, Share, Wave, seconds_of, tokens_of
from reroot.types import Budget, Cost

SMALL: dict[str, Any] = {
    "model": "hidden_path:K=3,H=4,p=0.6",
    "learners": ["best_of_n:n=4", "beam_search:width=2"],
    "budget_tokens": 2_000,
    "seeds": 2,
    "problems": 10,
}


@pytest.mark.parametrize(("a", "b"), [(2.0, 0.5), (0.0, 1.0), (3.0, 0.0)])
def test_seconds_of_a_machine_that_takes_a_plus_b_n(a: float, b: float) -> None:
    waves = [Wave(n, a + b * n) for n in (10, 30)]
    found = seconds_of(waves, 1000, 100)
    assert found.middle == pytest.approx(a * 10 + b * 1000)
    assert found.low <= found.middle <= found.high
    assert found.high == pytest.approx((a + 30 * b) * 1000 / 30)
    # 1000 attempts at 100 in flight are at least 10 waves
    assert found.low == pytest.approx((a + 30 * b) * 10)


def test_one_wave_says_the_most_that_it_may_take() -> None:
    assert seconds_of([Wave(10, 5.0)], 100, 50) == Range(50.0, 10.0, 50.0)


def job(key: str) -> Job:
    family = HiddenPath(2, 2, 0.6, seed=0)
    learner = get_learner("first_success")
    episode = bind(family.problem(), family)
    return Job(key, learner, episode, learner.requires, Budget(tokens=100), 0)


def attempt(key: str, tokens: int) -> Attempt:
    cost = Cost(tokens=tokens)
    return Attempt(key, "p", "l", "c", 0, None, "", True, 0.0, False, None, cost, None, None)


def test_tokens_of_strata_are_their_means_times_their_sizes() -> None:
    """100 jobs of a and 10 of b; where nothing has finished the budget counts."""
    shares = [
        Share([job(f"{name}{i}") for i in range(4)], n) for name, n in (("a", 100), ("b", 10))
    ]
    found = {"a0": attempt("a0", 10), "a1": attempt("a1", 20)}
    got = tokens_of(shares, found)
    # two standard errors of the sum of 98 unknown ones, whose mean is known from two
    spread = 2 * np.sqrt(50 * 98 * (1 + 98 / 2))
    assert got.middle == 100 * 15 + 10 * 100
    assert got.high == pytest.approx(2500 + spread)
    assert got.low == pytest.approx(max(1500 - spread, 30))


def test_the_range_of_tokens_holds_in_nineteen_of_twenty() -> None:
    """Sums of 200 Poisson(50) attempts from 8 of them: t with 7 degrees at ±2 covers 91.4 %; 400 trials,
    three standard errors below that is 87.2 %."""
    rng = np.random.default_rng(3)
    one, inside = job("a"), 0
    shares = [Share([replace(one, key=f"a{i}") for i in range(8)], 200)]
    for _ in range(400):
        spent = rng.poisson(50, 200)
        got = tokens_of(shares, {f"a{i}": attempt(f"a{i}", int(spent[i])) for i in range(8)})
        inside += got.low <= spent.sum() <= got.high
    assert inside / 400 >= 0.872


@pytest.mark.slow(2)
@pytest.mark.parametrize("longest", [30.0, 0.0])
def test_a_probe_counts_and_changes_nothing(
    longest: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same results with a probe, with one cut off at once, and without; nothing is made twice."""
    monkeypatch.setattr(estimates, "LONGEST", longest)
    whole = reroot.compare(**SMALL, out=tmp_path / "whole")
    told = list[Estimate]()
    probed = reroot.compare(**SMALL, out=tmp_path / "probed", on_estimate=told.append)
    assert probed.results.equals(whole.results)
    assert len(told) == 1
    assert told[0] is probed.estimate
    assert told[0].cut == (longest == 0.0)
    lines = (tmp_path / "probed" / "journal.jsonl").read_bytes().splitlines()
    assert len(lines) == len(whole.attempts) == told[0].attempts
    used = [c.summary["physical"] for c in (probed, whole)]
    assert used[0]["computed"] >= used[1]["computed"]  # what the probe computed is counted too


@pytest.mark.slow(1)
def test_estimate_alone_stops_and_the_same_call_goes_on(tmp_path: Path) -> None:
    probed = reroot.compare(**SMALL, out=tmp_path / "run", estimate=True)
    assert probed.estimate is not None
    strata = 2 * 1  # learners × horizons
    assert probed.estimate.probed == strata * 4 == len(attempts_of(tmp_path / "run"))
    assert probed.summary["made"] == [8, 40]
    whole = reroot.compare(**SMALL, out=tmp_path / "run")
    assert whole.made == 40 - 8
    tokens = sum(a.cost.tokens for a in whole.attempts)
    assert probed.estimate.tokens.low <= tokens <= probed.estimate.tokens.high


@pytest.mark.slow(1)
def test_the_command_says_what_it_would_take(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["compare", "--model", SMALL["model"], "--problems", "10", "--seeds", "2"]
    arguments += ["--learner", "best_of_n:n=4", "--out", str(tmp_path / "run")]
    assert call(*arguments, "--estimate") == 0
    shown = capsys.readouterr()
    assert "estimate, from 4 of 20 attempts, which count: about 0:00:0" in shown.err
    assert "± " in shown.err
    assert "without --estimate it goes on" in " ".join(shown.out.split())
    monkeypatch.setattr(progress, "EVERY", 0.0005)  # worth telling, unasked
    assert call(*arguments[:-1], str(tmp_path / "other")) == 0
    assert "estimate, from" in capsys.readouterr().err
