"""Learners that measure: what they find out of a problem is in the finding's metadata."""

from __future__ import annotations

from .demonstrations import demonstration_law, from_demonstration
from .reach import reach_clouds
from .rollout import rollout
from .walked import walked_group

__all__ = ["demonstration_law", "from_demonstration", "reach_clouds", "rollout", "walked_group"]
