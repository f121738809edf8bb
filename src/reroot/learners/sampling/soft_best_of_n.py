"""Soft best-of-n: one of n rollouts, drawn by its tilted reward."""

from __future__ import annotations

import numpy as np

from ...access.learner import learner
from ...access.session import Session
from ...types import Prefix
from ..common import COUNT, POSITIVE, affordable, checked, collect
from .choices import choose, relative


@learner(requires=checked("root/sample+reward", n=COUNT, beta=POSITIVE))
async def soft_best_of_n(session: Session, *, n: int = 16, beta: float = 0.1) -> Prefix | None:
    """One of n rollouts, drawn with probability ∝ e^(r/β).

    Pseudo-code (Verdun et al. 2025, arXiv 2505.03156)::

        y¹ … yⁿ ~ P                                (fewer when the budget does not allow n)
        return yⁱ with probability e^(r(yⁱ)/β) / Σ_j e^(r(yʲ)/β)

    β → 0 is best-of-n. Its law is P(y)·E[n·e^(r(y)/β) / (e^(r(y)/β) + Σ_{j<n} e^(r(yʲ)/β))], which
    tends to the KL tilt P·e^(r/β)/Z as n grows.

    Args:
        n: rollouts.
        beta: β, in reward per nat.
    """
    outputs = await collect(session, session.root, affordable(session, n, rewards=1))
    if not outputs:
        return None
    rewards = np.array(await session.rewards(outputs))
    return outputs[choose(session, relative((rewards - rewards.max()) / beta))]
