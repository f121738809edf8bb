"""A step of GRPO from the root: TRL's own generation beside sessions on the prefix-tree engine.

    python benchmarks/training.py [--steps 6]

Both trainers run in this process on copies of the same weights, with the same prompts, settings and
threads; their steps are interleaved in rounds. Results go to ``benchmarks/results/training.json``.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback
from trl import GRPOConfig, GRPOTrainer

from reroot.generators.models import load, quiet
from reroot.tasks.registry import get_task
from reroot.training import SessionTrainer, rollouts_for_trl, strategies
from reroot.training.trl.setup import UNSCALED

RESULTS = Path(__file__).parent / "results"
# (model, prompts, rollouts of each, tokens, whether the goal is about it)
SHAPES = (("smollm2", 1, 8, 16, True),)


class Clock(TrainerCallback):
    """Seconds of each step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.started = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds.append(time.perf_counter() - self.started)


def reward(completions: list[str], **_: Any) -> list[float]:
    """Some reward that differs within a group."""
    return [sum(map(ord, text)) % 7 / 7 for text in completions]


def trainer(session: bool, model: str, prompts: int, size: int, tokens: int, steps: int) -> Any:
    network, tokenizer = load(model)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    problems = get_task("running_sum").problems(4, 64, 0)
    data = Dataset.from_list([{"prompt": p.prompt} for p in problems])
    args = GRPOConfig(
        **UNSCALED,
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=prompts * size,
        num_generations=size,
        max_completion_length=tokens,
        max_steps=steps,
        learning_rate=1e-6,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        use_cpu=True,
    )
    pieces = {"model": network, "args": args, "train_dataset": data, "processing_class": tokenizer}
    pieces["reward_funcs"] = [reward]
    if not session:
        return GRPOTrainer(**pieces)
    return SessionTrainer(rollouts=rollouts_for_trl(strategies.Root()), **pieces)


def measure(shape: tuple[str, int, int, int, bool], steps: int) -> dict[str, Any]:
    model, prompts, size, tokens, goal = shape
    clocks = {True: Clock(), False: Clock()}
    for _ in range(2):  # rounds of both sides
        for session, clock in clocks.items():
            one = trainer(session, model, prompts, size, tokens, steps + 1)
            one.remove_callback(PrinterCallback)
            one.add_callback(clock)
            before = len(clock.seconds)
            one.train()
            del clock.seconds[before]  # the first step warms up
    medians = {session: statistics.median(clock.seconds) for session, clock in clocks.items()}
    row = {"model": model, "shape": f"{prompts} × {size} × {tokens}", "goal": goal}
    row |= {"session": medians[True], "trl": medians[False]}
    print(
        f"{row['shape']}: {row['session']:.2f} s, TRL {row['trl']:.2f} s: {row['trl'] / row['session']:.2f}"
    )
    return row


def machine() -> dict[str, str]:
    found = {"cpu": cpu(), "threads": str(torch.get_num_threads())}
    for package in ("torch", "transformers", "trl"):
        found[package] = importlib.metadata.version(package)
    return found


def cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=6)
    steps = parser.parse_args().steps
    with quiet():
        rows = [measure(shape, steps) for shape in SHAPES]
    RESULTS.mkdir(exist_ok=True)
    found = {"machine": machine(), "steps": steps, "rows": rows}
    text = json.dumps(found, indent=1, ensure_ascii=False)
    (RESULTS / "training.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
