"""One training run of a small transformer: an arm, a horizon, a seed; all else is the same."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...tasks.base import Problem
from ...training.strategies import parse
from ...types import Budget
from .base_policy import STEPS_MOST

ARMS = {
    "root": "root",
    "plurality": "plurality:draws=31,margin=4",
    "argmax": "argmax",
    "self_reset": "self_reset",
    "verified": "verified",
    "adaback": "adaback",
    "r3": "r3:stages=8",
}
"""Arm → where its groups start. The first four have the outcome reward and no other oracle."""

GROUPS, SIZE = 16, 8
"""Start prefixes of a step, and rollouts of each."""

RATE = 1e-3
TARGET = 0.9
"""Mean probability of a right output from the root, at which a run ends."""

PROMPTS = 512
HELD_OUT = 64
"""Prompts that the reach is measured on: exactly, and not paid for."""


@dataclass(slots=True)
class Curve:
    """What a run has recorded.

    Attributes:
        points: (generated tokens, rollouts of groups, reach from the root) after each step that
            changed the policy, and at both ends.
        first: rollouts up to the first step with a rewarded one, it included; ``None``: none came.
        building: generated tokens that went into starts.
        reached: tokens at the target; ``None``: the budget ended before (censored).
    """

    points: list[tuple[int, int, float]]
    first: int | None = None
    building: int = 0
    reached: int | None = None


def problems_of(task: str, horizon: int, count: int, seed: int) -> list[Problem]:
    """Problems with prompts of full width, so that one policy serves every horizon."""
    from ...tasks.registry import get_task

    return list(get_task(f"{task}:width={STEPS_MOST}").problems(horizon, count, seed))


def train_arm(
    base: Path, task: str, arm: str, horizon: int, seed: int, budget: int
) -> Curve:
    """Train until the reach from the root is 0.9, or ``budget`` generated tokens are spent."""
    import torch

    from ...models import quiet

    with tempfile.TemporaryDirectory() as scratch, quiet():
        trainer, rollouts = _trainer(base, task, arm, horizon, seed, budget, Path(scratch))
        curve = Curve([])
        trainer.add_callback(_recorder(trainer, rollouts, curve, task, horizon))
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the same numbers whatever the machine; workers run side by side
        try:
            _train(trainer)
        finally:
            torch.set_num_threads(threads)
    return curve


def _train(trainer: Any) -> None:
    from ...training.trl.collector import BudgetSpent

    with suppress(BudgetSpent):
        trainer.train()


def _trainer(
    base: Path, task: str, arm: str, horizon: int, seed: int, budget: int, scratch: Path
) -> tuple[Any, Any]:
    from trl import GRPOConfig

    from ...models import load
    from ...training import SessionTrainer, rollouts_for_trl

    model, tokenizer = load(base)
    rollouts = rollouts_for_trl(
        parse(ARMS[arm]),
        budget=Budget(tokens=budget),
        problems=problems_of(task, horizon, PROMPTS, seed),
        seed=seed,
    )
    length = max(p.max_tokens for p in problems_of(task, horizon, 1, seed))
    args = GRPOConfig(
        output_dir=str(scratch),
        per_device_train_batch_size=GROUPS * SIZE,
        steps_per_generation=1,
        num_generations=SIZE,
        max_completion_length=length,
        max_steps=10**9,
        learning_rate=RATE,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        loss_type="dr_grpo",
        scale_rewards="none",
        beta=0.0,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=seed,
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
    )
    trainer = SessionTrainer(model=model, processing_class=tokenizer, args=args, rollouts=rollouts)
    return trainer, rollouts


def _recorder(trainer: Any, rollouts: Any, curve: Curve, task: str, horizon: int) -> Any:
    from transformers import TrainerCallback

    from .base_policy import exact_reach

    held_out = problems_of(task, horizon, HELD_OUT, 10_000)

    def reach() -> float:
        return float(exact_reach(trainer.model, trainer.processing_class, held_out)[horizon])

    class Recorder(TrainerCallback):
        rollouts_seen = 0

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            curve.points.append((0, 0, reach()))

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            groups = rollouts.batch.groups
            self.rollouts_seen += sum(len(g.rewards) for g in groups)
            curve.building += sum(g.building.tokens for g in groups)
            spent = rollouts.collector.spent.tokens
            if curve.first is None and any(r > 0 for g in groups for r in g.rewards):
                curve.first = self.rollouts_seen
            if curve.first is None:
                return
            curve.points.append((spent, self.rollouts_seen, reach()))
            if curve.points[-1][2] >= TARGET:
                curve.reached = spent
                control.should_training_stop = True

    return Recorder()
