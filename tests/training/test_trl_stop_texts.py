"""Stop texts in training: rollouts end with them, are paid up to there, and count as ended."""

# ruff: noqa: E402
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from test_trl_bridge import assert_close, followed, loss_gradient

import trl_toys
from reroot.training import rollouts_for_trl, strategies
from reroot.training.advantages import token_advantages
from reroot.training.trl.native_generation import NativeGeneration, NativeTrainer

pytestmark = pytest.mark.slow

SIZE = 64
STOP = ("aa", "ca", "\n", "bc", "ag", "gg")
CHANGES: dict[str, Any] = {"num_generations": SIZE, "per_device_train_batch_size": SIZE}


def tasks() -> list[Any]:
    return [replace(p, stop=STOP, demonstration=None) for p in trl_toys.problems()]


def ends(text: str) -> bool:
    """A stop text is there, and was not without the last letter."""
    return any(s in text for s in STOP) and not any(s in text[:-1] for s in STOP)


def text_of(trainer: Any, tokens: list[int]) -> str:
    return trainer.processing_class.decode(tokens, skip_special_tokens=True)


def check_ends(trainer: Any, tokens: list[list[int]]) -> list[bool]:
    """Which outputs have ended before the horizon stops them; each as the definition says."""
    ended = []
    for output in tokens:
        texts = [text_of(trainer, output[: t + 1]) for t in range(len(output))]
        ended.append(output[-1] == 1 or ends(texts[-1]))
        assert ended[-1] or len(output) == trl_toys.LENGTH
        assert not any(map(ends, texts[:-1]))
    over_borders = [t for t in tokens if len(t) < trl_toys.LENGTH and t[-1] not in (1, 3)]
    assert len(over_borders) > 3
    assert 3 < sum(ended) < SIZE - 3
    return ended


def drawn(trainer: Any) -> dict[str, Any]:
    trainer.model.train()
    return trainer._generate_and_score_completions([{"prompt": trl_toys.PROMPTS[0]}] * SIZE)


@pytest.mark.parametrize("masked", [False, True])
def test_a_stock_trainer_counts_them_as_ended(tmp_path: Path, masked: bool) -> None:
    from trl import GRPOTrainer

    model, tokenizer = trl_toys.fresh()
    rollouts = rollouts_for_trl(strategies.Root(), problems=tasks())
    changes = {**CHANGES, "mask_truncated_completions": masked}
    trainer = GRPOTrainer(
        model=model,
        processing_class=tokenizer,
        args=trl_toys.settings(tmp_path, **changes),
        reward_funcs=[rollouts.reward],
        train_dataset=rollouts.dataset(),
        rollout_func=rollouts,
    )
    batch = drawn(trainer)
    assert rollouts.batch is not None
    (group,) = rollouts.batch.groups
    ended = check_ends(trainer, group.tokens)
    ratio = trainer._metrics["train"]["completions/clipped_ratio"][-1]
    assert ratio == pytest.approx(1 - sum(ended) / SIZE)
    assert group.spent.tokens == sum(map(len, group.tokens))
    learnt = batch["completion_mask"].sum(dim=1).tolist()
    known = [len(t) if end or not masked else 0 for t, end in zip(group.tokens, ended, strict=True)]
    assert learnt == known
    for row, tokens in zip(batch["completion_ids"].tolist(), group.tokens, strict=True):
        assert row[: len(tokens)] == tokens


@pytest.mark.parametrize("packs", [True, False])
def test_the_gradient_is_that_of_the_tokens_that_were_drawn(tmp_path: Path, packs: bool) -> None:
    trainer = trl_toys.session_trainer(tmp_path, strategies.Root(), what=tasks(), **CHANGES)
    trainer._packs = packs
    batch = drawn(trainer)
    known = followed(trainer, token_advantages(trainer.rollouts.batch.groups, {}, 0.0))
    assert_close(loss_gradient(trainer, batch), known, sign=-1.0)


def test_trls_own_generation_ends_there_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, tokenizer = trl_toys.fresh()
    trainer = NativeTrainer(
        model=model,
        processing_class=tokenizer,
        args=trl_toys.settings(tmp_path, **CHANGES),
        rollouts=NativeGeneration(strategies.Root(), None, None, tasks(), 0, 0),
    )
    batch = drawn(trainer)
    (group,) = trainer.rollouts.batch.groups
    ended = check_ends(trainer, group.tokens)
    assert group.spent.tokens == sum(map(len, group.tokens))
    kept = [
        row[mask.bool()].tolist()
        for row, mask in zip(batch["completion_ids"], batch["completion_mask"], strict=True)
    ]
    assert kept == group.tokens
    clipped = trainer._metrics["train"]["completions/clipped_ratio"][-1]
    assert clipped == pytest.approx(1 - sum(ended) / SIZE)
