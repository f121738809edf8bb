"""Learners that measure: what they find out of a problem is in the finding's metadata."""

from __future__ import annotations

from .demonstrations import demonstration_law, value_in_demonstration
from .reach import reach_clouds
from .rollout import guarded_rollout, rollout
from .walked import walked_group

__all__ = [
    "demonstration_law",
    "guarded_rollout",
    "reach_clouds",
    "rollout",
    "value_in_demonstration",
    "walked_group",
]
