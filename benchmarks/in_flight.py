"""Answers as they come against answers in lock-step, on a simulated engine; and what waiting costs.

    python benchmarks/in_flight.py [--old CHECKOUT]

The engine serves so many requests at a time, one token of each per step; outputs have geometric
lengths of mean 32. (a) It answers a batch when all of it is done (``answer``); (b) it answers each
request when it is done (``submit``). (c) Memory and threads with 2,000 attempts waiting, in a run
folder with transcripts. (d) With an older checkout of this repository: CPU time of comparisons on
exact families there and here, in processes that take turns. Results go to ``benchmarks/results/in-flight.json``.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np

import reroot
from reroot.generators import IntegerGenerator
from reroot.generators.base import Request
from reroot.tasks.base import Problem
from reroot.types import Prefix, Reply

RESULTS = Path(__file__).parent / "results"
MEAN, HORIZON, STEP = 32, 1024, 0.002
REPEATS = 3


class Coin(IntegerGenerator):
    """Every token ends the output with probability 1 / ``MEAN``."""

    def __init__(self) -> None:
        super().__init__(2, HORIZON, end=(1,))

    def _start(self, prompt: Sequence[int], prefix: Sequence[int]) -> int:
        return 0

    def _advance(self, states: Any, tokens: Any) -> Any:
        return np.zeros_like(states)

    def _laws(self, states: Any) -> Any:
        return np.tile(np.log([1 - 1 / MEAN, 1 / MEAN]), (len(states), 1))

    def describe(self) -> dict[str, object]:
        return {"family": "coin", "mean": MEAN}


def drawn(request: Request) -> Reply:
    """One output, at a cost that does not grow with its length: the engine's time is simulated."""
    if request.forced is None:
        length = int(np.random.default_rng((*request.key, request.first)).geometric(1 / MEAN))
        tokens = np.zeros((1, min(length, request.length)), dtype=np.int64)
        tokens[0, -1] = length <= request.length
    else:
        tokens = np.array([request.forced], dtype=np.int64)
    logprobs = np.log(np.where(tokens == 1, 1 / MEAN, 1 - 1 / MEAN))
    return Reply(Prefix(request.prefix), tokens, np.array([tokens.shape[1]]), logprobs)


class Engine(Coin):
    """The same, ``STEP`` seconds per token, ``slots`` requests at a time in the order in which they came."""

    def __init__(self, slots: int) -> None:
        super().__init__()
        self.slots, self.most, self.threads, self.memory = slots, 0, 0, 0
        self._queue: deque[tuple[float, Reply, Future[Reply]]] = deque()
        self._busy: list[tuple[float, int, Reply, Future[Reply]]] = []
        self._wake = threading.Condition()
        threading.Thread(target=self._serve, daemon=True).start()

    def begin(self, requests: Sequence[Request]) -> list[Future[Reply]]:
        futures: list[Future[Reply]] = [Future() for _ in requests]
        with self._wake:
            for future, request in zip(futures, requests, strict=True):
                reply = drawn(request)
                tokens = 1 if request.forced else reply.tokens.shape[1]
                self._queue.append((STEP * tokens, reply, future))
            self._wake.notify()
        return futures

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        return [future.result() for future in self.begin(requests)]

    def _serve(self) -> None:
        count = 0
        with self._wake:
            while True:
                now = time.monotonic()
                while self._busy and self._busy[0][0] <= now:
                    _, _, reply, future = heapq.heappop(self._busy)
                    future.set_result(reply)
                while self._queue and len(self._busy) < self.slots:
                    seconds, reply, future = self._queue.popleft()
                    count += 1
                    heapq.heappush(self._busy, (now + seconds, count, reply, future))
                if len(self._busy) + len(self._queue) > self.most:
                    self.most = len(self._busy) + len(self._queue)
                    self.threads, self.memory = os_threads(), resident()
                self._wake.wait(max(0.0, self._busy[0][0] - now) if self._busy else None)


class Concurrent(Engine):
    def submit(self, requests: Sequence[Request]) -> list[Future[Reply]]:
        return self.begin(requests)


def status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])


def os_threads() -> int:
    return status("Threads:")


def resident() -> int:
    """Bytes."""
    return 1024 * status("VmRSS:")


@reroot.learner(requires="root/sample")
async def one_by_one(session: reroot.Session, *, rollouts: int) -> reroot.Prefix | None:
    """Rollouts, one after the other; the last one."""
    output = None
    for _ in range(rollouts):
        output = (await session.rollouts(1)).outputs()[0]
    return output


