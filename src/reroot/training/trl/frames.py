"""What a trainer is at, read where it is at it.

TRL hands a ``rollout_func`` the prompts alone. The rows that they come from, and the checkpoint that
training goes on from, are known to the methods of the trainer that are running, and kept nowhere else.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]


def rows_at_hand(trainer: Any) -> Sequence[Row] | None:
    """The rows, one per rollout, that ``trainer`` generates for; ``None``: it does not say."""
    for known in _locals(trainer, "_generate_and_score_completions"):
        if isinstance(rows := known.get("inputs"), list):
            return rows
    return None


def checkpoint_at_hand(trainer: Any) -> Path | None:
    """The folder that the ``train`` under way goes on from; ``None``: it starts afresh."""
    for known in _locals(trainer, "_inner_training_loop", "train"):
        if isinstance(folder := known.get("resume_from_checkpoint"), (str, Path)):
            return Path(folder)
    return None


def _locals(trainer: Any, *names: str) -> Iterator[Mapping[str, Any]]:
    """Local variables of the trainer's methods of these names that are running, innermost first."""
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name in names and frame.f_locals.get("self") is trainer:
            yield frame.f_locals
        frame = frame.f_back
