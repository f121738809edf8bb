"""With ``Root`` rewards are TRL's: asked once, on the batch, of whatever kind; strategies learn from them."""

# ruff: noqa: E402
from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

import trl_pairs
import trl_toys
from reroot import AccessDenied, Budget, InvalidInput
from reroot.training import SessionTrainer, rollouts_for_trl, strategies
from reroot.training.advantages import centred
from reroot.training.groups import BudgetSpent
from reroot.training.strategies import Start, Strategy

ROWS = [{"prompt": p, "wanted": w} for p, w in zip(trl_toys.PROMPTS, "cdcd", strict=True)]
Reward = Callable[..., Any]


def share(completions: list[str], wanted: list[str], **_: Any) -> list[float]:
    return [t.count(w) / trl_toys.LENGTH for t, w in zip(completions, wanted, strict=True)]


def rank() -> Reward:
    """Of the whole batch: alone, every output is the best."""

    def rank(completions: list[str], **_: Any) -> list[float]:
        scores = [t.count("c") for t in completions]
        return [float(s == max(scores)) for s in scores]

    return rank


def some_unknown() -> Reward:
    def some_unknown(completions: list[str], **_: Any) -> list[float | None]:
        return [None if "e" in t else t.count("c") / 4 for t in completions]

    return some_unknown


def none_known() -> Reward:
    def none_known(completions: list[str], **_: Any) -> list[None]:
        return [None for _ in completions]

    return none_known


def noisy() -> Reward:
    """Another number at every call."""
    drawn = itertools.count()

    def noisy(completions: list[str], **_: Any) -> list[float]:
        return [math.sin(1 + next(drawn)) for _ in completions]

    return noisy


def later() -> Reward:
    async def later(completions: list[str], wanted: list[str], **_: Any) -> list[float]:
        await asyncio.sleep(0)
        return share(completions, wanted)

    return later


def strict() -> Reward:
    """Names its columns one by one: any other would be an error."""

    def strict(
        prompts: Any,
        completions: Any,
        completion_ids: Any,
        wanted: Any,
        trainer_state: Any,
        log_extra: Any,
        log_metric: Any,
    ) -> list[float]:
        log_metric("step", float(trainer_state.global_step))
        log_extra("wanted", wanted)
        return [len(t) / 4 for t in completions]

    return strict


KINDS: dict[str, tuple[list[Callable[[], Reward]], dict[str, Any]]] = {
    "of the batch": ([rank], {}),
    "some None": ([some_unknown], {}),
    "all None": ([none_known], {}),
    "None beside another": ([none_known, lambda: share, some_unknown], {}),
    "noisy": ([noisy], {}),
    "async": ([later], {}),
    "async beside another": ([later, rank], {"reward_weights": [0.5, 2.0]}),
    "weights": ([lambda: share, rank], {"reward_weights": [0.9, 0.1]}),
    "normalized apart": (
        [lambda: share, rank],
        {"reward_weights": [0.9, 0.1], "multi_objective_aggregation": "normalize_then_sum"},
    ),
    "columns named": ([strict], {}),
}


@pytest.mark.slow(2)
@pytest.mark.parametrize("kind", list(KINDS))
def test_rewards_are_the_trainers_bit_by_bit(kind: str, tmp_path: Path) -> None:
    makers, settings = KINDS[kind]
    ours, theirs = trl_pairs.both(
        tmp_path, lambda: ROWS, lambda: [make() for make in makers], max_steps=3, **settings
    )
    assert len(ours.calls) == 3 * len(makers)
    trl_pairs.assert_equal(ours, theirs)


class Note(strategies.Root):
    """Takes note of what it is to learn from."""

    name = "note"

    def __init__(self) -> None:
        self._told: list[list[float]] = []

    def learn(self, prompt: Any, start: Start, rewards: Any) -> None:
        self._told.append(list(rewards))


@pytest.mark.slow(1)
@pytest.mark.parametrize("kind", ["noisy", "some None", "weights", "all None"])
def test_a_strategy_learns_from_what_is_trained_on(kind: str, tmp_path: Path) -> None:
    """The weighted rewards of the batch; rollouts without one do not count."""
    makers, settings = KINDS[kind]
    strategy = Note()
    rollouts = rollouts_for_trl(strategy)
    rewards = [make() for make in makers]
    trainer = trl_pairs.stock(tmp_path, ROWS, rewards, rollouts, max_steps=3, **settings)
    said: list[list[float]] = []
    calculate = trainer._calculate_rewards

    def noted(*args: Any) -> Any:
        found = calculate(*args)
        total = (found * trainer.reward_weights).nansum(dim=1)
        total[found.isnan().all(dim=1)] = math.nan
        said.extend(total.view(-1, 4).tolist())
        return found

    trainer._calculate_rewards = noted
    trainer.train()
    known = [[r for r in group if not math.isnan(r)] for group in said]
    assert strategy._told == [group for group in known if group]
    assert bool(strategy._told) == (kind != "all None")
    assert repr([g.rewards for g in rollouts.batch.groups]) == repr(said[-2:])  # type: ignore[union-attr]
    spent = rollouts.collector.spent  # type: ignore[union-attr]
    assert (spent.rollouts, spent.rewards) == (24, 24)


