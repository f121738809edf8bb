"""What a training run records, and when it ends."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from ...generators.models import load
from ...randomness import stream_key
from ...runs.run import problems_digest
from .arms import EVERY, HELD_OUT, TARGET, Training
from .base_policy import exact_reach
from .objective import DRAWS, Objective, weights_digest


@dataclass(slots=True)
class Curve:
    """What a run has recorded.

    Attributes:
        points: (generated tokens, rollouts of groups, what is measured) after steps that changed the
            policy, and at the beginning: the reach from the root, and J_β, reach, KL and its standard
            error where β > 0.
        first: rollouts up to the first rewarded one, it included; ``None``: none came.
        spent, rollouts: generated tokens, and rollouts of groups, of the whole run.
        building: generated tokens that went into starts.
        reached: tokens at the target; ``None``: the budget ended before (censored).
        best: J*_β, exact; ``None`` where β = 0.
        starts: shortest and longest start of a group, tokens; ``None``: there was no step.
        roots: least number of groups of a step that start at the empty prefix; the KL is estimated on
            these alone.
        equal: what arms must have in common.
    """

    points: list[tuple[float, ...]] = field(default_factory=list)
    first: int | None = None
    spent: int = 0
    rollouts: int = 0
    building: int = 0
    reached: int | None = None
    best: float | None = None
    starts: tuple[int, int] | None = None
    roots: int | None = None
    equal: dict[str, Any] = field(default_factory=dict)


class Recorder(TrainerCallback):
    """Measures a policy while it is trained, and stops the training at its target.

    Nothing is measured before the first reward: the policy is as it was.

    Args:
        trainer: of the run.
        base: folder of the policy that it starts from.
        run: what is trained.
    """

    def __init__(self, trainer: Any, base: Path, run: Training) -> None:
        self.curve = Curve()
        self._trainer, self._run = trainer, run
        self._prompts = [str(p.prompt) for p in run.held_out()]
        self._steps = 0  # since the first reward
        self._measure: Callable[[], tuple[float, ...]] = self._reach
        self._target, self._every = TARGET, 1
        if run.beta:
            self._objective = Objective(*load(base), run.task, self._prompts, run.horizon, run.beta)
            self._measure, self._every = self._value, EVERY
            self.curve.best = self._objective.best
            self._target = self._objective.best / 2
            self.curve.equal = recorded_terms(trainer, run)

    def _reach(self) -> tuple[float, ...]:
        run, text = self._run, self._trainer.processing_class
        return (
            float(exact_reach(self._trainer.model, text, run.task, self._prompts)[run.horizon - 1]),
        )

    def _value(self) -> tuple[float, ...]:
        key = stream_key(self._run.seed, "settle-neural", f"KL {self.curve.rollouts}")
        return tuple(self._objective.of(self._trainer.model, key))

    def _note(self) -> None:
        """Add a point to the curve."""
        model = self._trainer.model
        model.eval()
        try:
            self.curve.points.append((self.curve.spent, self.curve.rollouts, *self._measure()))
        finally:
            model.train()

    def _note_starts(self, lengths: list[int]) -> None:
        curve, known = self.curve, self.curve.starts or lengths
        curve.starts = min(*known, *lengths), max(*known, *lengths)
        roots = lengths.count(0)
        curve.roots = roots if curve.roots is None else min(curve.roots, roots)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._note()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        curve, rollouts = self.curve, self._trainer.rollouts
        groups = rollouts.batch.groups
        rewards = [r for g in groups for r in g.rewards]
        if curve.first is None and any(rewards):
            curve.first = curve.rollouts + 1 + next(i for i, r in enumerate(rewards) if r)
        curve.rollouts += len(rewards)
        curve.building += sum(g.building.tokens for g in groups)
        curve.spent = rollouts.collector.spent.tokens
        self._note_starts([len(g.start.prefix) for g in groups])
        if curve.first is None:
            return
        self._steps += 1
        if self._steps % self._every:
            return
        self._note()
        if curve.points[-1][2] >= self._target:
            curve.reached = curve.spent
            control.should_training_stop = True


SETTINGS = (
    "learning_rate", "adam_beta1", "adam_beta2", "adam_epsilon", "weight_decay", "max_grad_norm",
    "lr_scheduler_type", "loss_type", "scale_rewards", "num_iterations", "epsilon", "steps_per_generation",
    "gradient_accumulation_steps", "per_device_train_batch_size", "num_generations",
    "max_completion_length", "temperature", "top_p", "top_k", "seed",
)  # fmt: skip
"""Of TRL, on which an update depends."""


def recorded_terms(trainer: Any, run: Training) -> dict[str, Any]:
    """What must be equal in all arms of a horizon and a seed, read off the trainer before it begins."""
    args = {name: getattr(trainer.args, name) for name in SETTINGS}
    text = json.dumps(args, default=str, sort_keys=True)
    return {
        "model": weights_digest(trainer.model),
        "problems": problems_digest(run.problems()),
        "held_out": problems_digest(run.held_out()),
        "seed": run.seed,
        "update": f"{type(trainer).__name__} {hashlib.blake2b(text.encode(), digest_size=6).hexdigest()}",
        "settings": json.loads(text),
        "kl": {"estimator": trainer.kl.estimator, "beta": trainer.kl.beta},
        "roots": trainer.rollouts.roots,
        "budget": run.budget,
        "measured": {"every": EVERY, "draws": DRAWS, "prompts": HELD_OUT},
        "versions": {name: version(name) for name in ("torch", "transformers", "trl")},
    }
