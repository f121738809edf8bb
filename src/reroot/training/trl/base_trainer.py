"""What all trainers of ``reroot train`` have in common, whoever generates."""

from __future__ import annotations

import copy
import math
from typing import Any

from trl.trainer.grpo_trainer import GRPOTrainer

from ...errors import BackendError, InvalidInput, RunFolderError
from ..advantages import KL
from .order import order_for


class BaseTrainer(GRPOTrainer):
    """``GRPOTrainer`` with an order of prompts that a resumed run keeps to, and finite losses alone.

    Args:
        kl: the KL term; it takes the place of ``GRPOConfig.beta``.
        args, others: as for ``GRPOTrainer``.

    Attributes:
        kl_estimate: nats per output, mean of Σ log π/P over the root rollouts of the last step;
            ``None`` where it was not needed.

    Raises:
        InvalidInput: ``args.beta`` is set as well.
    """

    def __init__(self, *, kl: KL | None = None, args: Any, **others: Any) -> None:
        self.kl = kl or KL()
        if args.beta:
            raise InvalidInput(f"give the KL as kl=KL(beta={args.beta}), not as args.beta")
        if self.kl.estimator == "k3_loss":
            args = copy.copy(args)
            args.beta = self.kl.beta
        self.kl_estimate: float | None = None
        super().__init__(args=args, **others)

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        """With ``max_steps``: an order that a resumed run keeps to."""
        data = self.train_dataset if dataset is None else dataset
        if self.args.max_steps <= 0 or not hasattr(data, "__len__"):
            return super()._get_train_sampler(dataset)
        return order_for(self, data)

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """TRL's loss; where all advantages are 0 its gradient is too, and no forward pass is made."""
        nothing_else = not (self.beta or self._entropy_bonus_enabled or self.aux_loss_enabled)
        alone = self.accelerator.num_processes == 1  # processes must do the same passes
        if alone and nothing_else and model.training and not inputs["advantages"].any():
            return sum((p * 0.0).sum() for p in model.parameters() if p.requires_grad)
        return super().compute_loss(model, inputs, *args, **kwargs)

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """TRL's step; a loss that is no number ends training before it reaches the weights.

        Raises:
            BackendError: the loss is not finite.
        """
        loss = super().training_step(*args, **kwargs)
        if not math.isfinite(float(loss)):
            raise BackendError(
                f"the loss of step {self.state.global_step + 1} is {float(loss)}; the weights are "
                "those of the step before. A smaller learning rate may help"
            )
        return loss

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """TRL's checkpoint.

        Raises:
            RunFolderError: it cannot be written.
        """
        try:
            super()._save_checkpoint(*args, **kwargs)
        except Exception as error:
            full = type(error).__name__ == "SafetensorError"  # a full disk, as safetensors tells it
            if not (full or isinstance(error, OSError)):
                raise
            raise RunFolderError(
                f"can't write {self.args.output_dir}: {error}. Make room and run the same command "
                "again: it continues from the last checkpoint"
            ) from error
