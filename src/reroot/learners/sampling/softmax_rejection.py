"""Rejection sampling of the KL tilt, with its normalizer known or estimated."""

from __future__ import annotations

import math

import numpy as np

from ...access.learner import learner
from ...access.session import Session
from ...types import Finding, Prefix
from ..common import COUNT, GROWTH, POSITIVE, REAL, between, checked
from .choices import first_accepted, sampled_rewards


@learner(
    requires=checked(
        "root/sample+reward",
        beta=POSITIVE,
        bound=POSITIVE,
        delta=between(0.0, 1.0),
        n=COUNT.or_none,
        log_normalizer=REAL.or_none,
        batch=COUNT,
        growth=GROWTH,
    )
)
async def softmax_rejection(
    session: Session,
    *,
    beta: float = 0.2,
    bound: float = 8.0,
    delta: float = 0.1,
    n: int | None = None,
    log_normalizer: float | None = None,
    batch: int = 4,
    growth: float = 2.0,
) -> Finding | None:
    """A draw from the KL tilt P·e^(r/β)/Z by rejection.

    Pseudo-code (SoftmaxSampler, Foster et al. 2025, arXiv 2503.07453)::

        N ← ⌈4·M·ln(4/δ)⌉
        Ẑ ← mean of e^(r(y)/β) over N rollouts     (unless log Z is given)
        up to N times:  y ~ P;  return y with probability min(1, e^(r(y)/β) / (Ẑ·M))
        return one more rollout

    Given acceptance the law is the tilt exactly, as long as Ẑ·M bounds e^(r/β); M >= 4·sup π/P makes
    that happen with probability at least 1 - δ. With log Z given and a = 1/M the law is
    (1 - (1 - a)^N)·tilt + (1 - a)^N·P, and the expected number of proposals min(N, …) about M.
    The note ``accepted`` says how it ended.

    Args:
        beta: β, in reward per nat.
        bound: M, at least the largest density ratio of the tilt to P.
        delta: δ.
        n: N in place of the formula.
        log_normalizer: log Z = log E_P[e^(r/β)], where it is known.
        batch, growth: rollouts of the first batch, and the factor from each to the next (at most 256).
    """
    proposals = n if n is not None else math.ceil(4.0 * bound * math.log(4.0 / delta))
    estimate: list[Prefix] = []
    base, log_z = 0.0, log_normalizer  # Z·e^(−base/β), so that a small β loses no digits
    if log_z is None:
        estimate, rewards = await sampled_rewards(session, proposals)
        if not rewards:
            return Finding(estimate[0], {"accepted": False}) if estimate else None
        base = max(rewards)
        tilts = (np.array(rewards) - base) / beta
        log_z = float(np.logaddexp.reduce(tilts) - math.log(len(tilts)))
    top = log_z + math.log(bound)

    def probability(reward: float) -> float:
        return math.exp(min(0.0, (reward - base) / beta - top))

    output, accepted = await first_accepted(
        session, proposals, probability, batch=batch, growth=growth, spare=estimate
    )
    notes = {"accepted": accepted, "log_normalizer": base / beta + log_z}
    return None if output is None else Finding(output, notes)
