"""The part of a checkpoint that is ours: where strategy and account stood."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from ...errors import RunFolderError
from .frames import checkpoint_at_hand

if TYPE_CHECKING:
    from .bridge import Rollouts

STATE = "reroot.json"
"""The file of a checkpoint that says where strategy and account stood; written last."""


def saved(trainer: Any) -> dict[str, Any] | None:
    """What the checkpoint holds that training goes on from; ``None``: it starts afresh.

    Raises:
        RunFolderError: it holds nothing of ours.
    """
    folder = checkpoint_at_hand(trainer)
    if folder is None:
        return None
    try:
        return json.loads((folder / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunFolderError(
            f"the trainer goes on from step {trainer.state.global_step}, but {folder / STATE} cannot be "
            f"read: {error}"
        ) from None


class Keeper(TrainerCallback):
    """Writes the state into every checkpoint, and goes back to it when training does."""

    def __init__(self, rollouts: Rollouts, trainer: Any) -> None:
        self._rollouts, self._trainer = rollouts, trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        found = saved(self._trainer)
        if found is not None and self._rollouts.collector is not None:
            self._rollouts.collector.restore(found)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            self._rollouts.save(folder)
