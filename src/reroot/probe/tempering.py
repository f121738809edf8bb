"""The temperature of draws whose law is truncated somewhere, and where it is truncated.

Every sampler chain of llama.cpp, vLLM, SGLang and transformers draws, at a prefix with the log-probabilities ℓ
(after penalties), from p(a) ∝ exp(ℓ_a/T) on the K most likely tokens: the settings decide K and T alone. Given the
least likely draw, of rank M, the other draws say nothing of K; so T is estimated by the likelihood given M,

    Σ ℓ(draw)/T − log(F(M)ⁿ − F(M − 1)ⁿ),    F(r) = Σ_{rank ≤ r} exp(ℓ/T),

without knowing where the law is cut. Given T, K is at least M; and more than U is refuted where
(F(M)/F(U))ⁿ < α, which is the exact probability that no draw has a rank above M.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import optimize

from ..types import FloatArray, IntArray
from .drawn import Drawn

HALF_95, HALF_99 = 1.9207, 3.3174
"""Half the 95 % and 99 % points of χ² with one degree of freedom: how far a log-likelihood may fall."""
_TIES = 1e-6
"""Nats within which log-probabilities are equal, so that either token may come first."""
FEW = 10
"""Fewer draws at a prefix bound its cut from below only."""
_COLDEST, _HOTTEST = 0.02, 20.0


@dataclass(frozen=True, slots=True)
class Ranked:
    """A law by rank, with draws from it.

    Attributes:
        logs: (k,) nats, sorted, most likely first; normalized with ``rest``.
        ranks: (n,) rank of each draw, from 0; k: not listed.
        rest: probability of all that is not listed.
        unlisted: how many tokens are not listed.
        beside: how many tokens may be kept beside those that are listed here.
        slack: probability that they have at most.
    """

    logs: FloatArray
    ranks: IntArray
    rest: float
    unlisted: int
    beside: int = 0
    slack: float = 0.0

    @property
    def listed(self) -> IntArray:
        """Ranks of the listed draws."""
        return self.ranks[self.ranks < len(self.logs)]

    @property
    def open(self) -> bool:
        """Whether a draw is not listed, so that the law is not cut within the list."""
        return bool((self.ranks == len(self.logs)).any())

    @property
    def least(self) -> int:
        """Fewest tokens that the law has kept: M, of tokens that are equally likely those drawn alone."""
        if self.open:
            return len(self.logs) + 1
        last = self.logs[self.ranks.max()]
        more_likely = int((self.logs > last + _TIES).sum())
        return more_likely + len(np.unique(self.ranks[self.ranks >= more_likely]))

    def cumulative(self, temperature: float) -> FloatArray:
        """(k + 1,) F(0) … F(k), the likeliest token's weight being 1."""
        return np.append(0.0, np.cumsum(np.exp((self.logs - self.logs[0]) / temperature)))

    def rest_between(self, temperature: float) -> tuple[float, float]:
        """Bounds of the weight of what is not listed, on the scale of ``cumulative``.

        Its tokens have ``rest`` together and no more than the last listed each: the sum of their powers is
        extreme where they are equal, or as unequal as that allows.
        """
        if not self.unlisted or self.rest <= 0:
            return 0.0, 0.0
        beta, top = 1.0 / temperature, float(self.logs[0])
        last = float(np.exp(self.logs[-1]))
        equal = self.unlisted * float(np.exp(beta * (np.log(self.rest / self.unlisted) - top)))
        number = min(self.rest / max(last, 1e-300), float(self.unlisted))
        unequal = number * float(np.exp(beta * (np.log(self.rest / number) - top)))
        return min(equal, unequal), max(equal, unequal)

    def most(self, temperature: float, alpha: float) -> int | None:
        """U, most tokens that the law has kept, wrong with probability ``alpha``; ``None``: no bound."""
        if self.open:
            return None
        sums = self.cumulative(temperature)
        limit = sums[self.ranks.max() + 1] * alpha ** (-1.0 / len(self.ranks))
        if limit >= sums[-1]:  # beyond the list nothing is known of ranks
            return None
        return int(np.searchsorted(sums, limit, side="right")) - 1 + self.beside


