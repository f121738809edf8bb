"""Training of ``test_trl_processes.py``, by itself or under torchrun; writes what rank 0 holds in the end."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

import trl_toys
from reroot.training import KL, strategies


def train(out: Path, processes: int) -> None:
    """Train, as one of so many processes; rank 0 writes the weights and the state into ``out``."""
    out.mkdir(exist_ok=True)
    trainer = trl_toys.session_trainer(
        out,
        strategies.AdaBack(),
        kl=KL(beta=0.1),
        roots=1,
        per_device_train_batch_size=16 // processes,
        max_steps=4,
        optim="sgd",  # Adam makes steps of the rounding of gradients that are nearly 0
        learning_rate=1.0,
        **({"ddp_backend": "gloo"} if processes > 1 else {}),
    )
    trainer.train()
    assert trainer.accelerator.num_processes == processes
    model = trainer.accelerator.unwrap_model(trainer.model)
    if trainer.accelerator.is_main_process:
        torch.save(model.state_dict(), out / "weights.pt")
        (out / "state.json").write_text(json.dumps(trainer.rollouts.collector.state()))


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(Path(sys.argv[1]), int(sys.argv[2]))
