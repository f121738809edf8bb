"""Training: learners that change the generator they sample, reaching it through a session alone."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ..errors import need

if TYPE_CHECKING:
    from . import strategies
    from .advantages import KL
    from .policy_gradient import Policy, Rule
    from .strategies.base import Start, Strategy
    from .tabular import tabular_training
    from .trl.bridge import rollouts_for_trl
    from .trl.config import TrainConfig
    from .trl.train import Callbacks, train
    from .trl.trainer import SessionTrainer

_LAZY = {
    "KL": ".advantages",
    "Policy": ".policy_gradient",
    "Rule": ".policy_gradient",
    "SessionTrainer": ".trl.trainer",
    "Start": ".strategies.base",
    "Strategy": ".strategies.base",
    "TrainConfig": ".trl.config",
    "Callbacks": ".trl.train",
    "rollouts_for_trl": ".trl.bridge",
    "tabular_training": ".tabular",
    "train": ".trl.train",
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
    """Each name is loaded when it is asked for.

    Raises:
        MissingDependency: it needs torch and TRL, and they are not installed.
    """
    if name == "strategies":
        return importlib.import_module(".strategies", __name__)
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in ("SessionTrainer", "rollouts_for_trl"):
        need("train", "torch", "transformers", "trl")
    return getattr(importlib.import_module(_LAZY[name], __name__), name)
