"""A decode step at batch 64 over the floor of its weights, of two source trees that take turns.

    python benchmarks/decode.py BEFORE AFTER [--change "what is between them"] [--rounds 3] [--repeats 3]

A tree is a checkout of this repository. Counted is the CPU of one thread, which neighbours on a busy machine change less than
the clock; each round is a process per tree. Results go to ``benchmarks/results/decode.json``, the trees in order.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "decode.json"


def milliseconds(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return 1e3 * (time.process_time() - begun)


def measure(repeats: int) -> None:
    """Print (engine, floor) of this process's tree, in milliseconds, as often as asked."""
    import numpy as np
    import torch

    torch.set_num_threads(1)
    from engine import PROMPT, Request, Sides, machine, text_tokens

    sides, prompt = Sides("float32"), tuple(text_tokens(PROMPT))
    weights = [m.weight.detach() for m in sides.plain.modules() if isinstance(m, torch.nn.Linear)]
    inputs = {w.shape[1]: torch.randn(64, w.shape[1]) for w in weights}
    starts = np.random.default_rng(2).integers(100, 40_000, size=64).tolist()
    asked = [Request(prompt, (a, 7), key=(1, i)) for i, a in enumerate(starts)]

    @torch.inference_mode()
    def floor() -> None:
        for w in weights:
            torch.nn.functional.linear(inputs[w.shape[1]], w)

    rows: list[tuple[float, float]] = []
    for _ in range(repeats):
        sides.engine.clear()
        sides.engine.log_laws(prompt, [(a,) for a in starts])
        rows.append((milliseconds(lambda: sides.engine.answer(asked)), milliseconds(floor)))
    print(json.dumps({"rows": rows, "machine": machine()}))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("trees", nargs="*", type=Path)
    parser.add_argument("--change", default="the last change", help="what is between the trees")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    if not given.trees:
        measure(given.repeats)
        return
    rows: dict[Path, list[tuple[float, float]]] = {tree.resolve(): [] for tree in given.trees}
    found: dict[str, Any] = {"change": given.change}
    for _ in range(given.rounds):
        for tree in rows:
            paths = os.pathsep.join(str(tree / part) for part in ("src", "benchmarks"))
            command = [sys.executable, __file__, "--repeats", str(given.repeats)]
            flags = {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
            made = subprocess.run(
                command, env={**os.environ, **flags}, check=True, stdout=subprocess.PIPE, text=True
            )
            said = json.loads(made.stdout.splitlines()[-1])
            rows[tree] += said["rows"]
            found["machine"] = said["machine"]
            print(tree, said["rows"], flush=True)
    found["trees"] = [
        {
            "engine_ms": round(min(e for e, _ in each), 1),
            "floor_ms": round(min(f for _, f in each), 1),
            "ratio": round(statistics.median(e / f for e, f in each), 3),
        }
        for each in rows.values()
    ]
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
