"""Packed training passes are those of one row each; the order of prompts is known in advance."""

# ruff: noqa: E402
from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

import tiny_lm
from reroot.training.trl import packing
from reroot.training.trl.order import PromptOrder
from reroot.training.trl.packing import log_probabilities, pack

Rows = list[tuple[int, ...]]


def batch(seed: int) -> tuple[Rows, Rows]:
    """Rows of a few prompts, alike at their beginnings or not, of lengths from 1 on."""
    rng = np.random.default_rng(seed)

    def some(least: int, most: int) -> tuple[int, ...]:
        return tuple(rng.integers(4, tiny_lm.K, size=rng.integers(least, most)).tolist())

    prompts, completions = Rows(), Rows()
    for _ in range(3):
        prompt, start = some(1, 6), some(0, 4)
        for _ in range(int(rng.integers(1, 4))):
            prompts.append(prompt)
            completions.append(start + some(1, 6))
    prompts += [prompts[0], prompts[-1]]  # in no order, and one completion twice
    completions += [completions[0], some(1, 2)]
    return prompts, completions


def plainly(
    model: Any, prompt: tuple[int, ...], tokens: tuple[int, ...], temperature: float
) -> Any:
    logits = model(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1] / temperature
    return torch.log_softmax(logits, dim=-1)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen3"])
@pytest.mark.parametrize("seed", range(4))
def test_packed_is_one_by_one(kind: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "POSITIONS", 30)  # several packed rows
    model, (prompts, completions) = tiny_lm.model(kind), batch(seed)
    width = max(map(len, completions)) + 1
    found, spread = log_probabilities(model, prompts, completions, width, 0.8, True)
    assert spread is not None
    for i, (prompt, tokens) in enumerate(zip(prompts, completions, strict=True)):
        laws = plainly(model, prompt, tokens, 0.8)
        known = laws[torch.arange(len(tokens)), torch.tensor(tokens)]
        assert found[i, : len(tokens)].tolist() == pytest.approx(known.tolist(), abs=1e-4)
        entropy = -(laws.exp() * laws).sum(dim=-1)
        assert spread[i, : len(tokens)].tolist() == pytest.approx(entropy.tolist(), abs=1e-4)
        assert not found[i, len(tokens) :].any()


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_packed_gradients_are_one_by_one(kind: str) -> None:
    model, (prompts, completions) = tiny_lm.model(kind), batch(7)
    width = max(map(len, completions))
    weights = torch.randn(len(prompts), width, generator=torch.Generator().manual_seed(0))
    found, _ = log_probabilities(model, prompts, completions, width, 1.0, False)
    (found * weights).sum().backward()
    packed = {n: p.grad.clone() for n, p in model.named_parameters()}
    model.zero_grad()
    for row, prompt, tokens in zip(weights, prompts, completions, strict=True):
        laws = plainly(model, prompt, tokens, 1.0)
        own = laws[torch.arange(len(tokens)), torch.tensor(tokens)]
        (own @ row[: len(tokens)]).backward()
    scale = max(float(p.grad.abs().max()) for p in model.parameters())
    for name, weight in model.named_parameters():
        assert float((packed[name] - weight.grad).abs().max()) < 1e-4 * scale, name


def test_what_rows_share_is_computed_once() -> None:
    prompt, start = tuple(range(20)), (4, 5, 6)
    rows = [prompt] * 8, [(*start, i, i) for i in range(8)]
    (packed,) = pack(*rows)
    assert len(packed.tokens) == 20 + 3 + 8  # the last token of a row predicts nothing
    assert len(packed.labels) == 8 * 5


def test_every_pass_over_the_prompts_holds_each_once() -> None:
    order = [*PromptOrder(size=5, batch=3, repeats=2, reuse=1, batches=10, seed=3)]
    assert len(order) == 60
    groups = order[::2]
    assert order[1::2] == groups
    passes = [groups[i : i + 5] for i in range(0, 30, 5)]
    assert all(sorted(p) == list(range(5)) for p in passes)
    assert len({tuple(p) for p in passes}) > 1
    assert order == [*PromptOrder(5, 3, 2, 1, 10, seed=3)]
    assert order != [*PromptOrder(5, 3, 2, 1, 10, seed=4)]


def test_batches_are_gone_through_again_as_often_as_asked() -> None:
    order = PromptOrder(size=4, batch=2, repeats=2, reuse=2, batches=2, seed=None)
    assert [*order] == [0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3, 2, 2, 3, 3]
    assert len(order) == 16
    longer = PromptOrder(size=4, batch=2, repeats=2, reuse=2, batches=4, seed=None)
    assert [*itertools.islice(longer, 16)] == [*order]
