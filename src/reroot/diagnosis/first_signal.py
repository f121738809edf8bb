"""How long until a trainer sees its first signal: a law, not a number.

Notation: N problems in random order, anew in each epoch; b of them per step, J = N/b steps per epoch; a group of G
rollouts of problem i has signal with probability σ_i = 1 − (1 − p_i)^G − p_i^G, x_i = 1 − σ_i. T is the step of
the first signal. Pass probabilities are unknown: the law is averaged over their posterior given c_i passes of n_i,
and where a reach was measured, over its uncertainty.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from ..checks import check_int
from ..errors import InvalidInput
from ..types import FloatArray, IntArray
from .intervals import Interval
from .silent_groups import check_counts

_GRID = np.linspace(np.log(1e-12), 0.0, 481)
"""log p where the log-uniform part of the prior is integrated: 40 points per factor 10."""

_WEIGHTS = (0.5, 0.5, 1.0, 1.0)
"""Dirichlet prior of the shares of p = 0, p = 1, log-uniform and uniform."""

_CANDIDATES = 8000
"""Draws of the prior that are weighted."""

_UNSEEN = 8
"""Problems of the prior that stand for all that were not looked at."""


class Reach(NamedTuple):
    """A measured log-probability of passing: normal with these parameters, in nats."""

    log: float
    sd: float


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """Draws of all pass probabilities together.

    Attributes:
        p: (draws, N) of the problems.
        unseen: (draws, M) of others from the prior that fits these; ``None``: not known.
    """

    p: FloatArray
    unseen: FloatArray | None = None

    def silent(self, group: int) -> FloatArray:
        """(draws, N) x_i = (1 − p)^G + p^G."""
        return _silent(self.p, check_int("group", group, 1))

    def share(self, group: int, groups: int, rng: np.random.Generator) -> Interval:
        """95 % prediction interval of the share of silent ones among ``groups`` groups of these problems.

        They are walked through in random order, anew in each epoch, as a trainer does, by a policy that stays as
        it is.
        """
        count = check_int("groups", groups, 1)
        x = self.silent(group)
        epochs = -(-count // x.shape[1])
        orders = np.argsort(rng.random((len(x), epochs, x.shape[1])), axis=2)
        return _predicted(x, orders.reshape(len(x), -1)[:, :count], rng)

    def share_of_others(self, group: int, groups: int, rng: np.random.Generator) -> Interval:
        """The same where each group is of a new problem like these: the diagnosed ones are a sample.

        The population is a Dirichlet process given these problems, with one more problem's weight on ``unseen``
        (the Bayesian bootstrap otherwise): what no problem has shown may still be out there.
        """
        count = check_int("groups", groups, 1)
        p, masses = self.p, [np.ones(self.p.shape[1])]
        if self.unseen is not None:
            p = np.concatenate([p, self.unseen], axis=1)
            masses.append(np.full(self.unseen.shape[1], 1.0 / self.unseen.shape[1]))
        x = _silent(p, check_int("group", group, 1))
        edges = np.cumsum(rng.dirichlet(np.concatenate(masses), size=len(x)), axis=1)
        u = rng.random((len(x), count)) * edges[:, -1:]
        picked = [np.searchsorted(e, v, side="right") for e, v in zip(edges, u, strict=True)]
        return _predicted(x, np.minimum(np.stack(picked), x.shape[1] - 1), rng)


def _silent(p: FloatArray, group: int) -> FloatArray:
    return np.minimum(1.0, np.exp(group * np.log1p(-np.minimum(p, 1.0 - 1e-16))) + p**group)


def _predicted(x: FloatArray, picked: IntArray, rng: np.random.Generator) -> Interval:
    """Of the share of silent groups, from (draws, problems) x and the (draws, groups) problems of the groups."""
    seen = (rng.random(picked.shape) < np.take_along_axis(x, picked, axis=1)).mean(axis=1)
    low, high = np.quantile(seen, [0.025, 0.975], method="inverted_cdf")
    return Interval(float(low), float(high))


def posterior(
    passed: npt.ArrayLike,
    attempts: npt.ArrayLike,
    rng: np.random.Generator,
    *,
    draws: int = 400,
    reach: Mapping[int, Reach] | None = None,
) -> Posterior:
    """Pass probabilities given counts, under a prior with spikes at 0 and 1.

    p is 0, 1, log-uniform on [10^−a, 10^−b] or uniform, with shares from Dirichlet(½, ½, 1, 1), a from [1, 12] and b
    from [0, a], all unknown and common to the problems: draws of them are weighted by the likelihood of the
    counts (importance resampling). A beta prior in place of it is badly calibrated where p is mostly small.

    Args:
        passed: (N,) c_i.
        attempts: (N,) n_i, or one number.
        rng: a keyed generator.
        draws: number of draws.
        reach: problem → what was measured of it otherwise (``reach_interval``); it replaces the counts, and tells
            of the prior what they would.

    Raises:
        InvalidInput: counts that are none, or a ``reach`` of no problem.
    """
    c, n = check_counts(passed, attempts)
    known = dict(reach or {})
    if known and not set(known) <= set(range(len(c))):
        raise InvalidInput(f"reach is of problems 0 to {len(c) - 1}, got {sorted(known)}")
    kinds, index = np.unique(np.stack([c, n], axis=1), axis=0, return_inverse=True)
    index = index.reshape(-1)
    weighed = np.ones(len(c), dtype=bool)
    weighed[list(known)] = False
    sizes = np.bincount(index[weighed], minlength=len(kinds)).astype(np.float64)
    prior = _Prior.draw(rng, _CANDIDATES)
    tables = [_Counted(int(k[0]), int(k[1])) for k in kinds]
    logs = np.stack([np.log(prior.joint(t).sum(axis=1)) for t in tables], axis=1) @ sizes
    logs += sum((np.log(prior.density(measured)) for measured in known.values()), start=0.0)
    chosen = rng.choice(len(logs), size=check_int("draws", draws, 1), p=special.softmax(logs))
    p = np.empty((draws, len(c)))
    for k, table in enumerate(tables):
        columns = np.flatnonzero(index == k)
        p[:, columns] = prior.at(chosen).sample(table, len(columns), rng)
    for i, measured in known.items():
        p[:, i] = np.minimum(1.0, np.exp(rng.normal(measured.log, measured.sd, size=draws)))
    return Posterior(p, prior.at(chosen).sample(_Counted(0, 0), _UNSEEN, rng))


class _Counted:
    """The likelihood of c of n, integrated over log p."""

    def __init__(self, c: int, n: int) -> None:
        self.c, self.n = c, n
        with np.errstate(divide="ignore", invalid="ignore"):
            misses = (n - c) * np.log(-np.expm1(_GRID)) if n > c else np.zeros(len(_GRID))
        likelihood = special.binom(n, c) * np.exp(c * _GRID + misses)
        middle = (likelihood[1:] + likelihood[:-1]) / 2 * np.diff(_GRID)
        self.integral: FloatArray = np.concatenate([[0.0], np.cumsum(middle)])

    def up_to(self, log_p: FloatArray) -> FloatArray:
        return np.interp(log_p, _GRID, self.integral)

    def quantile(self, integral: FloatArray) -> FloatArray:
        """log p up to which the integral is that."""
        return np.interp(integral, self.integral, _GRID)


@dataclass(frozen=True, slots=True, eq=False)
class _Prior:
    """Draws of what is common to the problems: (m, 4) shares, (m,) ends of the log-uniform part, nats."""

    shares: FloatArray
    low: FloatArray
    high: FloatArray

    @classmethod
    def draw(cls, rng: np.random.Generator, count: int) -> _Prior:
        shares = rng.dirichlet(_WEIGHTS, size=count)
        a = rng.uniform(1.0, 12.0, size=count)
        b = rng.uniform(0.0, a)
        return cls(shares, -a * np.log(10.0), -b * np.log(10.0))

    def at(self, rows: IntArray) -> _Prior:
        return _Prior(self.shares[rows], self.low[rows], self.high[rows])

    def joint(self, table: _Counted) -> FloatArray:
        """(m, 4) share of each kind times the probability of the counts under it."""
        within = table.up_to(self.high) - table.up_to(self.low)
        width = np.maximum(self.high - self.low, 1e-9)
        kinds = [
            np.full(len(width), float(table.c == 0)),
            np.full(len(width), float(table.c == table.n)),
            np.maximum(within, 0.0) / width,
            np.full(len(width), 1.0 / (table.n + 1)),
        ]
        return self.shares * np.stack(kinds, axis=1)

    def density(self, measured: Reach) -> FloatArray:
        """(m,) of log p where it was measured: neither spike has it."""
        at = min(measured.log, 0.0)
        width = np.maximum(self.high - self.low, 1e-9)
        sd = max(measured.sd, 1e-3)
        within = special.ndtr((self.high - at) / sd) - special.ndtr((self.low - at) / sd)
        shares = self.shares[:, 2] * within / width + self.shares[:, 3] * np.exp(at)
        return np.maximum(shares, 1e-300)

    def sample(self, table: _Counted, columns: int, rng: np.random.Generator) -> FloatArray:
        """(m, columns) pass probabilities of problems with these counts."""
        joint = self.joint(table)
        edges = np.cumsum(joint, axis=1) / joint.sum(axis=1, keepdims=True)
        shape = (len(joint), columns)
        kind = (rng.random(shape)[:, :, None] > edges[:, None, :3]).sum(axis=2)
        low, high = table.up_to(self.low)[:, None], table.up_to(self.high)[:, None]
        spread = np.exp(table.quantile(low + rng.random(shape) * (high - low)))
        flat = rng.beta(table.c + 1, table.n - table.c + 1, size=shape)
        return np.choose(kind, [np.zeros(shape), np.ones(shape), spread, flat])


@dataclass(frozen=True, slots=True, eq=False)
class FirstSignal:
    """The predictive law of T.

    Attributes:
        epoch: (draws,) log-probability that a whole epoch is silent.
        within: (draws, J) probability that the first j = 0 … J − 1 steps of an epoch are.
    """

    epoch: FloatArray
    within: FloatArray

    def survival(self, steps: npt.ArrayLike) -> FloatArray:
        """Pr(T > t) for numbers of steps t ≥ 0."""
        t = np.asarray(steps, dtype=np.int64)
        epochs, left = np.divmod(t, self.within.shape[1])
        with np.errstate(invalid="ignore"):
            whole = np.where(epochs[..., None] > 0, epochs[..., None] * self.epoch, 0.0)
        return (np.exp(whole) * np.moveaxis(self.within, 1, 0)[left]).mean(axis=-1)

    def quantile(self, q: float, most: int = 10**12) -> int | None:
        """Least t with Pr(T ≤ t) ≥ q; ``None``: beyond ``most`` steps."""
        if 1.0 - float(self.survival(most)) < q:
            return None
        low, high = 0, most  # Pr(T ≤ low) < q ≤ Pr(T ≤ high)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if 1.0 - float(self.survival(middle)) >= q else (middle, high)
        return high


def first_signal(silent: FloatArray, per_step: int) -> FirstSignal:
    """The law of T from (draws, N) probabilities x_i that a group of problem i is silent.

    Pr(T > eJ + j) = (Π x_i)^e · E_jb, E_k the mean over sets of k distinct problems of the product of their x:
    adding problem i to those before takes E_k to E_k·(1 − k/i) + x_i·E_{k−1}·k/i. Where b does not divide N the
    epoch ends with a smaller step, as a trainer that keeps the last batch does.

    Args:
        silent: (draws, N) in [0, 1].
        per_step: b, problems per step.

    Raises:
        InvalidInput: another shape or range.
    """
    x = np.asarray(silent, dtype=np.float64)
    if x.ndim != 2 or not x.size or not ((x >= 0) & (x <= 1)).all():
        raise InvalidInput("silent must be (draws, N) probabilities")
    count = x.shape[1]
    b = check_int("per_step", per_step, 1)
    means = np.zeros((len(x), count + 1))
    means[:, 0] = 1.0
    for i in range(1, count + 1):
        k = np.arange(1, i + 1)
        means[:, 1 : i + 1] = means[:, 1 : i + 1] * (1.0 - k / i) + x[:, i - 1, None] * means[
            :, :i
        ] * (k / i)
    with np.errstate(divide="ignore"):
        return FirstSignal(np.log(means[:, count]), means[:, 0:count:b])
