"""Training of ``test_trl_processes.py``, by itself or under torchrun; writes what rank 0 holds in the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

import trl_pairs
import trl_toys
from reroot.training import KL, rollouts_for_trl, strategies

HERE = Path(__file__).parent


def launched(script: ModuleType, out: Path, *words: str) -> subprocess.Popen[str]:
    """A module of this folder as a program of two processes: it is told ``out``, 2 and ``words``."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "true",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH")))),
    }
    return subprocess.Popen(
        [*launch, str(script.__file__), str(out), "2", *words],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def count(completions: list[str], wanted: list[str], **_: Any) -> list[float]:
    return [t.count(w) / trl_toys.LENGTH for t, w in zip(completions, wanted, strict=True)]


def train(out: Path, processes: int) -> None:
    """Train, as one of so many processes; rank 0 writes the weights and the states into ``out``.

    By our trainer on problems, and by TRL's own on rows with reward functions.
    """
    out.mkdir(exist_ok=True)
    settings: dict[str, Any] = {
        "per_device_train_batch_size": 16 // processes,
        "max_steps": 4,
        "optim": "sgd",  # Adam makes steps of the rounding of gradients that are nearly 0
        "learning_rate": 1.0,
        **({"ddp_backend": "gloo"} if processes > 1 else {}),
    }
    ours = trl_toys.session_trainer(out, strategies.AdaBack(), kl=KL(beta=0.1), roots=1, **settings)
    rows = [
        {"prompt": p, "wanted": w, "demonstration": w * trl_toys.LENGTH}
        for p in ("ab", "ba")
        for w in "cd"
    ]
    rollouts = rollouts_for_trl(strategies.AdaBack())
    stock = trl_pairs.stock(out, rows, [count], rollouts, **settings)
    for name, trainer, used in (("ours", ours, ours.rollouts), ("stock", stock, rollouts)):
        trainer.train()
        assert trainer.accelerator.num_processes == processes
        model = trainer.accelerator.unwrap_model(trainer.model)
        if trainer.accelerator.is_main_process:
            torch.save(model.state_dict(), out / f"{name}.pt")
            (out / f"{name}.json").write_text(json.dumps(used.collector.state()))  # type: ignore[union-attr]


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(Path(sys.argv[1]), int(sys.argv[2]))