@pytest.mark.slow(1)
def test_outcomes_below_one_teach_like_any_other(tmp_path: Path) -> None:
    """A right answer worth 0.8, and one worth 0.9 of a weighted sum: no demonstration is refused."""
    rows = [{"prompt": p, "demonstration": "cccc"} for p in trl_toys.PROMPTS]

    def right(completions: list[str], **_: Any) -> list[float]:
        return [0.8 * (t == "cccc") for t in completions]

    for weights in (None, [0.9]):
        rollouts = rollouts_for_trl(strategies.R3(stages=4, schedule="staged", visits=2))
        trainer = trl_pairs.stock(tmp_path, rows, [right], rollouts, reward_weights=weights)
        trainer.train()
        assert any(g.start.prefix for g in rollouts.batch.groups)  # type: ignore[union-attr]
        assert rollouts.strategy.state() == {"seen": 4}


def test_a_rollout_without_a_reward_is_in_nobodys_mean() -> None:
    nan = math.nan
    assert centred([1.0, nan, 0.0, 0.5]).tolist() == [0.75, 0.0, -0.75, 0.0]
    assert centred([nan, 2.0]).tolist() == [0.0, 0.0]
    assert centred([nan, nan]).tolist() == [0.0, 0.0]


@pytest.mark.slow(2)
def test_session_trainers_train_on_the_batch_too(tmp_path: Path) -> None:
    """A reward of the batch and one with None, in ``SessionTrainer``: advantages of what TRL was told."""
    from datasets import Dataset

    model, tokenizer = trl_toys.fresh()
    trainer = SessionTrainer(
        model=model,
        processing_class=tokenizer,
        args=trl_toys.settings(tmp_path, reward_weights=[1.0, 0.5]),
        rollouts=rollouts_for_trl(strategies.Root(), seed=3),
        reward_funcs=[rank(), some_unknown()],
        train_dataset=Dataset.from_list(ROWS),
    )
    trainer.model.train()
    batch = trainer._generate_and_score_completions([ROWS[i] for i in (0, 1) for _ in range(4)])
    texts = tokenizer.batch_decode(batch["completion_ids"], skip_special_tokens=True)
    ranked, counted = rank()(texts), some_unknown()(texts)
    whole = [r + 0.5 * (c or 0.0) for r, c in zip(ranked, counted, strict=True)]
    assert [r for g in trainer.rollouts.batch.groups for r in g.rewards] == pytest.approx(whole)
    for i in range(8):
        group = whole[i // 4 * 4 : i // 4 * 4 + 4]
        assert float(batch["advantages"][i, 0]) == pytest.approx(centred(group)[i % 4], abs=1e-6)
    trainer.train()


# ---- who needs them earlier -------------------------------------------------------------------------


class Peeks(Strategy):
    """Asks for a reward where its groups start."""

    name = "peeks"

    async def start(self, session: Any) -> Start:
        reply = await session.rollouts(1)
        await session.rewards(reply.outputs())
        return Start(session.root)


@pytest.mark.slow(1)
def test_rewards_in_the_middle_are_those_of_problems(tmp_path: Path) -> None:
    from datasets import Dataset

    model, tokenizer = trl_toys.fresh()
    with pytest.raises(InvalidInput, match=r"vine_values.* needs rewards while"):
        SessionTrainer(
            model=model,
            processing_class=tokenizer,
            args=trl_toys.settings(tmp_path),
            rollouts=rollouts_for_trl(strategies.VineValues()),
            reward_funcs=[rank()],
            train_dataset=Dataset.from_list(ROWS),
        )
    with pytest.raises(AccessDenied, match="reward"):
        trl_pairs.stock(tmp_path, ROWS, [rank()], rollouts_for_trl(Peeks())).train()
    rollouts = rollouts_for_trl(Peeks(), problems=trl_toys.problems())
    trl_pairs.stock(tmp_path, rollouts.dataset(), [rollouts.reward], rollouts).train()
    rollouts = rollouts_for_trl(strategies.Root())
    with pytest.raises(InvalidInput, match=r"rollouts\.reward gives the rewards of problems"):
        trl_pairs.stock(tmp_path, ROWS, [rollouts.reward], rollouts).train()


@pytest.mark.slow(1)
def test_a_budget_of_rewards_counts_those_that_come_later(tmp_path: Path) -> None:
    rollouts = rollouts_for_trl(strategies.Root(), budget=Budget(rewards=20))
    trainer = trl_pairs.stock(tmp_path, ROWS, [rank()], rollouts, max_steps=9)
    with pytest.raises(BudgetSpent):
        trainer.train()
    assert rollouts.collector.spent.rewards == 16  # type: ignore[union-attr]
    assert trainer.state.global_step == 2
