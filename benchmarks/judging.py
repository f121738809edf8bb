"""What judging mathematics adds to a comparison: math-verify beside equal numbers, 64 rollouts of SmolLM2.

    python benchmarks/judging.py [--rounds 3]

Both arms draw as much of the same problems, within 2 % (it is checked); rounds alternate. Seconds are of the processor,
of this process and its children, so that other work on the machine counts little, and of the wall.
Results go to ``benchmarks/results/judging.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import reroot
from reroot.generators.models import load as load_model
from reroot.generators.transformers import Transformers
from reroot.learners.root_start import best_of_n
from reroot.tasks import load

RESULTS = Path(__file__).parent / "results"
PROBLEMS, ROLLOUTS, TOKENS = 8, 8, 48
QUESTION = "Tom has {} apples and buys {} bags of {} apples. How many apples does he have now?"


def rows(folder: Path) -> Path:
    """A data file of small word problems."""
    file = folder / "apples.jsonl"
    numbers = [(7 * i % 11 + 2, i % 5 + 2, 3 * i % 7 + 3) for i in range(PROBLEMS)]
    lines = [{"question": QUESTION.format(*n), "answer": str(n[0] + n[1] * n[2])} for n in numbers]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def seconds(model: Transformers, file: Path, answer: str) -> tuple[float, float, int]:
    """Processor and wall seconds of one comparison, and generated tokens."""
    model.weights_changed()  # nothing is known of the last round
    with tempfile.TemporaryDirectory() as scratch:
        spent, started = os.times(), time.perf_counter()
        found = reroot.compare(
            generator=model,
            task=load(str(file), answer=answer, max_tokens=TOKENS, chat=True),
            learners=best_of_n(n=ROLLOUTS),
            grants="root/sample+reward",
            seeds=1,
            out=Path(scratch) / "run",
        )
        wall, now = time.perf_counter() - started, os.times()
        drawn = int(found.data.results["cost_tokens"].sum())
    return sum(now[:4]) - sum(spent[:4]), wall, drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    model = Transformers(load_model("smollm2"), chat=True)
    with tempfile.TemporaryDirectory() as scratch:
        file = rows(Path(scratch))
        seconds(model, file, "number")  # what is loaded and compiled once
        seconds(model, file, "math")
        pairs = [
            (seconds(model, file, "number"), seconds(model, file, "math")) for _ in range(rounds)
        ]
    drawn = [arm[2] for pair in pairs for arm in pair]
    if max(drawn) > 1.02 * min(drawn):  # verdicts may end a learner a little sooner
        raise SystemExit(f"the arms drew different amounts: {pairs}")
    found = {
        "processor": platform.processor() or platform.machine(),
        "rollouts": PROBLEMS * ROLLOUTS,
        "tokens": TOKENS,
        "rounds": rounds,
        "number, processor seconds": statistics.median(number[0] for number, _ in pairs),
        "math, processor seconds": statistics.median(math[0] for _, math in pairs),
        "processor ratio": statistics.median(math[0] / number[0] for number, math in pairs),
        "wall ratio": statistics.median(math[1] / number[1] for number, math in pairs),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "judging.json").write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
