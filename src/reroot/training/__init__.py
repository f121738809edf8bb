"""Training: learners that change the generator they sample, reaching it through a session alone."""

from __future__ import annotations

from .policy_gradient import Policy, Rule
from .trainer import ARMS, train

__all__ = ["ARMS", "Policy", "Rule", "train"]
