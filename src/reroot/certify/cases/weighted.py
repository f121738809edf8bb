"""Certificates of properly weighted samples: sequential Monte Carlo."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...learners.sampling.smc import smc
from ...objective import conditioned_law, gibbs_policy, laws
from ..case import Aim, Case, Weighted
from ..toys import COINS, LENGTHS, PRINTED, SHORT, Toy


def smc_cases() -> list[Case]:
    """E[Ẑ·1[output = y]] = P(y)·τ(y) with any twist, proposal and resampler."""
    found = [
        _smc(SHORT, 0.5, particles=2, twist="value", ess=1.0),
        _smc(SHORT, 0.5, particles=2, twist="value", ess=1.0, proposal="twisted"),
        _smc(SHORT, None, particles=3, twist="value", ess=0.6),
        _smc(COINS, None, particles=2, twist="verifier", ess=1.0),
        _smc(PRINTED, 1.0, particles=2, twist="rollouts", ess=1.0, samples=1),
    ]
    found += [
        _smc(toy, 0.5, particles=2, twist="verifier", ess=1.0, decay=0.7, resampler=scheme)
        for toy, scheme in ((SHORT, "multinomial"), (COINS, "stratified"), (COINS, "residual"))
    ]
    found.append(_importance())
    return found


def _smc(toy: Toy, beta: float | None, **params: Any) -> Case:
    weights = toy.rewards if beta is None else np.exp(toy.rewards / beta)
    policy = (
        conditioned_law(toy.tree, toy.rewards)
        if beta is None
        else gibbs_policy(toy.tree, toy.rewards, beta)
    )
    name = "P given r" if beta is None else f"KL tilt, β = {beta:g}"
    target = toy.law(toy.of(policy))
    return Weighted(
        method="smc",
        learner=smc(beta=beta, **params),
        toy=toy,
        states=f"{name}, weighted by Ẑ; E[Ẑ] = Z",
        law=target,
        aim=Aim(f"{name}, unweighted", target),
        beta=beta,
        log_z=math.log(float(toy.p @ weights)),
    )


def _importance() -> Case:
    """Without twist and resampling: soft best-of-n."""
    return Case(
        method="smc",
        learner=smc(beta=0.5, particles=2, twist=None, ess=0.0),
        toy=LENGTHS,
        states="without twist and resampling: the law of soft best-of-n",
        law=LENGTHS.law(laws.soft_best_of_n(LENGTHS.p, LENGTHS.rewards, 2, 0.5)),
        aim=Aim(
            "KL tilt, β = 0.5",
            LENGTHS.law(LENGTHS.of(gibbs_policy(LENGTHS.tree, LENGTHS.rewards, 0.5))),
        ),
        costs={"tokens": 2 * LENGTHS.mean_length, "rewards": _distinct(LENGTHS.p)},
    )


def _distinct(p: np.ndarray) -> float:
    """Expected number of different outputs among two draws."""
    return float(2 - p @ p)
