"""The part of a checkpoint that is ours: where strategy and account stood."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from ...errors import RunFolderError
from ...runs.folder import write_json
from .collector import Collector
from .frames import checkpoint_at_hand

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

    def __init__(self, collector: Collector, trainer: Any) -> None:
        self._collector, self._trainer = collector, trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if (found := saved(self._trainer)) is not None:
            self._collector.restore(found)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            write_json(folder / STATE, self._collector.state())