def problems(count: int) -> list[Problem]:
    return [Problem(f"p{i}", (), HORIZON, reward=lambda o: 1.0) for i in range(count)]


def waves(slots: int, concurrency: int, attempts: int, rollouts: int) -> dict[str, Any]:
    """Seconds in lock-step and as they come; and the least that the slots allow."""
    found: dict[str, list[float]] = {"lock-step": [], "as they come": [], "cpu": []}
    tokens = 0
    for _ in range(REPEATS):
        for name, kind in (("lock-step", Engine), ("as they come", Concurrent)):
            started, cpu = time.perf_counter(), time.process_time()
            result = reroot.run(
                *(one_by_one(rollouts=rollouts), problems(attempts), kind(slots)),
                grants="root/sample",
                concurrency=concurrency,
            )
            found[name].append(time.perf_counter() - started)
            if kind is Concurrent:
                found["cpu"].append((time.process_time() - cpu) / found[name][-1])
            tokens = result.cost.tokens
    a, b = (statistics.median(found[name]) for name in ("lock-step", "as they come"))
    return {
        "slots": slots,
        "in flight": concurrency,
        "attempts": attempts,
        "rollouts": rollouts,
        "lock-step": a,
        "as they come": b,
        "ratio": a / b,
        "least": tokens * STEP / slots,
        "cpu share": statistics.median(found["cpu"]),
    }


def waiting(count: int) -> dict[str, Any]:
    """Memory and threads of this process while ``count`` attempts wait."""
    before, threads = resident(), os_threads()
    engine = Concurrent(count)
    with tempfile.TemporaryDirectory() as out:
        result = reroot.run(
            *(one_by_one(rollouts=4), problems(count), engine),
            grants="root/sample",
            concurrency=count,
            out=out,
            transcripts=True,
        )
    assert result.pass_rate == 1.0
    return {
        "in flight": engine.most,
        "resident MB": engine.memory / 1e6,
        "MB before": before / 1e6,
        "peak MB": 1024 * status("VmHWM:") / 1e6,
        "threads": engine.threads - threads,
    }


EXACT = """
import tempfile, time, reroot
learners = ["best_of_n:n=16", "backtracking:quota=6,stride=2", "plurality_walk:draws_per_token=16"]
def once(out, seeds):
    started = time.process_time()
    reroot.compare(model="hidden_path:K=4,H=16,p=0.4", learners=learners, budget_tokens=3000, seeds=seeds,
                   grants=["visited/sample+reward+verifier"], transcripts=True, out=out)
    return time.process_time() - started
with tempfile.TemporaryDirectory() as out:
    once(out + "/warm", 1)
    print(min(once(f"{out}/{i}", 4) for i in range(3)))
"""


def isolated(code: str, source: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(source), str(Path(__file__).parent))),
        },
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def exact(old: Path, repeats: int = 8) -> dict[str, Any]:
    """CPU seconds of a comparison on an exact family, in this checkout and in another one."""
    sources = {"now": Path(reroot.__file__).parents[1], "before": old / "src"}
    found: dict[str, list[float]] = {name: [] for name in sources}
    for i in range(repeats):
        for name in sorted(sources, reverse=i % 2 == 0):
            found[name].append(float(isolated(EXACT, sources[name])))
    ratios = [a / b for a, b in zip(found["now"], found["before"], strict=True)]
    return {
        **{name: statistics.median(values) for name, values in found.items()},
        "least now": min(found["now"]),
        "least before": min(found["before"]),
        "ratio": statistics.median(ratios),
        "ratios": sorted(round(ratio, 3) for ratio in ratios),
    }


def machine() -> dict[str, str]:
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    cpu = names[0] if names else platform.processor()
    return {"cpu": cpu, "threads": str(os.cpu_count()), "python": platform.python_version()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--old", type=Path, help="an older checkout to compare with")
    old = parser.parse_args().old
    source = Path(reroot.__file__).parents[1]
    found: dict[str, Any] = {"machine": machine(), "mean": MEAN, "step": STEP}
    found["waves"] = [waves(64, 64, 256, 8), waves(64, 128, 256, 8), waves(64, 64, 64, 16)]
    print(json.dumps(found["waves"], indent=1), flush=True)
    call = "import in_flight, json; print(json.dumps(in_flight.waiting(2000)))"
    found["waiting"] = json.loads(isolated(call, source))
    print(json.dumps(found["waiting"], indent=1), flush=True)
    if old is not None:
        found["exact"] = exact(old)
        print(json.dumps(found["exact"], indent=1), flush=True)
    path = RESULTS / "in-flight.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
