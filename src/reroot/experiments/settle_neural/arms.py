"""One training run of a small transformer: an arm, a horizon, a seed; all else is the same."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...tasks.base import Problem
from ...training.strategies import get_strategy
from ...types import Budget

if TYPE_CHECKING:
    from .recorder import Curve

ARMS = {
    "root": "root",
    "plurality": "plurality:draws=64,margin=8",
    "argmax": "argmax",
    "self_reset": "self_reset",
    "verified": "verified",
    "adaback": "adaback",
    "r3": "r3:stages=8",
}
"""Arm → where its groups start."""

OUTCOME_ONLY = ("root", "plurality", "argmax", "self_reset")
"""Arms that have the outcome reward and no other oracle."""

GROUPS, SIZE = 16, 8
"""Start prefixes of a step, and rollouts of each."""

RATE, BETA2 = 1e-3, 0.99
"""Of AdamW. With the usual β₂ = 0.999 the first step after a long silence is 3 times as large as others."""

TARGET = 0.9
"""Mean probability of a right output from the root, at which a run ends."""

HELD_OUT_SEED = 10_000

WIDTH = 32
"""Bits of every prompt, whatever the horizon, so that one base policy serves all horizons."""

PROMPTS = 512
HELD_OUT = 64
"""Prompts that the reach is measured on: exactly, and not paid for."""


ROOTS = 2
"""Groups of each step that start at the empty prefix in every arm where β > 0: the KL is estimated on them."""


EVERY = 2
"""J_β is measured after every second step since the first reward: its KL takes about a quarter of a step."""


@dataclass(frozen=True, slots=True)
class Training:
    """One run: what its policy is trained for, and from where.

    Attributes:
        task, horizon: problems.
        arm: a key of ``ARMS``.
        seed: of problems and draws.
        budget: generated tokens.
        beta: β >= 0, reward per nat; 0: no KL.
    """

    task: str
    arm: str
    horizon: int
    seed: int
    budget: int
    beta: float = 0.0

    def problems(self) -> list[Problem]:
        """What is trained on."""
        return problems_of(self.task, self.horizon, PROMPTS, self.seed)

    def held_out(self) -> list[Problem]:
        """What the policy is measured on, the same for every seed."""
        return problems_of(self.task, self.horizon, HELD_OUT, HELD_OUT_SEED)


def problems_of(task: str, horizon: int, count: int, seed: int) -> list[Problem]:
    """Problems with prompts of full width, so that one policy serves every horizon."""
    from ...tasks.registry import get_task

    return list(get_task(f"{task}:width={WIDTH}").problems(horizon, count, seed))


def train_arm(base: Path, run: Training) -> Curve:
    """Train until the target is reached, or ``run.budget`` generated tokens are spent.

    The target is a reach of 0.9 from the root, and J*_β/2 where β > 0.

    Args:
        base: folder of the policy to start from.
        run: what to train, and how.
    """
    from transformers.trainer_callback import PrinterCallback

    from ...generators.models import quiet
    from ...training.groups import BudgetSpent
    from .base_policy import one_thread
    from .recorder import Recorder

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
    from trl.trainer.grpo_config import GRPOConfig

    from ...generators.models import load
    from ...training import KL, SessionTrainer, rollouts_for_trl
    from ...training.trl.setup import UNSCALED

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
