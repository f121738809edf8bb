"""One training run of a small transformer: an arm, a horizon, a seed; all else is the same."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...tasks.base import Problem
from ...training.strategies import get_strategy
from ...types import Budget

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

WIDTH = 32
"""Bits of every prompt, whatever the horizon, so that one base policy serves all horizons."""

PROMPTS = 512
HELD_OUT = 64
"""Prompts that the reach is measured on: exactly, and not paid for."""


@dataclass(slots=True)
class Curve:
    """What a run has recorded.

    Attributes:
        points: (generated tokens, rollouts of groups, reach from the root) after each step that
            changed the policy, and at both ends.
        first: rollouts up to the first rewarded one, it included; ``None``: none came.
        spent, rollouts: generated tokens, and rollouts of groups, of the whole run.
        building: generated tokens that went into starts.
        reached: tokens at the target; ``None``: the budget ended before (censored).
    """

    points: list[tuple[int, int, float]]
    first: int | None = None
    spent: int = 0
    rollouts: int = 0
    building: int = 0
    reached: int | None = None


def problems_of(task: str, horizon: int, count: int, seed: int) -> list[Problem]:
    """Problems with prompts of full width, so that one policy serves every horizon."""
    from ...tasks.registry import get_task

    return list(get_task(f"{task}:width={WIDTH}").problems(horizon, count, seed))


def train_arm(base: Path, task: str, arm: str, horizon: int, seed: int, budget: int) -> Curve:
    """Train until the reach from the root is 0.9, or ``budget`` generated tokens are spent."""
    from transformers.trainer_callback import PrinterCallback

    from ...generators.models import quiet
    from ...training.groups import BudgetSpent
    from .base_policy import one_thread

    with tempfile.TemporaryDirectory() as scratch, quiet():
        trainer, rollouts = _trainer(base, task, arm, horizon, seed, budget, Path(scratch))
        trainer.remove_callback(PrinterCallback)
        curve = Curve([])
        trainer.add_callback(_recorder(trainer, rollouts, curve, task, horizon))
        with one_thread(), suppress(BudgetSpent):
            trainer.train()
    return curve


def _trainer(
    base: Path, task: str, arm: str, horizon: int, seed: int, budget: int, scratch: Path
) -> tuple[Any, Any]:
    from trl.trainer.grpo_config import GRPOConfig

    from ...generators.models import load
    from ...training import SessionTrainer, rollouts_for_trl
    from ...training.trl.setup import UNSCALED

    model, tokenizer = load(base)
    rollouts = rollouts_for_trl(
        get_strategy(ARMS[arm]),
        budget=Budget(tokens=budget),
        problems=problems_of(task, horizon, PROMPTS, seed),
        seed=seed,
    )
    length = max(p.max_tokens for p in problems_of(task, horizon, 1, seed))
    args = GRPOConfig(
        **UNSCALED,
        output_dir=str(scratch),
        per_device_train_batch_size=GROUPS * SIZE,
        num_generations=SIZE,
        max_completion_length=length,
        max_steps=10**9,
        learning_rate=RATE,
        adam_beta2=BETA2,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        seed=seed,
        use_cpu=True,
    )
    trainer = SessionTrainer(model=model, processing_class=tokenizer, args=args, rollouts=rollouts)
    return trainer, rollouts


def _recorder(trainer: Any, rollouts: Any, curve: Curve, task: str, horizon: int) -> Any:
    from transformers import TrainerCallback

    from .base_policy import exact_reach

    prompts = [str(p.prompt) for p in problems_of(task, horizon, HELD_OUT, 10_000)]

    def reach() -> float:
        model = trainer.model
        model.eval()
        try:
            return float(exact_reach(model, trainer.processing_class, task, prompts)[horizon - 1])
        finally:
            model.train()

    class Recorder(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            curve.points.append((0, 0, reach()))

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            rewards = [r for g in rollouts.batch.groups for r in g.rewards]
            if curve.first is None and any(rewards):
                curve.first = curve.rollouts + 1 + next(i for i, r in enumerate(rewards) if r)
            curve.rollouts += len(rewards)
            curve.building += sum(g.building.tokens for g in rollouts.batch.groups)
            curve.spent = rollouts.collector.spent.tokens
            if curve.first is None:  # the policy is as it was
                return
            curve.points.append((curve.spent, curve.rollouts, reach()))
            if curve.points[-1][2] >= TARGET:
                curve.reached = curve.spent
                control.should_training_stop = True

    return Recorder()
