"""The runs of ``locks``: a learner on locks, with budgets that grow until its policy is good enough."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .. import limits
from ..access.attempt import Attempt
from ..families.combination_lock import CombinationLock
from ..learners.registry import get_learner
from ..runs.run import run
from .base import Row, Setting

ENOUGH = 0.9
"""Share of V* that is to be reached."""
_RUNGS = (20, 40, 80, 160, 320, 640)
LADDERS: dict[str, tuple[str, ...]] = {
    "rvfs": ("rvfs:plays=20",),
    "pcr": tuple(f"pcr:episodes={n}" for n in _RUNGS),
    "pce": tuple(f"pce:episodes={n}" for n in _RUNGS),
    "one-context": tuple(f"pce:two_contexts=false,episodes={n}" for n in (20, 80, 320, 1280)),
    "sim_golf": ("sim_golf:episodes=80",),
    "golf": ("golf:episodes=80",),
    "root": ("first_success:max_rollouts=100000,growth=1",),
}
"""Name → learners with ever larger budgets, the smallest that suffices counts."""
_SEPARATED = {"pcr": "pcr:", "pce": "pce:", "one-context": "pce:two_contexts=false,"}
_DOUBLED = (*_RUNGS, 1280, 2560)


def _ladder(s: Setting) -> tuple[str, ...]:
    """Budgets of a setting; those of ``separation`` double for all three alike."""
    if s["kind"] != "separation":
        return LADDERS[s["learner"]]
    return tuple(f"{_SEPARATED[s['learner']]}episodes={n}" for n in _DOUBLED)


def measure(s: Setting) -> Iterator[Row]:
    """A row for each lock: draws of the first rung of the ladder that reaches 0.9·V*."""
    for i in range(s["tries"]):
        lock = CombinationLock(s["H"], s["A"], s["G"], s["n"], seed=i)
        row: Row = {
            "lock": i,
            "reached": False,
            "draws": 0,
            "episodes": 0,
            "rung": 0,
            "formula": True,
        }
        for rung, spec in enumerate(_ladder(s)):
            if s["learner"] == "root":  # in batches that round the wait alike at every H
                spec += f",batch={s['A'] ** (s['H'] - 1)}"
            else:
                spec += f",actions={s['A']},goods={s['G']},noise={s['n']}"
            learner = get_learner(spec)
            grants = str(learner.requires)
            (attempt,) = run(
                learner, [lock.problem()], lock, grants=grants, seed=s["seed"]
            ).attempts
            row |= _found(s["learner"], attempt, lock) | {"rung": rung}
            if s["kind"] == "separation":
                row["budget"] = int(learner.params["episodes"])
            if s["learner"] == "pcr":
                row["formula"] = row["draws"] == pcr_draws(
                    learner.params, attempt.metadata["centres"]
                )
            if row["reached"]:
                break
        yield row


def _found(name: str, attempt: Attempt, lock: CombinationLock) -> Row:
    """Whether enough was reached, and what that took."""
    told, A = attempt.metadata, lock.shape.actions
    enough = ENOUGH * limits.lock_value(lock.shape.layers, lock.fail)
    if name == "root":
        rollouts = attempt.cost.rollouts
        draws = rollouts * (lock.shape.layers + 1)
        return {"reached": attempt.passed, "draws": draws, "episodes": rollouts}
    if name in ("sim_golf", "golf"):
        for chain, draws in zip(told["played"], told["drawn"], strict=True):
            if lock.value(_greedy(chain, lock)) >= enough:
                return {"reached": True, "draws": draws, "episodes": 1 + told["drawn"].index(draws)}
        return {"reached": False, "draws": told["draws"], "episodes": told["episodes"]}
    used = {"draws": told["draws"], "episodes": told["episodes"]}
    if name == "rvfs":
        return used | {"reached": told["reward"] >= enough}
    value = lock.value(np.eye(A)[np.array(told["policy"])])
    return used | {"reached": value >= enough}


def _greedy(chain: Sequence[int], lock: CombinationLock) -> Any:
    """(H, S·2ⁿ, A) the policy of a chain of value functions, ties shared."""
    tables = lock.members.values(lock.fail)
    scores = np.stack([table[k] for table, k in zip(tables, chain, strict=True)])
    best = scores == scores.max(axis=2, keepdims=True)
    return best / best.sum(axis=2, keepdims=True)


def pcr_draws(params: Any, centres: Sequence[int]) -> int:
    """Σ_h [m(h+1) + N + k_h·N_p(h+1)(h+2)] + N_p·H(H+1), with m = 4A and N = 4·N_p."""
    Np, m, H = int(params["episodes"]), 4 * int(params["actions"]), len(centres) + 1
    layers = (m * (h + 1) + 4 * Np + k * Np * (h + 1) * (h + 2) for h, k in enumerate(centres))
    return sum(layers) + Np * H * (H + 1)
