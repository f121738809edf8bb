"""Certificates of properly weighted samples: sequential Monte Carlo."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ...learners.sampling.smc import smc
from ...objective import laws
from ..case import Aim, Case, Weighted, tilted
from ..toys import COINS, LENGTHS, PRINTED, SHORT, Toy


def smc_cases() -> Iterator[Case]:
    """E[Ẑ·1[output = y]] = P(y)·τ(y) with any twist, proposal and resampler."""
    yield _smc(SHORT, 0.5, particles=2, twist="value", ess=1.0)
    yield _smc(SHORT, 0.5, particles=2, twist="value", ess=1.0, proposal="twisted")
    yield _smc(SHORT, None, particles=3, twist="value", ess=0.6)
    yield _smc(COINS, None, particles=2, twist="verifier", ess=1.0)
    yield _smc(PRINTED, 1.0, particles=2, twist="rollouts", ess=1.0, samples=1)
    for toy, scheme in ((SHORT, "multinomial"), (COINS, "stratified"), (COINS, "residual")):
        yield _smc(toy, 0.5, particles=2, twist="verifier", ess=1.0, decay=0.7, resampler=scheme)
    yield _importance()


def _smc(toy: Toy, beta: float | None, **params: Any) -> Case:
    weights = toy.rewards if beta is None else np.exp(toy.rewards / beta)
    target = tilted(toy, beta)
    return Weighted(
        learner=smc(beta=beta, **params),
        toy=toy,
        states=f"{target.name}, weighted by Ẑ; E[Ẑ] = Z",
        law=target.law,
        aim=Aim(f"{target.name}, unweighted", target.law),
        beta=beta,
        log_z=math.log(float(toy.p @ weights)),
    )


def _importance() -> Case:
    """Without twist and resampling: soft best-of-n."""
    return Case(
        learner=smc(beta=0.5, particles=2, twist=None, ess=0.0),
        toy=LENGTHS,
        states="without twist and resampling: the law of soft best-of-n",
        law=LENGTHS.law(laws.soft_best_of_n(LENGTHS.p, LENGTHS.rewards, 2, 0.5)),
        aim=tilted(LENGTHS, 0.5),
        costs={"tokens": 2 * LENGTHS.mean_length, "rewards": _distinct(LENGTHS.p)},
    )


def _distinct(p: np.ndarray) -> float:
    """Expected number of different outputs among two draws."""
    return float(2 - p @ p)
