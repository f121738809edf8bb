"""Training: learners that change the generator they sample, reaching it through a session alone."""

from __future__ import annotations

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
    """What is loaded when it is asked for: the settings alone must be had at once by the command line.

    Raises:
        MissingDependency: it needs torch and TRL, and they are not installed.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in ("SessionTrainer", "rollouts_for_trl"):
        need("train", "torch", "transformers", "trl")
        from .trl.bridge import rollouts_for_trl
        from .trl.trainer import SessionTrainer

        return rollouts_for_trl if name == "rollouts_for_trl" else SessionTrainer
    from .advantages import KL
    from .policy_gradient import Policy, Rule
    from .strategies import Start, Strategy
    from .tabular import tabular_training
    from .trl.callbacks import Callbacks
    from .trl.config import TrainConfig
    from .trl.train import train

    classes = (KL, Policy, Rule, Start, Strategy, Callbacks, TrainConfig)
    found = {each.__name__: each for each in classes}
    return (globals() | found | {"tabular_training": tabular_training, "train": train})[name]
