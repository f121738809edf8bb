"""Certificates of reward-guided exploration: the returned draw is of the softmax sampler at the optimum."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ...families import Needle
from ...learners.spanners.mtss import mtss
from ...learners.spanners.spanner_sampling import spanner_sampling
from ...objective import gibbs_policy
from ...types import FloatArray
from ..case import Aim, Sampled
from ..toys import Toy

_BETA, _TRIES = 0.5, 16


def _toy(horizon: int) -> tuple[Needle, Toy]:
    law = Needle(2, horizon, seed=1)
    what = f"uniform, K = 2, H = {horizon}, one right output, its path marked by features"
    return law, Toy(f"needle {horizon}", what, law, law.mean_reward)


def sampler_law(exponents: FloatArray, p: float, draws: int, bound: float, tries: int) -> float:
    """Probability that SoftmaxSampler gives outcome 1 of two, which P gives with probability p.

    Ẑ is of ``draws`` draws of which k are outcome 1; a proposal a is accepted with probability
    min(1, e^{f_a}/(Ẑ·M)), and the first of a batch is taken where all ``tries`` are rejected.

    Args:
        exponents: (2,) f/β.
    """
    weights, base = np.exp(exponents), np.array([1 - p, p])
    found = 0.0
    for k in range(draws + 1):
        chance = math.comb(draws, k) * p**k * (1 - p) ** (draws - k)
        z = ((draws - k) * weights[0] + k * weights[1]) / draws
        accept = np.minimum(1.0, weights / (z * bound))
        hit = float(base @ accept)
        missed = (1 - hit) ** tries
        rest = base[1] * (1 - accept[1]) / (1 - hit) if hit < 1 else 0.0
        found += chance * ((1 - missed) * base[1] * accept[1] / hit + missed * rest)
    return found


def exploration_cases() -> Iterator[Sampled]:
    """Rewards are exact here, so θ is θ* up to the ridge."""
    law, toy = _toy(1)
    C = law.coverage(_BETA)
    M = 2 * C
    right = sampler_law(np.array([0.0, 1 / _BETA]), 0.5, math.ceil(4 * M), M, math.ceil(_TRIES * M))
    probabilities = np.where(toy.passes, right, 1 - right)
    yield Sampled(
        learner=spanner_sampling(beta=_BETA, coverage=C, rounds=2),
        toy=toy,
        states="SoftmaxSampler's law at θ*, by the binomial law of its Ẑ",
        law=toy.law(probabilities),
        aim=Aim("π*", toy.law_of(gibbs_policy(toy.tree, toy.rewards, _BETA))),
        samples=600,
    )
    law, toy = _toy(2)
    C, N = law.conditional_coverage(_BETA), 16
    M = 2 * max(1.0, C)
    steps = [
        sampler_law(np.array([0.0, gain / _BETA]), 0.5, N, M, math.ceil(_TRIES * M))
        for gain in (float(np.linalg.norm(law.theta(h, _BETA))) for h in (1, 2))
    ]
    path, found = law.path, np.zeros(len(toy.p))
    for i, y in enumerate(toy.tree.outputs):
        first = steps[0] if y[0] == path[0] else 1 - steps[0]
        second = steps[1] if y[1] == path[1] else 1 - steps[1]
        found[i] = first * (second if y[0] == path[0] else 0.5)
    yield Sampled(
        learner=mtss(beta=_BETA, coverage=C),
        toy=toy,
        states="SoftmaxSampler's law at θ*, token by token",
        law=toy.law(found),
        aim=Aim("π*", toy.law_of(gibbs_policy(toy.tree, toy.rewards, _BETA))),
        samples=300,
    )
