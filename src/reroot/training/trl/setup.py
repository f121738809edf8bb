"""What a training run is set up with: TRL's settings, what is trained, where to go on."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from ...errors import InvalidInput
from .checkpoints import STATE
from .config import CHECKPOINTS, TrainConfig

UNSCALED: dict[str, Any] = {
    "steps_per_generation": 1,
    "lr_scheduler_type": "constant",
    "weight_decay": 0.0,
    "loss_type": "dr_grpo",
    "scale_rewards": "none",
    "beta": 0.0,
    "disable_tqdm": True,
    "bf16": False,
    "gradient_checkpointing": False,
}
"""Settings of ``GRPOConfig`` under which a step follows the gradient that ``training.advantages`` states."""


def step_of(checkpoint: Path) -> int:
    """The step after which a checkpoint was written."""
    return int(checkpoint.name.removeprefix("checkpoint-"))


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint; those that a kill left unfinished are removed."""
    whole: dict[int, Path] = {}
    for path in folder.glob("checkpoint-*"):
        number = path.name.removeprefix("checkpoint-")
        if number.isdecimal() and (path / STATE).is_file():
            whole[int(number)] = path
        else:
            shutil.rmtree(path, ignore_errors=True)
    return whole[max(whole)] if whole else None


def grpo_config(config: TrainConfig, folder: Path, longest: int) -> Any:
    """TRL's settings of a run.

    Raises:
        InvalidInput: a setting of ``config.trl`` is unknown or refused by TRL.
    """
    import torch
    from trl.trainer.grpo_config import GRPOConfig

    law = config.contract.sampling
    assert law is not None
    settings: dict[str, Any] = {
        **UNSCALED,
        "output_dir": str(folder / CHECKPOINTS),
        "per_device_train_batch_size": config.groups * config.size,
        "num_generations": config.size,
        "max_completion_length": longest,
        "max_steps": config.steps,
        "learning_rate": config.learning_rate,
        "temperature": law.temperature,
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": config.save_every,
        "save_total_limit": 2,
        "report_to": ["tensorboard"],
        "seed": config.seed,
        "data_seed": config.seed,
        "use_cpu": not torch.cuda.is_available(),
    }
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder / "tensorboard")
    try:
        return GRPOConfig(**(settings | dict(config.trl)))
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"TRL refuses these settings: {error}") from error


def freeze_below(model: Any, last: int) -> None:
    """Leave the last layers trainable, and no other weight.

    Raises:
        InvalidInput: the model has fewer layers, or does not keep them as ``layers`` or ``h``.
    """
    base = model.base_model
    layers = getattr(base, "layers", getattr(base, "h", None))
    if layers is None or len(layers) < last:
        have = "no list of layers" if layers is None else f"{len(layers)} layers"
        raise InvalidInput(f"last_layers={last}, but this {model.config.model_type} has {have}")
    model.requires_grad_(False)
    for layer in layers[-last:]:
        layer.requires_grad_(True)


def lora(rank: int) -> Any:
    if not rank:
        return None
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
