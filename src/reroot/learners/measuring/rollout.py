"""One rollout, as a trainer draws it."""

from __future__ import annotations

from ...access.learner import learner
from ...access.session import Session
from ...types import Prefix


@learner(requires="root/sample")
async def rollout(session: Session) -> Prefix:
    """One output from the root."""
    return (await session.rollouts(1)).outputs()[0]
