"""Training: learners that change the generator they sample, reaching it through a session alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import need
from . import strategies
from .advantages import KL
from .policy_gradient import Policy, Rule
from .strategies import Start, Strategy
from .tabular import tabular_training
from .trl.callbacks import Callbacks
from .trl.config import TrainConfig
from .trl.train import train

if TYPE_CHECKING:
    from .trl.bridge import rollouts_for_trl
    from .trl.trainer import SessionTrainer

__all__ = [
    "KL",
    "Callbacks",
    "Policy",
    "Rule",
    "SessionTrainer",
    "Start",
    "Strategy",
    "TrainConfig",
    "rollouts_for_trl",
    "strategies",
    "tabular_training",
    "train",
]


def __getattr__(name: str) -> Any:
    """What needs torch and TRL is loaded when it is asked for.

    Raises:
        MissingDependency: they are not installed.
    """
    if name not in ("SessionTrainer", "rollouts_for_trl"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    need("train", "torch", "transformers", "trl")
    if name == "SessionTrainer":
        from .trl.trainer import SessionTrainer

        return SessionTrainer
    from .trl.bridge import rollouts_for_trl

    return rollouts_for_trl
