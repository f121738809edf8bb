"""What groups that start within a demonstration would cost until one of them has signal: R3 and AdaBack, simulated.

Notation: d a demonstration of L tokens, p(k) the pass rate of rollouts after its first k tokens, G the group size.
Where groups start is a share s of d, k = ⌊s·L⌋; curves are kept on a grid of shares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np

from ..checks import check_int
from ..errors import InvalidInput
from ..types import FloatArray, IntArray

PLACES = 128
"""Shares of a demonstration that curves are known at: 0, 1/128, … 1."""

_LEAST = np.log(1e-12)
"""log p below which nothing is told apart."""

R3_STAGES = 8
"""Places of the mixed schedule: shares 0, 1/8, … 7/8."""

_ADABACK = (0.1, 0.05)
"""AdaBack: how often a group starts at the root whatever the interval, and the weight of the newest interval."""


def rates_along(
    cuts: Mapping[int, tuple[int, int]],
    length: int,
    root: FloatArray,
    rng: np.random.Generator,
    *,
    forced: Sequence[float] | None = None,
    unique: bool = False,
) -> FloatArray:
    """(draws, PLACES + 1) pass rates after shares of a demonstration, drawn from what is known of them.

    Where the right output is unique they are those of the rest of the demonstration, exactly. Else each cut
    has a Beta(c + ½, n − c + ½), the curve rises (running maximum), is log-linear between cuts, and nowhere lies
    below the teacher-forced probability of the rest.

    Args:
        cuts: k → (passed, attempts) of rollouts after k tokens, 0 < k < L.
        length: L.
        root: (draws,) p(0).
        rng: a keyed generator.
        forced: (L,) teacher-forced log-probabilities of the demonstration, nats.
        unique: no other output is right.

    Raises:
        InvalidInput: a cut is no place of the demonstration, or ``forced`` has another length.
    """
    check_int("length", length, 1)
    if not all(0 < k < length for k in cuts):
        raise InvalidInput(f"cuts must lie within 1 … {length - 1}, got {sorted(cuts)}")
    if forced is not None and len(forced) != length:
        raise InvalidInput(f"forced must have {length} log-probabilities, got {len(forced)}")
    places = np.arange(PLACES + 1) * length // PLACES
    rest = np.full(length + 1, -np.inf)
    rest[length] = 0.0
    if forced is not None:
        rest[:length] = np.cumsum(np.asarray(forced, dtype=np.float64)[::-1])[::-1]
        if unique:
            return np.tile(np.exp(rest[places]), (len(root), 1))
    at = np.array([0, *sorted(cuts), length])
    with np.errstate(divide="ignore"):
        logs = [np.log(root)]
        logs += [
            np.log(rng.beta(c + 0.5, n - c + 0.5, size=len(root)))
            for c, n in (cuts[k] for k in sorted(cuts))
        ]
    knots = np.stack([*logs, np.zeros(len(root))], axis=1)
    knots = np.maximum.accumulate(np.maximum(knots, np.maximum(rest[at], _LEAST)), axis=1)
    k = np.arange(length + 1)
    right = np.clip(np.searchsorted(at, k, side="right"), 1, len(at) - 1)
    weight = (k - at[right - 1]) / (at[right] - at[right - 1])
    curve = knots[:, right - 1] * (1.0 - weight) + knots[:, right] * weight
    return np.exp(np.minimum(np.maximum(curve, rest), 0.0))[:, places]


def next_cut(cuts: Mapping[int, tuple[int, int]], length: int) -> int | None:
    """The middle of where the log rate falls most between cuts (0 among them); ``None``: no room is left."""
    known = [(k, np.log((c + 0.5) / (n + 1.0))) for k, (c, n) in sorted(cuts.items())]
    known.append((length, 0.0))
    falls = [
        (after - before, -(a + b)) for (a, before), (b, after) in pairwise(known) if b - a >= 2
    ]
    return -max(falls)[1] // 2 if falls else None


def first_signal_tokens(
    schedule: Literal["r3", "adaback"],
    rates: FloatArray,
    lengths: FloatArray,
    *,
    group: int,
    per_step: int,
    rng: np.random.Generator,
    most_steps: int,
) -> FloatArray:
    """(draws,) tokens up to the end of the first step with a group that has both passes and fails.

    Each draw is one trainer: problems in random order, anew in each epoch, per_step of them in a step (fewer where
    the epoch ends), a start of each, G rollouts from there. The policy stays as it is, as without signal it
    does. ``r3``: a uniform stage of ``R3_STAGES``. ``adaback``: uniform in the problem's interval [lo, hi], at
    the root one time in ten; groups that all pass set hi to their share and lo to 0, groups that all fail set lo;
    problems that are new start with a running average of the intervals.

    Args:
        schedule: where groups start.
        rates: (draws, N, PLACES + 1) as ``rates_along`` gives for each problem.
        lengths: (N, PLACES + 1) tokens of a rollout from there.
        group: G.
        per_step: problems of a step.
        rng: a keyed generator.
        most_steps: ``inf`` is returned where no signal has come by then.

    Raises:
        InvalidInput: an unknown schedule, or a number below 1.
    """
    if schedule not in ("r3", "adaback"):
        raise InvalidInput(f"schedule must be 'r3' or 'adaback', got {schedule!r}")
    check_int("group", group, 1)
    check_int("per_step", per_step, 1)
    draws, problems = rates.shape[:2]
    starts = _AdaBack(draws, problems) if schedule == "adaback" else _R3()
    spent, going = np.zeros(draws), np.ones(draws, dtype=bool)
    order, place = np.empty((draws, problems), dtype=np.int64), problems
    rows = np.arange(draws)
    for _ in range(check_int("most_steps", most_steps, 1)):
        if place >= problems:
            order, place = np.argsort(rng.random((draws, problems)), axis=1), 0
        here, place = order[:, place : place + per_step], place + per_step
        shares = starts.draw(here, rng)
        at = np.minimum((shares * PLACES + 1e-9).astype(np.int64), PLACES - 1)
        p = rates[rows[:, None], here, at]
        passed = rng.binomial(group, p)
        spent += going * group * lengths[here, at].sum(axis=1)
        going &= ((passed == 0) | (passed == group)).all(axis=1)
        if not going.any():
            break
        starts.learn(here, shares, passed == group)
    spent[going] = np.inf
    return spent


class _R3:
    """The mixed schedule: a uniform stage."""

    def draw(self, here: IntArray, rng: np.random.Generator) -> FloatArray:
        return rng.integers(R3_STAGES, size=here.shape) / R3_STAGES

    def learn(self, here: IntArray, shares: FloatArray, right: FloatArray) -> None:
        """It does not."""


class _AdaBack:
    """Intervals of shares of each problem, and their running average."""

    def __init__(self, draws: int, problems: int) -> None:
        self._low, self._high = np.zeros((draws, problems)), np.ones((draws, problems))
        self._seen = np.zeros((draws, problems), dtype=bool)
        self._mean = np.tile([0.0, 1.0], (draws, 1))
        self._rows = np.arange(draws)

    def _interval(self, problems: IntArray) -> tuple[FloatArray, FloatArray]:
        """Of (draws, n) problems."""
        rows = self._rows[:, None]
        seen = self._seen[rows, problems]
        low = np.where(seen, self._low[rows, problems], self._mean[:, :1])
        return low, np.where(seen, self._high[rows, problems], self._mean[:, 1:])

    def draw(self, here: IntArray, rng: np.random.Generator) -> FloatArray:
        low, high = self._interval(here)
        shares = low + (high - low) * rng.random(here.shape)
        return np.where(rng.random(here.shape) < _ADABACK[0], 0.0, shares)

    def learn(self, here: IntArray, shares: FloatArray, right: FloatArray) -> None:
        for slot in range(here.shape[1]):  # in order: each moves the average
            problem, share = here[:, slot], shares[:, slot]
            low, high = (x[:, 0] for x in self._interval(problem[:, None]))
            failed = ~right[:, slot].astype(bool) & (share > 0)
            low = np.where(right[:, slot], 0.0, np.where(failed, np.minimum(share, high), low))
            high = np.where(right[:, slot], share, high)
            self._low[self._rows, problem], self._high[self._rows, problem] = low, high
            self._seen[self._rows, problem] = True
            new = _ADABACK[1]
            self._mean = (1.0 - new) * self._mean + new * np.stack([low, high], axis=1)
