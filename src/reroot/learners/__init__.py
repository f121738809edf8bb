"""Learners: async functions over a session, each with the weakest contract it needs."""

from __future__ import annotations

from ..access.learner import BoundLearner, LearnerFactory, learner
from .registry import DEFAULT_COMPARISON, find_learner, get_learner, list_learners

__all__ = [
    "DEFAULT_COMPARISON",
    "BoundLearner",
    "LearnerFactory",
    "find_learner",
    "get_learner",
    "learner",
    "list_learners",
]
