"""Training: learners that change the generator they sample, reaching it through a session alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import need

if TYPE_CHECKING:
    from .public import (
        KL,
        BudgetSpent,
        Callbacks,
        Group,
        Policy,
        Rule,
        Start,
        Strategy,
        TrainConfig,
        collect_groups,
        pg_or,
        pg_pr,
        sharpening,
        strategies,
        tabular_training,
        train,
    )
    from .trl.bridge import rollouts_for_trl
    from .trl.trainer import SessionTrainer

__all__ = [
    "KL",
    "BudgetSpent",
    "Callbacks",
    "Group",
    "Policy",
    "Rule",
    "SessionTrainer",
    "Start",
    "Strategy",
    "TrainConfig",
    "collect_groups",
    "pg_or",
    "pg_pr",
    "rollouts_for_trl",
    "sharpening",
    "strategies",
    "tabular_training",
    "train",
]


def __getattr__(name: str) -> Any:
    """What is loaded when it is asked for; some of it needs torch and TRL.

    Raises:
        MissingDependency: they are not installed.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in ("SessionTrainer", "rollouts_for_trl"):
        from . import public

        return getattr(public, name)
    need("train", "torch", "transformers", "trl")
    if name == "SessionTrainer":
        from .trl.trainer import SessionTrainer

        return SessionTrainer
    from .trl.bridge import rollouts_for_trl

    return rollouts_for_trl
