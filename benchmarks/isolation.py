"""What a process of its own costs a learner: attempts and asks per second of processor time, on an exact family.

    python benchmarks/isolation.py [--attempts N] [--asks N]

Isolated and in process take turns. Processor time is that of the run's process, of the launcher and of all
the processes it started, which is told when they have ended; the clock is told beside it. (a) Attempts that
ask once. (b) One attempt that asks again and again. Results go to ``benchmarks/results/isolation.json``.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import reroot
from reroot.families import HiddenPath

RESULTS = Path(__file__).parent / "results"
REPEATS = 3
LEARNER = '''
from reroot import learner


@learner(requires="root/sample")
async def asking(session, *, asks: int = 1):
    """Asks for a rollout, again and again."""
    for _ in range(asks):
        reply = await session.rollouts(1)
    return reply.outputs()[0]
'''


def processor() -> float:
    """Seconds of processor time of this process and of those that have ended."""
    mine, theirs = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return mine.ru_utime + mine.ru_stime + theirs.ru_utime + theirs.ru_stime


def seconds(kind: str, file: str, attempts: int, asks: int) -> tuple[float, float]:
    """(processor time, time by the clock) of a run."""
    family = HiddenPath(4, 8, 0.4, seed=1)
    problems = [family.problem(id=f"{i}") for i in range(attempts)]
    before, started = processor(), time.perf_counter()
    run = reroot.run(
        f"{file}:asking:asks={asks}",
        problems,
        family,
        grants="root/sample",
        isolation=kind,
        concurrency=32,
    )
    assert run.cost.rollouts == attempts * asks
    return processor() - before, time.perf_counter() - started


def measured(kind: str, file: str, attempts: int, asks: int) -> dict[str, float]:
    """Least seconds of the repeats, without those of a run of nothing but its start."""
    runs = [
        (seconds(kind, file, attempts, asks), seconds(kind, file, 1, 1)) for _ in range(REPEATS)
    ]
    work, start = (min(run[i][0] for run in runs) for i in (0, 1))
    return {"cpu": work - start, "start_cpu": start, "clock": min(run[0][1] for run in runs)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attempts", type=int, default=200)
    parser.add_argument("--asks", type=int, default=2000)
    options = parser.parse_args()
    found: dict[str, Any] = {"machine": platform.processor() or platform.machine()}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "asking.py"
        file.write_text(LEARNER, encoding="utf-8")
        for what, attempts, asks in (("attempts", options.attempts, 1), ("asks", 1, options.asks)):
            rows = {k: measured(k, str(file), attempts, asks) for k in ("none", "process")}
            count = attempts * asks
            found[what] = {"count": count, **rows}
            for kind, row in rows.items():
                print(
                    f"{what}, isolation {kind}: {count / row['cpu']:,.0f} per second of processor time "
                    f"({1000 * row['cpu'] / count:.2f} ms each), {count / row['clock']:,.0f} by the clock; "
                    f"start {row['start_cpu']:.2f} s"
                )
    (RESULTS / "isolation.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
