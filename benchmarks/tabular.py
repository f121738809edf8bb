"""The tabular engine against a plain NumPy loop over rollouts, on the same work, in one process.

Medians of interleaved repeats; run with ``python benchmarks/tabular.py`` (one core is enough).
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable

import numpy as np

import reroot
from reroot import Contract, Control, Report
from reroot.access.learner import learner
from reroot.families import HiddenPath
from reroot.generators.base import Request

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


@learner(requires=Contract(Control.VISITED, Report.SAMPLE))
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
