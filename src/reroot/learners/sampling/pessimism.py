"""Inference-time pessimism: rejection sampling of the χ²-regularized optimum."""

from __future__ import annotations

import numpy as np

from ...access.learner import learner
from ...access.session import Session
from ...limits import pessimistic_level
from ...types import Finding, Prefix
from ..common import COUNT, GROWTH, POSITIVE, REAL, checked
from .choices import first_accepted, sampled_rewards


@learner(
    requires=checked(
        "root/sample+reward",
        n=COUNT,
        batch=COUNT,
        beta=POSITIVE,
        top=REAL,
        level=REAL.or_none,
        growth=GROWTH,
    )
)
async def inference_time_pessimism(
    session: Session,
    *,
    n: int = 16,
    beta: float = 0.2,
    top: float = 1.0,
    level: float | None = None,
    batch: int = 4,
    growth: float = 2.0,
) -> Finding | None:
    """A draw whose density ratio is linear in the reward, so that a wrong reward cannot be overused.

    Pseudo-code (Huang et al. 2025, arXiv 2503.21878, InferenceTimePessimism)::

        y¹ … yᴺ ~ P;  λ solves (1/N)·Σ_i max(0, (r(yⁱ) - λ)/β) = 1      (unless λ is given)
        M ← (R_max - λ)/β
        up to N times:  y ~ P;  return y with probability min(1, max(0, (r(y) - λ)/β) / M)
        return one more rollout

    With the exact λ the law is a mixture of P·max(0, (r - λ)/β) and, with probability (1 - 1/M)^N, P;
    the expected number of proposals is about M. The note ``accepted`` says how it ended.

    Args:
        n: N, rollouts for λ and at most as many proposals.
        beta: β, in reward units.
        top: R_max, the largest reward.
        level: λ, where it is known.
        batch, growth: rollouts of the first batch, and the factor from each to the next (at most 256).
    """
    estimate: list[Prefix] = []
    if level is None:
        estimate, rewards = await sampled_rewards(session, n)
        if not rewards:
            return Finding(estimate[0], {"accepted": False}) if estimate else None
        level = pessimistic_level(rewards, np.full(len(rewards), 1.0 / len(rewards)), beta)
    ratio = max(top - level, 0.0)

    def probability(reward: float) -> float:
        return max(0.0, reward - level) / ratio if ratio else float(reward >= level)

    output, accepted = await first_accepted(
        session, n, probability, batch=batch, growth=growth, spare=estimate
    )
    return None if output is None else Finding(output, {"accepted": accepted, "level": level})
