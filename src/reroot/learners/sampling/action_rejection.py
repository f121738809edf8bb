"""Sampling token by token in proportion to values, without ever looking back."""

from __future__ import annotations

from contextlib import suppress

from ...access.learner import learner
from ...access.session import Session
from ...errors import BudgetExceeded
from ...types import Prefix
from .choices import choose, relative
from .twists import Twists, children_of, drawn_below, walking


@learner(requires=walking)
async def action_rejection(
    session: Session,
    *,
    beta: float | None = None,
    twist: str | None = "verifier",
    children: int | None = None,
    decay: float = 1.0,
    samples: int = 4,
) -> Prefix:
    """A draw from Π_t P(a|u)·V̂(ua)/Σ_b P(b|u)·V̂(ub): the target if V̂ is exact, else errors add up.

    Pseudo-code (Rohatgi et al. 2025, arXiv 2510.03149, ActionLevelRS)::

        u ← ∅;  until u is an output:  u ← ua with probability ∝ P(a | u)·V̂(ua)

    V̂ off by a factor 1 + ε on one token in each law costs about ε·√H in total variation, and values
    that lag one token behind leave P as it is. ``vgb`` pays a walk to be free of both. Below a prefix
    none of whose children has a positive value, the rest is drawn from P.

    Args:
        beta: β, in reward per nat; ``None``: the law conditioned on the reward.
        twist: V̂ (see ``twists.TWISTS``).
        children: only the so many most likely tokens are weighed (see ``vgb``).
        decay, samples: of the twist.
    """
    twists = Twists(session, twist, beta, decay, samples)
    node = session.root
    with suppress(BudgetExceeded):
        while not session.is_complete(node):
            below, law = await children_of(session, node, children)
            weights = relative(law + await twists.log(below))
            if not weights.any():
                break
            node = below[choose(session, weights)]
    return await drawn_below(session, node, children)