def ranked(drawn: Drawn) -> Ranked:
    """The stated law by rank."""
    law = drawn.law()
    with np.errstate(divide="ignore"):
        logs = np.log(law[:-1])
    return by_rank(logs, drawn.ranks(), float(law[-1]), drawn.vocab - len(drawn.ids))


def by_rank(logs: FloatArray, places: IntArray, rest: float, unlisted: int) -> Ranked:
    """``Ranked`` of a list in any order; tokens without probability are left out."""
    order = np.argsort(-logs, kind="stable")
    order = order[logs[order] > -np.inf]
    rank_of = np.full(len(logs) + 1, len(order))
    rank_of[order] = np.arange(len(order))
    return Ranked(logs[order], rank_of[places], rest, unlisted)


def untouched(drawn: Drawn) -> Ranked | None:
    """The law and the draws of tokens that do not stand in the prefix, whatever penalties do to the others."""
    fresh, drew = ~np.isin(drawn.ids, drawn.prefix), ~np.isin(drawn.tokens, drawn.prefix)
    if not fresh.any() or not drew.any():
        return None
    law = drawn.law()
    with np.errstate(divide="ignore"):
        logs = np.where(fresh, np.log(law[:-1]), -np.inf)
    unlisted = drawn.vocab - len(drawn.ids)
    found = by_rank(logs, drawn.ranks()[drew], float(law[-1]), unlisted)
    slack = max(float(law[:-1][~fresh].sum()), 1 - float(drew.mean()))
    return replace(found, beside=int((~fresh).sum()), slack=slack)


@dataclass(frozen=True, slots=True)
class Temperature:
    """What the likelihood says of a temperature.

    Attributes:
        value: the most likely; ``nan``: the draws say nothing of it.
        low: of the 95 % interval.
        high: of the 95 % interval.
        grid: temperatures that cover the 99 % interval.
        against: nats by which the likelihood falls at temperature 1.
    """

    value: float
    low: float
    high: float
    grid: FloatArray
    against: float


def temperature(ats: Sequence[Ranked], points: int = 9) -> Temperature:
    """The temperature of some draws, by the likelihood given the rank of the least likely draw."""
    told = [_Told.of(at) for at in ats]
    told = [one for one in told if len(one.logs) > 1]
    if not told:
        return Temperature(float("nan"), 0.0, float("inf"), np.array([1.0]), 0.0)

    def lost(log_beta: float) -> float:
        return -sum(one.log_likelihood(float(np.exp(log_beta))) for one in told)

    ends = -np.log(_HOTTEST), -np.log(_COLDEST)
    best: Any = optimize.minimize_scalar(
        lost, bounds=ends, method="bounded", options={"xatol": 1e-6}
    )
    at, least = float(best.x), float(best.fun)

    def edge(end: float, fall: float) -> float:
        def beyond(x: float) -> float:
            return lost(x) - least - fall

        if beyond(end) <= 0:
            return end
        root: Any = optimize.brentq(beyond, min(at, end), max(at, end), xtol=1e-5)
        return float(root)

    hot, cold = edge(ends[0], HALF_95), edge(ends[1], HALF_95)
    grid = np.exp(-np.linspace(edge(ends[1], HALF_99), edge(ends[0], HALF_99), points))
    grid = np.unique(np.append(grid, np.exp(-at)))
    return Temperature(
        float(np.exp(-at)), float(np.exp(-cold)), float(np.exp(-hot)), grid, lost(0.0) - least
    )


@dataclass(frozen=True, slots=True)
class _Told:
    """The part of one prefix that tells of the temperature: nats by rank, and the draws' sum of them."""

    logs: FloatArray
    total: float
    n: int
    cut: bool

    @classmethod
    def of(cls, at: Ranked) -> _Told:
        listed = at.listed
        most = len(at.logs) if at.open else int(listed.max()) + 1
        logs = at.logs[:most] - at.logs[0]
        return cls(logs, float(logs[listed].sum()), len(listed), not at.open)

    def log_likelihood(self, beta: float) -> float:
        weights = np.exp(beta * self.logs)
        whole = float(weights.sum())
        value = beta * self.total - self.n * np.log(whole)
        if self.cut:  # given that the least likely of them is drawn
            value -= np.log(-np.expm1(self.n * np.log1p(-weights[-1] / whole)))
        return float(value)
