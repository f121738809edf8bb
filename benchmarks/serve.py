"""The service under load, on loopback: asks per second, a language model's tokens, and clients that misbehave.

    python benchmarks/serve.py asks [--seconds 15] [--workers 0 1] [--record]
    python benchmarks/serve.py tokens [--repeats 3] [--record]
    python benchmarks/serve.py soak [--seconds 300] [--clients 256] [--record]

``asks``: an exact family (K = 3, H = 4), a key with a budget, wrk (Debian's package of that name) with one thread
and 64 connections that stay open; ``turns`` are those of 1,024 sessions, of one ask or of four each, ``completions``
are requests to ``/v1/completions``. ``tokens``: SmolLM2, 32 attempts at a time of ``best_of_n``, served and in process in turn;
tokens per second. ``soak``: half of the clients behave (sessions and completions, one of two keys with a budget that
runs out), half do not (``tests/misbehaving.py``); memory and descriptors of the server each second, and straight
lines through them after a fifth of the time. ``--record`` writes ``benchmarks/results/serve.json``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

import reroot

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "serve.json"
EXACT = ("--model", "hidden_path:K=3,H=4,p=0.6", "--problems", "4")
GRANTS = "root/sample+reward"
SESSIONS, CONNECTIONS, AT_ONCE = 1024, 64, 32
ASK = '{"ask":[{"prefix":[],"n":1,"length":null,"report":"sample","forced":null}]}'
KINDS = {
    "turns": 1,
    "turns of 4 asks": 4,
    "completions": 0,
}  # asks of a turn; 0: a request without one
SCRIPT = """
local paths, turns, n = {}, %s, -2  -- wrk calls request() once before it begins
for line in io.lines("%s") do paths[#paths + 1] = line end
wrk.headers["Authorization"] = "Bearer %s"
wrk.headers["Content-Type"] = "application/json"
function request()
  n = n + 1
  local path = paths[n %% #paths + 1]
  if turns then path = path .. math.floor(n / #paths) end
  return wrk.format("POST", path, nil, '%s')
end
"""


# ---- a server ------------------------------------------------------------------------------------


@dataclass
class Server:
    """One that runs as a command does.

    Attributes:
        url, folder: its address and its files.
        pids: of its processes, itself first.
    """

    url: str
    folder: Path
    pids: list[int]

    def key(self, name: str, **options: object) -> str:
        """A new key."""
        told = [word for option, value in options.items() for word in (f"--{option}", str(value))]
        command = [sys.executable, "-m", "reroot", "keys", "add", name]
        files = ["--keys", str(self.folder / "keys.toml"), "--grants", GRANTS, "--results"]
        done = subprocess.run([*command, *files, *told], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def processor(self) -> list[float]:
        """Seconds of processor time of each process."""
        stats = [
            Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split() for pid in self.pids
        ]
        return [(int(s[11]) + int(s[12])) / os.sysconf("SC_CLK_TCK") for s in stats]

    def weight(self) -> tuple[float, int]:
        """MB in memory, and descriptors, of all processes."""
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.pids)
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, sum(
            len(os.listdir(f"/proc/{pid}/fd")) for pid in self.pids
        )


@contextmanager
def serving(*options: str) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "keys.toml").touch()
        files = ["--keys", str(folder / "keys.toml"), "--db", str(folder / "db"), "--port", "0"]
        command = [sys.executable, "-m", "reroot", "serve", *files, *options]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if "http" not in line:
                raise SystemExit((folder / "log").read_text())
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            yield Server(line.split()[-1], folder, [process.pid, *map(int, children)])
        finally:
            process.terminate()
            process.wait(60)


def client(key: str) -> httpx2.Client:
    return httpx2.Client(headers={"Authorization": f"Bearer {key}"}, trust_env=False, timeout=600)


# ---- asks of an exact family ---------------------------------------------------------------------


def asks(seconds: int, workers: Sequence[int]) -> dict[str, Any]:
    """Of each kind and number of workers, what wrk says, and microseconds of processor time per ask."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed: apt-get install wrk")
    found: dict[str, Any] = {}
    for count in workers:
        for kind in KINDS:
            with serving(*EXACT, "--workers", str(count)) as server:
                row = _wrk(server, kind, seconds)
            found[f"{kind}, {count} workers"] = row
            print(f"{kind}, {count} workers: {row}", flush=True)
    return found


def _wrk(server: Server, kind: str, seconds: int) -> dict[str, Any]:
    key = server.key("load", budget=f"tokens={10**12}", queue=1000)
    with client(key) as http:
        problem = http.get(f"{server.url}/v1/problems").json()["problems"][0]
        paths, body = ["/v1/completions"], json.dumps({"prompt": problem["prompt_tokens"]})
        if each := KINDS[kind]:
            opened = [
                http.post(f"{server.url}/v1/sessions", json={"problem": problem["id"]}).json()
                for _ in range(SESSIONS)
            ]
            paths = [f"/v1/sessions/{one['session']}/turns/" for one in opened]
            body = f'{{"messages":[{",".join([ASK] * each)}]}}'
        (server.folder / "paths").write_text("\n".join(paths) + "\n")
        turns = str(bool(each)).lower()
        script = server.folder / "load.lua"
        script.write_text(SCRIPT % (turns, server.folder / "paths", key, body))
        before = http.get(f"{server.url}/v1/account").json()["spent"]["rollouts"]
        used = server.processor()
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}", "--latency", "-s", str(script)]
        said = subprocess.run([*command, server.url], capture_output=True, text=True, check=True)
        used = [after - b for after, b in zip(server.processor(), used, strict=True)]
        after = http.get(f"{server.url}/v1/account").json()
    asked = max(1, each)
    count = asked * int(re.findall(r"(\d+) requests in", said.stdout)[0])
    refused = re.findall(r"Non-2xx or 3xx responses: (\d+)", said.stdout)
    return {
        "asks_per_second": asked * float(re.findall(r"Requests/sec: +([\d.]+)", said.stdout)[0]),
        "p50_ms": _milliseconds(said.stdout, "50%"),
        "p99_ms": _milliseconds(said.stdout, "99%"),
        "asks": count,
        "refused": int(refused[0]) if refused else 0,
        "charged": after["spent"]["rollouts"] - before,
        "processor_us_per_ask": [round(1e6 * each / count) for each in used],
    }


def _milliseconds(text: str, what: str) -> float:
    value, unit = re.findall(rf"{what} +([\d.]+)(us|ms|s)", text)[0]
    return float(value) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[unit]


# ---- tokens of a language model ------------------------------------------------------------------


def tokens(repeats: int, model: str, length: int, attempts: int, rollouts: int) -> dict[str, Any]:
    """Tokens per second of the same work, served and in process, in turn."""
    from reroot.runs.models import Load
    from reroot.runs.workload import build_workload

    task, horizon = "running_sum", str(length)
    count = ("--task", task, "--horizons", horizon, "--problems", str(attempts))
    work = build_workload(model, [task], [length], 1, attempts, Load(False, "float32", "cpu"))
    problems = [episode.problem for cell in work.cells for episode in cell.episodes]
    rows: list[tuple[float, float]] = []
    with serving("--model", model, *count) as server:
        key = server.key("load", queue=1000)
        learner = f"best_of_n:n={rollouts}"
        for seed in range(repeats + 1):  # each has other draws, of which nothing is known yet
            wall = reroot.connect(server.url, key)
            there = _rate(learner, wall, wall.problems(), seed)
            wall.close()
            rows.append((there, _rate(learner, work.generator, problems, seed)))
    served, inside = (statistics.median(row[i] for row in rows[1:]) for i in (0, 1))
    ratio = statistics.median(a / b for a, b in rows[1:])
    found = {"served_per_second": round(served, 1), "in_process_per_second": round(inside, 1)}
    found |= {"ratio": round(ratio, 3), "ratios": [round(a / b, 3) for a, b in rows[1:]]}
    print(f"tokens, {AT_ONCE} at a time: {found}", flush=True)
    return found


def _rate(learner: str, generator: Any, problems: Sequence[Any], seed: int) -> float:
    began = time.perf_counter()
    run = reroot.run(learner, problems, generator, grants=GRANTS, concurrency=AT_ONCE, seed=seed)
    return run.cost.tokens / (time.perf_counter() - began)


# ---- clients that misbehave ----------------------------------------------------------------------


def soak(seconds: int, count: int, workers: int) -> dict[str, Any]:
    """What became of good clients, accounts and the server's weight."""
    sys.path.insert(0, str(ROOT / "tests"))
    from misbehaving import Load, clients  # pyright: ignore[reportMissingImports]

    limits = {"rich": 10**9, "poor": 40 * seconds, "bad": 100 * seconds}
    weights: list[tuple[float, float, int]] = []
    with serving(*EXACT, "--client-timeout", "10", "--workers", str(workers)) as server:
        keys = {n: server.key(n, budget=f"tokens={t}", queue=500) for n, t in limits.items()}
        with client(keys["rich"]) as http:
            problem = http.get(f"{server.url}/v1/problems").json()["problems"][0]
        began = time.monotonic()
        port = int(server.url.rsplit(":", 1)[1])
        load = Load(port, problem["id"], problem["prompt_tokens"], began + seconds, 0.25)
        over = threading.Event()

        def weigh() -> None:
            while not over.wait(1.0):
                weights.append((time.monotonic() - began, *server.weight()))

        thread = threading.Thread(target=weigh)
        thread.start()
        asyncio.run(clients(load, [keys["rich"], keys["poor"]], [keys["bad"]], count // 2))
        over.set()
        thread.join()
        time.sleep(15.0)  # the connections that were left half open end
        left = server.weight()[1]
        accounts = {n: _account(server, key) for n, key in keys.items()}
    took = np.array(load.seconds)
    equal = [accounts[n]["spent"]["tokens"] == load.received[keys[n]] for n in ("rich", "poor")]
    return {
        "clients": count,
        "seconds": seconds,
        "good_requests": len(took),
        "good_errors": len(load.errors),
        "good_answers": {str(k): v for k, v in sorted(load.answers.items())},
        "good_p50_ms": round(1000 * float(np.quantile(took, 0.5)), 1),
        "good_p99_ms": round(1000 * float(np.quantile(took, 0.99)), 1),
        "good_max_ms": round(1000 * float(took.max()), 1),
        "accounts_equal_received": all(equal),
        "spent_of_budget": {
            n: f"{a['spent']['tokens']} of {limits[n]}" for n, a in accounts.items()
        },
        "reserved_after": sum(a["reserved"]["tokens"] for a in accounts.values()),
        "descriptors_after": left,
        **_lines(weights, seconds),
        "bad": dict(sorted(load.bad.items())),
    }


def _account(server: Server, key: str) -> dict[str, Any]:
    with client(key) as http:
        return http.get(f"{server.url}/v1/account").json()


def _lines(weights: Sequence[tuple[float, float, int]], seconds: int) -> dict[str, Any]:
    """Straight lines through memory and descriptors, after a fifth of the time."""
    rows = np.array([row for row in weights if seconds / 5 < row[0] < seconds - 1])
    memory, open_ = (np.polyfit(rows[:, 0] / 60.0, rows[:, i], 1)[0] for i in (1, 2))
    return {
        "memory_mb": [round(float(rows[0, 1]), 1), round(float(rows[-1, 1]), 1)],
        "memory_mb_per_minute": round(float(memory), 2),
        "descriptors": [int(rows[:, 2].min()), int(rows[:, 2].max())],
        "descriptors_per_minute": round(float(open_), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("asks", "tokens", "soak"))
    parser.add_argument("--seconds", type=int, help="of load (15; a soak 300)")
    parser.add_argument("--workers", type=int, nargs="+", default=None)
    parser.add_argument("--clients", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--length", type=int, default=8, help="size of the task")
    parser.add_argument("--attempts", type=int, default=32)
    parser.add_argument("--rollouts", type=int, default=4, help="of each attempt")
    parser.add_argument("--record", action="store_true")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the server ends, too
    if given.what == "asks":
        found = asks(given.seconds or 15, given.workers or [0, 1])
    elif given.what == "tokens":
        found = tokens(given.repeats, given.model, given.length, given.attempts, given.rollouts)
    else:
        found = soak(given.seconds or 300, given.clients, (given.workers or [0])[0])
        print(json.dumps(found, indent=1), flush=True)
    if given.record:
        known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
        machine = {"cpu": platform.machine(), "cores": os.cpu_count()}
        machine |= {"python": platform.python_version(), "load": round(os.getloadavg()[0], 1)}
        known[given.what] = {"machine": machine, **found}
        RESULTS.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
