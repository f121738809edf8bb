"""``reroot.train``: a training run in a folder; what is wrong is said before torch is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...errors import need
from ...generators.models import resolve
from ...runs.folder import CONFIG, SUMMARY, JournalFolder
from ...tasks.base import Task
from .callbacks import Callbacks
from .config import CHECKPOINTS, MODEL, TrainConfig, make_config


def train(
    model: str | Path | tuple[Any, Any],
    task: str | Task | None = None,
    *,
    out: str | Path | None = None,
    callbacks: Callbacks | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Post-train a model from the root or from prefixes, through a metered session, on TRL.

    The same call on the same folder continues a run that was interrupted, with the same result, and
    returns at once if it is finished.

    Args:
        model: ``smollm2``, a folder, a hub id, or a loaded (model, tokenizer).
        task: a task or its name; ``None``: ``problems=[…]`` brings the problems.
        out: run folder (default: a folder in ``runs/`` named by model, task and strategy).
        callbacks: are given what is measured while it is measured.
        settings: fields of ``reroot.training.TrainConfig``: ``horizon``, ``strategy`` (a name or an
            object), ``beta``, ``steps``, ….

    Returns:
        The content of ``summary.json``: ``steps``, ``reason`` ("steps", "budget" or "target"),
        ``spent`` by currency, and the last ``evaluation``.

    Raises:
        InvalidInput: a setting, the model or the task is not what is expected.
        AccessDenied: the strategy requires more than is granted.
        RunFolderError: ``out`` holds another run, or cannot be written; what is finished is safe.
        RerootError: a reward, a law or a loss is no number; the last checkpoint stays.
        Exception: what a strategy of yours raised, as it is.
    """
    return train_run(make_config({"model": model, "task": task, **settings}), out, callbacks)


def train_run(
    config: TrainConfig, out: str | Path | None = None, callbacks: Callbacks | None = None
) -> dict[str, Any]:
    """``train`` with settings that are made already."""
    folder = config.folder if out is None else Path(out)
    identity = config.identity()
    need("train", "torch", "transformers", "trl", "tensorboard", *["peft"] * bool(config.lora))
    if not isinstance(config.model, tuple):
        resolve(config.model, trust_remote_code=config.trust_remote_code)
    with JournalFolder(folder, identity, lambda line: line["name"], (CHECKPOINTS,)) as journal:
        if (folder / SUMMARY).exists() and "end" in journal.lines and (folder / MODEL).is_dir():
            return json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        from .run import Run

        try:
            return Run(config, journal, callbacks or Callbacks()).run()
        except Exception:
            if not journal.lines:  # nothing was done: the folder is free for other settings
                (folder / CONFIG).unlink()
            raise
