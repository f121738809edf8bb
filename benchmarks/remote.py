"""A server through ``Remote`` beside the asyncio client that one would write for it: ratios of throughput, and CPU.

    python benchmarks/remote.py [--repeats 3] [--per-token 0.005]
    python benchmarks/remote.py --url http://127.0.0.1:8000 [--repeats 3] [--length 64]

Both sides use httpx2 against the same server: the one at ``--url``, or the test server of ``tests/engines`` in a process
of its own, which takes so many seconds per generated token and a hundredth of it per prompt token that no cache has.
The peer sends what is best for each dialect: one call for all continuations where there is a field for it (vLLM), else
as many calls at once as the server has slots, and tree queries in sorted order. Results go to
``benchmarks/results/remote.json``, those of a real server to ``docs/results/speed-DIALECT.json``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

from reroot.generators import Remote
from reroot.generators.base import Request

TESTS = Path(__file__).parents[1] / "tests"
RESULTS = Path(__file__).parent / "results" / "remote.json"
REAL_RESULTS = Path(__file__).parents[1] / "docs" / "results"
PROMPT = tuple(range(70, 94))
SLOTS = {"vllm": 32, "llamacpp": 4}
NEUTRAL = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0}
Bodies = Sequence[dict[str, Any]]


def tree(count: int) -> list[tuple[int, ...]]:
    """Prefixes of a random tree, in no order."""
    rng = np.random.default_rng(1)
    nodes: list[tuple[int, ...]] = [()]
    while len(nodes) < count:
        parent = nodes[int(rng.integers(max(0, len(nodes) - 40), len(nodes)))]
        nodes.append((*parent, int(rng.integers(70, 95))))
    return [nodes[i] for i in rng.permutation(count)]


@contextmanager
def running(dialect: str, per_token: float) -> Iterator[str]:
    """The address of a server in a process of its own."""
    flags = {"per_token": per_token, "per_prompt": per_token / 100, "slots": SLOTS[dialect]}
    settings = [f"--set={name}={value}" for name, value in flags.items()]
    command = [sys.executable, "-m", "engines", dialect, "--end", "1e-12", *settings]
    process = subprocess.Popen(command, cwd=TESTS, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


async def peer(url: str, path: str, bodies: Bodies, slots: int) -> None:
    """All bodies, as many at once as the server has places."""
    room = asyncio.Semaphore(slots)
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx2.AsyncClient(base_url=url, timeout=600, limits=limits) as client:

        async def one(body: dict[str, Any]) -> Any:
            async with room:
                reply = await client.post(path, json=body)
            reply.raise_for_status()
            return reply.json()

        await asyncio.gather(*map(one, bodies))


def spelt(
    dialect: str, prompts: Sequence[tuple[int, ...]], n: int, length: int, seed: int
) -> Bodies:
    """The peer's bodies: ``n`` continuations at each prompt."""
    if dialect == "vllm":
        shared = {**NEUTRAL, "n": n, "max_tokens": length, "return_token_ids": True}
        return [{**shared, "prompt": p, "seed": seed + 1000 * i} for i, p in enumerate(prompts)]
    shared = {**NEUTRAL, "n_predict": length, "return_tokens": True}
    return [
        {**shared, "prompt": p, "seed": 1000 * i + j}
        for i, p in enumerate(prompts)
        for j in range(n)
    ]


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """(seconds, seconds of this process's CPU)."""
    begun, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - begun, time.process_time() - cpu


def measured(remote: Remote, url: str, repeats: int, length: int) -> dict[str, Any]:
    """Medians of interleaved repeats, for rollouts and for tree queries."""
    dialect = str(remote.describe()["dialect"])
    stop, prefixes = remote.stops(()), tree(256)
    path = "/v1/completions" if dialect == "vllm" else "/completion"
    key = 0
    out: dict[str, Any] = {}
    for name, prompts, n, most in (
        (f"64 rollouts of {length} tokens", [PROMPT], 64, length),
        ("256 tree queries", [(*PROMPT, *u) for u in prefixes], 1, 1),
    ):
        rows: list[tuple[float, float, float, float]] = []
        before = remote.physical()
        for _ in range(repeats + 1):
            key += 1
            asked = [
                Request(PROMPT, p[len(PROMPT) :], n, most, key=(key, i), stop=stop)
                for i, p in enumerate(prompts)
            ]
            bodies = spelt(dialect, sorted(prompts), n, most, 10**6 * key)
            sides = {
                "ours": lambda asked=asked: remote.answer(asked),
                "theirs": lambda bodies=bodies: asyncio.run(
                    peer(url, path, bodies, SLOTS[dialect])
                ),
            }
            order = list(sides) if key % 2 else list(sides)[::-1]
            took = {side: timed(sides[side]) for side in order}
            rows.append((*took["ours"], *took["theirs"]))
        wall, cpu, peers, peers_cpu = (statistics.median(c) for c in zip(*rows[1:], strict=True))
        out[name] = {
            "seconds": round(wall, 3),
            "peer_seconds": round(peers, 3),
            "ratio": round(statistics.median(r[2] / r[0] for r in rows[1:]), 3),
            "cpu_of_wall": round(cpu / wall, 4),
            "peer_cpu_of_wall": round(peers_cpu / peers, 4),
            "prompt_tokens_cached": (remote.physical().cached - before.cached) // (repeats + 1),
        }
        print(f"{dialect:9} {name:26} {out[name]}", flush=True)
    return out


def real(url: str, repeats: int, length: int) -> None:
    """A server that runs already."""
    with httpx2.Client(base_url=url, timeout=60) as client:
        told = [client.get(path) for path in ("/version", "/props")]
    about = next(reply.json() for reply in told if reply.status_code == 200)
    remote = Remote(url)
    dialect = str(remote.describe()["dialect"])
    found = {
        "machine": platform.machine(),
        "python": platform.python_version(),
        "version": about.get("version") or about.get("build_info"),
        "model": Path(str(remote.describe()["model"])).name,
        **measured(remote, url, repeats, length),
    }
    remote.close()
    file = REAL_RESULTS / f"speed-{dialect}.json"
    file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--per-token", type=float, default=0.005)
    parser.add_argument("--url", help="a vLLM or llama.cpp server that runs already")
    parser.add_argument("--length", type=int, default=64, help="tokens of a rollout")
    given = parser.parse_args()
    if given.url:
        real(given.url, given.repeats, given.length)
        return
    sys.path.insert(0, str(TESTS))
    from engines.language import save_tokenizer

    found: dict[str, Any] = {"machine": platform.machine(), "python": platform.python_version()}
    with tempfile.TemporaryDirectory() as scratch:
        folder = save_tokenizer(Path(scratch))
        for dialect in SLOTS:
            own = {"tokenizer": folder} if dialect == "vllm" else {}
            with running(dialect, given.per_token) as url:
                remote = Remote(url, window=SLOTS[dialect], **own)
                found[dialect] = measured(remote, url, given.repeats, given.length)
                remote.close()
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
