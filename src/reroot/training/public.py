"""What ``reroot.training`` offers that needs no torch; loaded when the first of it is asked for."""

from __future__ import annotations

from . import strategies
from .advantages import KL
from .policy_gradient import Policy, Rule
from .strategies import Start, Strategy
from .tabular import tabular_training
from .trl.callbacks import Callbacks
from .trl.config import TrainConfig
from .trl.train import train

__all__ = [
    "KL",
    "Callbacks",
    "Policy",
    "Rule",
    "Start",
    "Strategy",
    "TrainConfig",
    "strategies",
    "tabular_training",
    "train",
]
