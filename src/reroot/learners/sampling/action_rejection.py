"""Sampling token by token in proportion to values, without ever looking back."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ...access.contract import Contract, Control, Report
from ...errors import BudgetExceeded
from ...types import Prefix
from ..base import learner
from ..common import whole
from .choices import choose, relative
from .twists import Twists, check_twist, children_of

if TYPE_CHECKING:
    from ...access.session import Session


def _requires(params: Mapping[str, Any]) -> Contract:
    whole(params, "children", optional=True)
    oracles = check_twist(params)
    report = Report.FULL if params["children"] is None else Report.ARGMAX(params["children"])
    if params["twist"] == "rollouts":
        report = report.join(Report.SAMPLE)
    return Contract(Control.RESET, report, oracles=oracles)


@learner(requires=_requires)
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
    that lag one token behind leave P as it is. ``vgb`` pays a walk to be free of both. It ends early
    where no child has a positive value.

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
    return node
