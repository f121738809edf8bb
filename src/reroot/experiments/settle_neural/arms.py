"""What runs of small transformers are made of: an arm, a horizon, a seed; all else is the same."""

from __future__ import annotations

from dataclasses import dataclass

from ...tasks.base import Problem

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
