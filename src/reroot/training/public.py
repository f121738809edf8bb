"""What ``reroot.training`` offers that needs no torch; loaded when the first of it is asked for."""

from __future__ import annotations

from . import sharpening, strategies
from .advantages import KL
from .group import Group
from .groups import BudgetSpent, collect_groups
from .likelihood_gradient import pg_or, pg_pr
from .policy_gradient import Policy, Rule
from .strategies import Start, Strategy
from .tabular import tabular_training
from .trl.callbacks import Callbacks
from .trl.config import TrainConfig
from .trl.train import train

__all__ = [
    "KL",
    "BudgetSpent",
    "Callbacks",
    "Group",
    "Policy",
    "Rule",
    "Start",
    "Strategy",
    "TrainConfig",
    "collect_groups",
    "pg_or",
    "pg_pr",
    "sharpening",
    "strategies",
    "tabular_training",
    "train",
]
