"""One training run of a small transformer."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from transformers.trainer_callback import PrinterCallback
from trl.trainer.grpo_config import GRPOConfig

from ...generators.models import load, quiet
from ...training import KL, SessionTrainer, rollouts_for_trl
from ...training.groups import BudgetSpent
from ...training.strategies import get_strategy
from ...training.trl.setup import UNSCALED
from ...types import Budget
from .arms import ARMS, BETA2, GROUPS, RATE, ROOTS, SIZE, Training
from .base_policy import one_thread
from .recorder import Curve, Recorder


def train_arm(base: Path, run: Training) -> Curve:
    """Train until the target is reached, or ``run.budget`` generated tokens are spent.

    The target is a reach of 0.9 from the root, and J*_β/2 where β > 0.

    Args:
        base: folder of the policy to start from.
        run: what to train, and how.
    """
    with tempfile.TemporaryDirectory() as scratch, quiet(), one_thread():
        trainer = make_trainer(base, run, Path(scratch))
        trainer.remove_callback(PrinterCallback)
        recorder = Recorder(trainer, base, run)
        trainer.add_callback(recorder)
        with suppress(BudgetSpent):
            trainer.train()
    return recorder.curve


def make_trainer(base: Path, run: Training, scratch: Path) -> Any:
    """The trainer of a run: the same in all arms but for where groups start."""
    model, tokenizer = load(base)
    problems = run.problems()
    rollouts = rollouts_for_trl(
        get_strategy(ARMS[run.arm]),
        budget=Budget(tokens=run.budget),
        problems=problems,
        roots=ROOTS if run.beta else 0,
        seed=run.seed,
    )
    args = GRPOConfig(
        **UNSCALED,
        output_dir=str(scratch),
        per_device_train_batch_size=GROUPS * SIZE,
        num_generations=SIZE,
        max_completion_length=max(p.max_tokens for p in problems),
        max_steps=10**9,
        learning_rate=RATE,
        adam_beta2=BETA2,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        seed=run.seed,
        use_cpu=True,
    )
    return SessionTrainer(
        model=model,
        processing_class=tokenizer,
        args=args,
        rollouts=rollouts,
        kl=KL(run.beta) if run.beta else None,
    )
