"""Exact values and bounds that the experiments on families compare with, beside ``limits``.

On a path each place has n candidates: the path token, of probability p, and R = n - 1 rivals of
probability q. Other tokens (decoys) tell nothing. On a hidden path n = K, on a decoy path n = K - k.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from .. import limits
from ..limits.rollouts import smallest
from ..types import FloatArray

Success = Callable[[int], float]
"""Rollouts → probability of success."""


def root_logprob_success(rollouts: int, candidates: int, horizon: int, p: float, q: float) -> float:
    """Best probability of naming the path after N >= 1 root-start rollouts with LOGPROB reports.

    D as in ``limits.root_success``: the deepest rollout shows D path tokens. The tokens drawn at
    depth D are not the next one; if U rivals were not drawn there it is named with probability
    1/(1 + U), and the n(d) tokens behind it with n^-n(d). By inclusion and exclusion over rivals

        E[1/(1 + U); D = d] = Σ_j (-1)^j C(R, j)/(j + 1)·(1 - p^d·(p + j·q))^N - (1 - p^d)^N/(R + 1).

    With one rival (K = 2) this is the value for FULL reports.
    """
    rivals, total = candidates - 1, -math.expm1(_log_power(p**horizon, rollouts))
    for d in range(horizon):
        named = sum(
            (-1) ** j
            * (math.comb(rivals, j) / (j + 1))
            * math.exp(_log_power(p**d * (p + j * q), rollouts))
            for j in range(rivals + 1)
        )
        named -= math.exp(_log_power(p**d, rollouts)) / candidates
        total += max(0.0, named) * float(candidates) ** -(horizon - d - 1)
    return total


def root_plurality_failure(
    rollouts: int, candidates: int, horizon: int, p: float, q: float
) -> float:
    """(n - 1)·Σ_t (1 - p^t·(√p - √q)²)^N: bound on the failure of the plurality among N rollouts.

    Chernoff for each rival at each depth, averaged over how many rollouts pass there.
    """
    gap = (math.sqrt(p) - math.sqrt(q)) ** 2
    terms = [math.exp(_log_power(p**t * gap, rollouts)) for t in range(horizon)]
    return (candidates - 1) * sum(terms)


@dataclass(frozen=True, slots=True)
class RootPath:
    """Naming a path of H tokens from the root: n candidates, p and q as above.

    With FULL and LOGPROB reports by exact laws, with SAMPLE reports by the bound on the plurality.
    """

    candidates: int
    p: float
    q: float

    def success(self, report: str, rollouts: int, horizon: int) -> float:
        """Probability of success: exact, for SAMPLE at least this."""
        if report == "full":
            return limits.root_success(rollouts, self.candidates, horizon, self.p)
        path = (rollouts, self.candidates, horizon, self.p, self.q)
        if report == "logprob":
            return root_logprob_success(*path)
        return 1.0 - root_plurality_failure(*path)

    def rollouts(self, report: str, horizon: int, success: float) -> int:
        """The fewest rollouts with that success; for SAMPLE as many as suffice."""
        if report == "full":
            return limits.root_rollouts(success, self.candidates, horizon, self.p)
        return rollouts_for(success, lambda n: self.success(report, n, horizon))


def all_met(rollouts: int, events: int, each: float) -> float:
    """Σ_j (-1)^j C(L, j)·(1 - j·x)^N: each of L disjoint events of probability x met in N rollouts.

    The sum cancels: right to 1e-7 up to L = 30, useless from L = 50 on.
    """
    terms = [
        (-1) ** j * math.comb(events, j) * math.exp(_log_power(j * each, rollouts))
        for j in range(events + 1)
    ]
    return max(0.0, math.fsum(terms))


def _log_power(missed: float, rollouts: int) -> float:
    """log (1 - x)^N, nats."""
    return rollouts * math.log1p(-missed) if missed < 1.0 else -math.inf


def rollouts_for(success: float, reached: Success) -> int:
    """The smallest N >= 1 with ``reached(N) >= success``, for a success that grows with N."""
    return smallest(lambda n: n > 0 and reached(n) >= success)


def waiting_quantile(tokens: int, p: float, success: float) -> int:
    """Draws until ``tokens`` hits of probability p each: the quantile of their negative binomial."""
    return int(stats.nbinom.ppf(success, tokens, p)) + tokens if tokens else 0


def scoring_quantile(candidates: int, horizon: int, p: float, q: float, success: float) -> int:
    """Queries that ``logprob_walk`` needs with RESET control on a uniform path: the quantile.

    A token takes one draw; if it is not the path's, the rivals but those drawn are scored.
    """
    stage = np.zeros(candidates + 1)
    stage[1] = p
    rival = (candidates - 1) * q
    for left, weight in ((candidates - 1, rival), (candidates, 1.0 - p - rival)):
        stage[1 : 1 + left] += weight * _scores(left)
    return quantile([stage] * horizon, success)


def _scores(candidates: int) -> FloatArray:
    """Law of the scores on n candidates: 1, …, n - 2 with probability 1/n each, n - 1 with 2/n."""
    law = np.ones(candidates) / candidates
    if candidates > 1:
        law[0], law[-1] = 0.0, 2.0 / candidates
    return law


def collecting_law(coupons: int, each: float) -> FloatArray:
    """Law of the draws until each of c tokens of probability x was drawn, cut where 1e-12 is left."""
    length = 1 + math.ceil((math.log(max(1, coupons)) + 28.0) / -math.log1p(-each))
    met = [all_met(n, coupons, each) for n in range(length + 1)] if coupons else [1.0]
    return np.diff(np.array(met), prepend=0.0)


def quantile(laws: list[FloatArray], success: float) -> int:
    """The smallest n with Pr(sum <= n) >= ``success`` for independent variables on 0, 1, …."""
    total = functools.reduce(np.convolve, laws, np.ones(1))
    return int(np.searchsorted(np.cumsum(total), success))


def elimination_success(rollouts: int, bits: int) -> float:
    """Σ_r 2^-r·Pr(corank r): N random vectors of F2^d, then a guess among 2^r solutions.

    Not counting that a secret is not 0, which can only help.
    """
    rank = np.zeros(bits + 1)
    rank[0] = 1.0
    inside = 2.0 ** (np.arange(bits + 1) - bits)  # a new vector lies in the span of r others
    for _ in range(rollouts):
        grown = rank * (1.0 - inside)
        rank = rank * inside
        rank[1:] += grown[:-1]
    return float(rank @ 2.0 ** (np.arange(bits + 1) - bits))


def parity_floor(bits: int, noise: float, success: float) -> int:
    """Fano: fewest noisy parities with which any learner names a secret of d bits that often.

    n·C + log 2 >= success·log(2^d - 1), C = log 2 - h(α) nats.
    """
    entropy = -noise * math.log(noise) - (1 - noise) * math.log1p(-noise)
    nats = success * math.log(2.0**bits - 1) - math.log(2)
    return max(0, math.ceil(nats / (math.log(2) - entropy)))


def likelihood_draws(bits: int, noise: float, delta: float) -> int:
    """n = ⌈(d·log 2 + log(1/δ)) / -log(1/2 + √(α(1 - α)))⌉: with which ``parity_root`` is right.

    Chernoff for each wrong secret, which agrees with a parity in half of the cases; union over them.
    """
    nats = bits * math.log(2) - math.log(delta)
    return math.ceil(nats / -math.log(0.5 + math.sqrt(noise * (1 - noise))))


def inside(count: int, n: int, probability: float, error: float) -> bool:
    """Whether ``count`` of n is in the two-sided binomial band that it leaves with that probability."""
    law = stats.binom(n, min(1.0, probability))
    return bool(law.ppf(error / 2) <= count <= law.isf(error / 2))


def at_most(count: int, n: int, rate: float, error: float) -> bool:
    """Whether ``count`` of n is compatible with a rate of at most that; ``error``: if it is that."""
    return bool(count <= stats.binom.isf(error, n, rate))
