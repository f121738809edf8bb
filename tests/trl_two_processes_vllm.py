"""Training with a vLLM server of ``test_trl_processes.py``, by itself or under torchrun."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import fake_vllm
import trl_toys
from reroot.training import KL, strategies


def train(out: Path, processes: int, url: str) -> None:
    """Train, as one of so many processes; rank 0 writes the weights and the state into ``out``."""
    out.mkdir(exist_ok=True)
    settings: dict[str, Any] = {
        "per_device_train_batch_size": 16 // processes,
        "max_steps": 3,
        "optim": "sgd",  # Adam makes steps of the rounding of gradients that are nearly 0
        "learning_rate": 1.0,
        **({"ddp_backend": "gloo"} if processes > 1 else {}),
    }
    with pytest.MonkeyPatch.context() as patch:
        fake_vllm.install(patch, NotImplemented)
        trainer = trl_toys.session_trainer(
            out,
            strategies.SelfReset(),
            kl=KL(beta=0.1),
            roots=1,
            use_vllm=True,
            vllm_mode="server",
            vllm_server_base_url=url,
            **settings,
        )
        trainer.train()
    assert trainer.accelerator.num_processes == processes
    if trainer.accelerator.is_main_process:
        model = trainer.accelerator.unwrap_model(trainer.model)
        torch.save(model.state_dict(), out / "weights.pt")
        (out / "state.json").write_text(json.dumps(trainer.rollouts.collector.state()))


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
