"""Training: learners that change the generator they sample, reaching it through a session alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import strategies
from .advantages import KL
from .policy_gradient import Policy, Rule
from .trainer import ARMS, train

if TYPE_CHECKING:
    from .trl.bridge import rollouts_for_trl
    from .trl.trainer import SessionTrainer

__all__ = [
    "ARMS",
    "KL",
    "Policy",
    "Rule",
    "SessionTrainer",
    "rollouts_for_trl",
    "strategies",
    "train",
]

_NEED_TRL = {"rollouts_for_trl": "bridge", "SessionTrainer": "trainer"}


def __getattr__(name: str) -> Any:
    """What needs torch and TRL is loaded when it is asked for.

    Raises:
        MissingDependency: they are not installed.
    """
    if name not in _NEED_TRL:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    from ..errors import need

    need("train", "torch", "transformers", "trl")
    return getattr(import_module(f".trl.{_NEED_TRL[name]}", __name__), name)
