"""Trainers that generate with ``fake_vllm``, and what is known of their batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch

import fake_vllm
import trl_toys

ROWS = [{"prompt": p} for p in trl_toys.PROMPTS]


@dataclass
class Vllm:
    """An engine, the settings of trainers that use it, and the server in front of it."""

    engine: fake_vllm.Engine
    settings: dict[str, Any]
    server: fake_vllm.Server | None


@contextmanager
def installed(mode: str, patch: pytest.MonkeyPatch) -> Iterator[Vllm]:
    """vLLM in a mode of TRL's, as long as the block runs."""
    engine = fake_vllm.Engine(trl_toys.fresh()[0])
    fake_vllm.install(patch, lambda: engine)
    settings = {"use_vllm": True, "vllm_mode": mode}
    if mode == "colocate":
        yield Vllm(engine, settings, None)
        return
    with fake_vllm.serving(engine) as server:
        yield Vllm(engine, settings | {"vllm_server_base_url": server.url}, server)


both_modes = pytest.mark.parametrize("vllm", ["server", "colocate"], indirect=True)
served = pytest.mark.parametrize("vllm", ["server"], indirect=True)
colocated = pytest.mark.parametrize("vllm", ["colocate"], indirect=True)


def share(completions: list[str], **_: Any) -> list[float]:
    return [text.count("c") / trl_toys.LENGTH for text in completions]


def generated(trainer: Any, groups: int = 2, size: int = 4) -> dict[str, Any]:
    """The batch of a first step, not trained on."""
    trainer.model.train()
    rows = [{"prompt": p} for p in trl_toys.PROMPTS[:groups] for _ in range(size)]
    return trainer._generate_and_score_completions(rows)


def moved(model: Any) -> None:
    """Away from its weights, by always the same."""
    with torch.no_grad():
        for i, weight in enumerate(model.parameters()):
            weight += 0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(i))


def forced(model: Any, before: list[int], tokens: list[int], temperature: float = 1.0) -> Any:
    """(len(tokens),) teacher-forced nats."""
    with torch.no_grad():
        logits = model(torch.tensor([before + tokens])).logits[0, len(before) - 1 : -1]
    laws = torch.log_softmax(logits.double() / temperature, dim=-1)
    return laws[torch.arange(len(tokens)), torch.tensor(tokens)]
