"""TRL's own trainer twice: with the bridge, and without it on the completions that the bridge has drawn.

What is drawn being equal, all else must be: prompts, what reward functions are asked, every number
that is logged, and the weights, bit by bit.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import trl_toys
from reroot.training import rollouts_for_trl, strategies
from reroot.training.strategies import Strategy

TIMES = ("runtime", "step_time", "per_second")


@dataclass
class Seen:
    """What a trainer did."""

    trainer: Any
    prompts: list[list[list[int]]] = field(default_factory=list[Any])
    completions: list[list[list[int]]] = field(default_factory=list[Any])
    calls: list[dict[str, Any]] = field(default_factory=list[Any])
    batches: list[list[str]] = field(default_factory=list[Any])

    @property
    def logs(self) -> list[dict[str, Any]]:
        """What was logged, but for times."""
        return [
            {k: v for k, v in line.items() if not any(word in k for word in TIMES)}
            for line in self.trainer.state.log_history
        ]

    @property
    def weights(self) -> dict[str, Any]:
        return trl_toys.weights(self.trainer)


def stock(
    out: Path,
    rows: Any,
    rewards: Sequence[Callable[..., Any]],
    rollouts: Any = None,
    pieces: Callable[[], tuple[Any, Any]] = trl_toys.fresh,
    evaluation: Any = None,
    **changes: Any,
) -> Any:
    """TRL's trainer on rows (a list, or a data set)."""
    from datasets import Dataset
    from trl import GRPOTrainer

    model, tokenizer = pieces()
    return GRPOTrainer(
        model=model,
        reward_funcs=list(rewards),
        train_dataset=Dataset.from_list(rows) if isinstance(rows, list) else rows,
        eval_dataset=Dataset.from_list(evaluation) if isinstance(evaluation, list) else evaluation,
        args=trl_toys.settings(out, **changes),
        processing_class=tokenizer,
        rollout_func=rollouts,
    )


def watched(trainer: Any, replay: Sequence[list[list[int]]] | None = None) -> Seen:
    """``trainer``, and what it will do; with ``replay`` it generates these completions.

    Columns that TRL hands to reward functions are noted; functions and state are not.
    """
    seen = Seen(trainer)
    generate, score = trainer._generate, trainer._generate_and_score_completions
    if replay is not None:
        left = iter(replay)
        trainer._generate_single_turn = lambda *_: (next(left), None)

    def generating(prompts: Any) -> Any:
        found = generate(prompts)
        seen.prompts.append([list(map(int, ids)) for ids in found[0]])
        seen.completions.append([list(map(int, ids)) for ids in found[1]])
        return found

    def scoring(inputs: Any) -> Any:
        found = score(inputs)
        seen.batches.append(sorted(found))
        return found

    trainer._generate, trainer._generate_and_score_completions = generating, scoring
    trainer.reward_funcs = [_noted(function, seen) for function in trainer.reward_funcs]
    return seen


def _noted(function: Callable[..., Any], seen: Seen) -> Callable[..., Any]:
    """A reward function whose calls are noted."""

    def note(asked: dict[str, Any]) -> None:
        own = ("trainer_state", "log_extra", "log_metric")
        seen.calls.append({k: v for k, v in asked.items() if k not in own})

    def call(**asked: Any) -> Any:
        note(asked)
        return function(**asked)

    async def call_async(**asked: Any) -> Any:
        note(asked)
        return await function(**asked)

    return call_async if inspect.iscoroutinefunction(function) else call


def both(
    out: Path,
    rows: Callable[[], Any],
    rewards: Callable[[], Sequence[Callable[..., Any]]],
    strategy: Strategy | None = None,
    bridge: dict[str, Any] | None = None,
    replay: bool = True,
    **changes: Any,
) -> tuple[Seen, Seen]:
    """(with the bridge, without it), both trained; without ``replay`` each on draws of its own."""
    rollouts = rollouts_for_trl(strategy or strategies.Root(), **(bridge or {}))
    ours = watched(stock(out / "ours", rows(), rewards(), rollouts, **changes))
    ours.trainer.train()
    drawn = ours.completions if replay else None
    theirs = watched(stock(out / "theirs", rows(), rewards(), **changes), drawn)
    theirs.trainer.train()
    return ours, theirs


def assert_equal(ours: Seen, theirs: Seen) -> None:
    """Nothing but who drew the rollouts sets the two apart."""
    assert ours.prompts == theirs.prompts
    assert ours.completions == theirs.completions
    assert ours.calls == theirs.calls
    assert ours.batches == theirs.batches
    assert repr(ours.logs) == repr(theirs.logs)  # NaN equals itself
    mine, known = ours.weights, theirs.weights
    assert all(torch.equal(mine[name], known[name]) for name in known)
