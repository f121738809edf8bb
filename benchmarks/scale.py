"""What grows with the attempts of a run, and how fast: memory of the driver, bytes, messages, summary and report.

    python benchmarks/scale.py --attempts 10000 100000 [--ray] [--replicas 2] [--record]

Comparisons of ten learners on an exact family under ten seeds, each in a process of its own: its most memory is
that of the driver. 10^6 attempts take about 0.6 GB of disk. ``--record`` writes ``benchmarks/results/scale.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import reroot
from reroot.runs.executors.base import Batch, Begin, Done, Executor, Pool
from reroot.runs.executors.on_ray import OnRay
from reroot.runs.executors.processes import Processes

RECORD = Path(__file__).parent / "results" / "scale.json"
LEARNERS, SEEDS = [f"best_of_n:n={n}" for n in range(1, 11)], 10
SIZED = 2000  # results whose size is looked at


@dataclass
class Counted:
    """An executor whose messages are counted: a batch goes out, its results come back."""

    of: Executor
    batches: int = 0
    sizes: list[int] = field(default_factory=list[int])

    @property
    def workers(self) -> int:
        return self.of.workers

    @property
    def here(self) -> bool:
        return False

    @contextmanager
    def pool(self, begin: Begin) -> Iterator[Pool]:
        with self.of.pool(begin) as pool:
            yield _Counted(self, pool)


@dataclass
class _Counted:
    counted: Counted
    pool: Pool

    def results(self, batches: Iterable[Batch]) -> Iterator[Done]:
        for done in self.pool.results(self.noted(batches)):
            if len(self.counted.sizes) < SIZED:
                self.counted.sizes.append(len(pickle.dumps(done.value)))
            yield done

    def noted(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        for batch in batches:
            self.counted.batches += 1
            yield batch


def one(attempts: int, executor: Executor, out: Path) -> dict[str, Any]:
    """One comparison, in this process."""
    counted, began, last = Counted(executor), list[float](), time.perf_counter()

    def note(attempt: object) -> None:
        nonlocal last
        last = time.perf_counter()

    started = last
    found = reroot.compare(
        model="hidden_path:K=3,H=2,p=0.6",
        grants="root/sample",
        learners=LEARNERS,
        budget_tokens=attempts,  # 100 tokens for each problem
        seeds=SEEDS,
        problems=attempts // (SEEDS * len(LEARNERS)),
        out=out,
        executor=counted,
        on_start=lambda total, done: began.append(time.perf_counter()),
        on_attempt=note,
    )
    ended = time.perf_counter()
    assert found.data.made == (attempts, attempts)
    sizes: dict[str, int] = {}
    for file in (f for f in out.rglob("*") if f.is_file()):
        name = file.relative_to(out).parts[0]
        sizes[name] = sizes.get(name, 0) + file.stat().st_size
    return {
        "attempts": attempts,
        "start_seconds": began[0] - started,
        "attempt_seconds": last - began[0],
        "summary_seconds": ended - last,
        "driver_peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "driver_cpu_seconds": time.process_time(),
        "messages": 2 * counted.batches,
        "message_bytes_per_attempt": sum(counted.sizes) / len(counted.sizes),
        "bytes": sizes,
        "bytes_per_attempt": sum(sizes.values()) / attempts,
    }


def reported(out: Path) -> dict[str, float]:
    """``reroot report`` of the folder: its seconds and most memory."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "reroot", "report", str(out)], stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0
    return {
        "report_seconds": time.perf_counter() - started,
        "report_cpu_seconds": used.ru_utime + used.ru_stime,
        "report_peak_mib": used.ru_maxrss / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attempts", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        executor = OnRay("local", options.replicas) if options.ray else Processes(options.replicas)
        found = one(options.attempts[0], executor, options.one / "run")
        (options.one / "found.json").write_text(json.dumps(found), encoding="utf-8")
        return
    rows: list[dict[str, Any]] = []
    for attempts in options.attempts:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, "--attempts", str(attempts), "--one", folder]
            command += ["--replicas", str(options.replicas), *(["--ray"] if options.ray else [])]
            subprocess.run(command, check=True)
            found = json.loads((Path(folder) / "found.json").read_text(encoding="utf-8"))
            rows.append({**found, **reported(Path(folder) / "run")})
        print(json.dumps(rows[-1]), flush=True)
    if options.record:
        how = {"executor": "ray" if options.ray else "processes", "workers": options.replicas}
        load = os.getloadavg()[1]
        content = {**how, "load_average": load, "rows": rows}
        RECORD.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
