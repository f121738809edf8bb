"""The tabular engine against a plain NumPy loop over rollouts, on the same work, in one process.

Medians of interleaved repeats; run with ``python benchmarks/tabular.py`` (one core is enough). With
``--old CHECKOUT`` also what a question costs through a session, now and in an older checkout of this
repository: CPU time of processes of each, one after the other, and the ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

import reroot
from reroot import Contract, Control, Report
from reroot.families import HiddenPath
from reroot.generators.base import Request
from reroot.learners import get_learner

REPEATS = 7


def loop_rollouts(path: HiddenPath, n: int, rng: np.random.Generator) -> np.ndarray:
    """What one would write without the engine: rollout by rollout, token by token."""
    K, H, z = path.vocab_size, path.horizon, path.path
    outputs = np.empty((n, H), dtype=np.int64)
    for i in range(n):
        on = True
        for t in range(H):
            law = np.full(K, path.q if on else 1.0 / K)
            if on:
                law[z[t]] = path.p
            outputs[i, t] = rng.choice(K, p=law)
            on = on and outputs[i, t] == z[t]
    return outputs


def engine_rollouts(path: HiddenPath, n: int) -> np.ndarray:
    """The same through the generator protocol: one request."""
    (reply,) = path.answer([Request((), n=n, length=path.horizon, key=(1, 2))])
    return reply.tokens


@reroot.learner(requires=Contract(Control.VISITED, Report.SAMPLE))
async def draw_batches(session: reroot.Session, *, m: int, batches: int) -> None:
    """Conditional draws in batches of m at visited prefixes, many batches in flight."""
    start = (await session.rollouts(1)).outputs()[0]
    for first in range(0, batches, 64):
        at = range(first, min(batches, first + 64))
        await asyncio.gather(*(session.draws(start[: i % 16], m) for i in at))


def draws_per_second(K: int, m: int, batches: int) -> float:
    """Through a session: contract, rules, meter and coarsening included."""
    path = HiddenPath(K, 16, 2.0 / K)
    started = time.perf_counter()
    result = reroot.run(
        draw_batches(m=m, batches=batches), [path.problem()], path, grants="visited/sample"
    )
    seconds = time.perf_counter() - started
    assert result.cost.queries == m * batches
    return m * batches / seconds


def cpu_per_question(K: int, m: int, walks: bool) -> float:
    """Microseconds of CPU per question of m draws: asked by one learner, 64 at the same time, or by
    64 plurality walks at the same time."""
    path, count = HiddenPath(K, 16, 2.0 / K if not walks else 0.4), 3200
    batches = draw_batches(m=m, batches=count)
    learner = get_learner(f"plurality_walk:draws_per_token={m}") if walks else batches
    problems = [replace(path.problem(), id=f"p{i}") for i in range(count // 16 if walks else 1)]
    started = time.process_time()
    result = reroot.run(learner, problems, path, grants="visited/sample")
    return (time.process_time() - started) / (result.cost.queries / m) * 1e6


def against(old: Path) -> None:
    print(f"CPU per question through a session: now, in {old}, and the ratio (goal: <= 0.6)")
    sources = {"now": Path(reroot.__file__).parents[1], "old": old / "src"}
    for K, m, walks in ((16, 125, False), (4, 125, True)):
        found: dict[str, list[float]] = {name: [] for name in sources}
        for _ in range(REPEATS):
            for name, source in sources.items():
                call = f"print(min(tabular.cpu_per_question({K}, {m}, {walks}) for _ in range(3)))"
                path = os.pathsep.join((str(source), str(Path(__file__).parent)))
                done = subprocess.run(
                    [sys.executable, "-c", f"import tabular; {call}"],
                    env={**os.environ, "PYTHONPATH": path},
                    check=True,
                    capture_output=True,
                    text=True,
                )
                found[name].append(float(done.stdout))
        a, b = statistics.median(found["now"]), statistics.median(found["old"])
        print(f"  K={K:<3} m={m:<5} {'walks' if walks else 'draws'}  now {a:6.1f} us   old {b:6.1f} us"
              f"   ratio {a / b:5.2f}   {m / a:5.2f} M draws/s")  # fmt: skip


def engine_draws_per_second(K: int, m: int, batches: int) -> float:
    """The generator alone, 64 requests a call, as a runner makes them."""
    path = HiddenPath(K, 16, 2.0 / K)
    requests = [Request((), path.path[: i % 16], n=m, key=(3, i)) for i in range(64)]
    calls = -(-batches // 64)
    seconds = timed(lambda: [path.answer(requests) for _ in range(calls)])
    return 64 * m * calls / seconds


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--old", type=Path, help="an older checkout to compare with")
    old = parser.parse_args().old
    if old is not None:
        against(old)
        return
    print("rollouts: tabular engine against a plain NumPy loop (same law, same number)")
    for K, H, n in ((4, 16, 2000), (16, 32, 1000), (64, 64, 300)):
        path = HiddenPath(K, H, 2.0 / K)
        rng = np.random.default_rng(0)
        loop, engine = [], []
        for _ in range(REPEATS):
            engine.append(timed(lambda path=path, n=n: engine_rollouts(path, n)))
            loop.append(
                timed(lambda path=path, n=n // 10, rng=rng: loop_rollouts(path, n, rng)) * 10
            )
        a, b = statistics.median(loop), statistics.median(engine)
        rate = n * H / b / 1e6
        print(f"  K={K:<3} H={H:<3} loop {a:8.3f} s   engine {b:8.4f} s   {rate:6.2f} M tokens/s"
              f"   ratio {a / b:7.0f}")  # fmt: skip
    print("local-reset draws asked in batches of m (goal: 1 M draws/s per core)")
    for K, m in ((4, 217), (16, 125), (16, 494), (64, 304), (64, 3265)):
        batches = max(64, 400_000 // m)
        engine, session = [], []
        for _ in range(REPEATS):
            engine.append(engine_draws_per_second(K, m, batches))
            session.append(draws_per_second(K, m, batches))
        a, b = statistics.median(engine), statistics.median(session)
        print(f"  K={K:<3} m={m:<5} engine {a / 1e6:6.2f} M draws/s   through a session"
              f" {b / 1e6:6.2f} M draws/s")  # fmt: skip


if __name__ == "__main__":
    main()
