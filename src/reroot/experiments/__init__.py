"""The paper, verified by running it: one experiment per claim, with immutable ids."""

from __future__ import annotations

from .base import Check, Experiment
from .runner import Reproduction, reproduce
from .suite import get_experiment, list_experiments

__all__ = [
    "Check",
    "Experiment",
    "Reproduction",
    "get_experiment",
    "list_experiments",
    "reproduce",
]
