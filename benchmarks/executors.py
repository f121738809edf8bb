"""What executors cost and bring, on an exact family: seconds per attempt in this process, in processes, on Ray.

    python benchmarks/executors.py [--ray] [--record]

Goals: Ray costs at most 1.3 times what processes cost per attempt, and two workers are at least 1.8 times as fast
as one. ``--record`` writes ``benchmarks/results/executors.json``. Seconds are of a second, larger run less a small one, so that starting workers is not in
them. Meant for a machine that does nothing else.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import reroot
from reroot.runs.executors.base import Executor
from reroot.runs.executors.on_ray import OnRay
from reroot.runs.executors.processes import Processes

RECORD = Path(__file__).parent / "results" / "executors.json"
MODEL, SMALL, LARGE = "hidden_path:K=4,H=16,p=0.4", 16, 512
LEARNERS = ["best_of_n:n=1", "tokenwise_rejection"]


def seconds(executor: Executor, problems: int) -> float:
    """Of a whole comparison."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        reroot.compare(
            model=MODEL,
            learners=LEARNERS,
            budget_tokens=2000 * problems,
            seeds=2,
            problems=problems,
            out=Path(folder) / "run",
            executor=executor,
        )
        return time.perf_counter() - started


def main() -> None:
    executors: dict[str, Executor] = {f"processes, {n}": Processes(n) for n in (1, 2)}
    if "--ray" in sys.argv:
        executors |= {f"Ray local, {n}": OnRay("local", n) for n in (1, 2)}
    attempts = (LARGE - SMALL) * 2 * len(LEARNERS)
    found: dict[str, float] = {}
    for name, executor in executors.items():
        start = seconds(executor, SMALL)
        each = (seconds(executor, LARGE) - start) / attempts
        found[name] = each
        print(f"{name}: {1000 * each:.2f} ms per attempt; {start:.1f} s of a small run")

    ratios = {"processes, 2 over 1": found["processes, 1"] / found["processes, 2"]}
    if "--ray" in sys.argv:
        ratios["Ray, 2 over 1"] = found["Ray local, 1"] / found["Ray local, 2"]
        ratios["Ray over processes, 2"] = found["Ray local, 2"] / found["processes, 2"]
    for name, ratio in ratios.items():
        print(f"{name}: {ratio:.2f}")
    if "--record" in sys.argv:
        content = {
            "load_average": os.getloadavg()[1],
            "seconds_per_attempt": found,
            "ratios": ratios,
        }
        RECORD.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
