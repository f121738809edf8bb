"""Training: learners that change the generator they sample, reaching it through a session alone."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ..errors import need

if TYPE_CHECKING:
    from . import strategies
    from .advantages import KL
    from .policy_gradient import Policy, Rule
    from .strategies import Start, Strategy
    from .tabular import tabular_training
    from .trl.bridge import rollouts_for_trl
    from .trl.callbacks import Callbacks
    from .trl.config import TrainConfig
    from .trl.train import train
    from .trl.trainer import SessionTrainer

_LAZY = {
    "KL": ".advantages",
    **dict.fromkeys(("Policy", "Rule"), ".policy_gradient"),
    **dict.fromkeys(("Start", "Strategy"), ".strategies"),
    "tabular_training": ".tabular",
    "rollouts_for_trl": ".trl.bridge",
    "Callbacks": ".trl.callbacks",
    "TrainConfig": ".trl.config",
    "train": ".trl.train",
    "SessionTrainer": ".trl.trainer",
}

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
    """What is loaded when it is asked for; some of it needs torch and TRL.

    Raises:
        MissingDependency: they are not installed.
    """
    if name == "strategies":
        return importlib.import_module(".strategies", __name__)
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in ("SessionTrainer", "rollouts_for_trl"):
        need("train", "torch", "transformers", "trl")
    return getattr(importlib.import_module(_LAZY[name], __name__), name)
