"""Servers killed at random moments, with clients that try again: do the accounts equal what clients received?

Several ``reroot serve`` on one ledger are killed (SIGKILL) and started again, one after the other, while
clients run learners through ``reroot.connect``. On PostgreSQL every tenth time the database itself crashes, too.
Afterwards it is checked that

* each key was charged the sum of what its clients were told that their turns cost, and what their attempts say;
* no key is overspent (half of the clients share keys that have too little), and nothing is set aside;
* attempts and transcripts of the others equal, to the byte, those of a run in process;
* requests that were ever answered (``AGAIN`` of them, drawn at random), sent once more, are answered the same, by
  any server, and cost nothing.

``python benchmarks/kills.py --kills 100 --record`` writes ``results/kills.json``; one ``--database`` its part of it.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import reroot
from reroot import Budget, Cost
from reroot.runs.workload import build_workload
from reroot.serving.client import Post, Served
from reroot.serving.keys import add_key
from reroot.serving.ledger import Ledger

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from postgres_toys import Postgres, postgres
from transcripts import left_in

RESULTS = Path(__file__).parent / "results"
MODEL, GRANTS = "hidden_path:K=3,H=4,p=0.6", "chosen/full+reward+verifier+demonstration"
LEARNERS = ("best_of_n:n=6", "plurality_walk:draws_per_token=4", "best_of_n:n=3,oracle=verifier")
SCARCE = 8  # keys that have too little
LITTLE = Cost(tokens=300)
AGAIN = 2000


class Servers:
    """Processes that serve one ledger.

    Args:
        folder: of the keys.
        db: the ledger.
        count: how many.
    """

    def __init__(self, folder: Path, db: str, count: int) -> None:
        where = ["--keys", str(folder / "keys.toml"), "--db", db, "--problems", "4"]
        self._command = [sys.executable, "-m", "reroot", "serve", "--model", MODEL, *where]
        self._processes = [self._start(0) for _ in range(count)]

    def _start(self, port: int) -> tuple[subprocess.Popen[str], int]:
        server = subprocess.Popen(
            [*self._command, "--port", str(port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert server.stdout is not None
        line = server.stdout.readline()
        if not line:
            raise SystemExit(f"a server did not begin: it ended with {server.wait()}")
        return server, int(line.rsplit(":", 1)[1])

    @property
    def urls(self) -> list[str]:
        return [f"http://127.0.0.1:{port}" for _, port in self._processes]

    def kill(self, number: int) -> None:
        """Kill one, and start it again at its port."""
        server, port = self._processes[number]
        server.send_signal(signal.SIGKILL)
        server.wait()
        self._processes[number] = self._start(port)

    def end(self) -> None:
        for server, _ in self._processes:
            server.terminate()
            server.wait()


@dataclass
class Notes:
    """What was asked under a key, and answered.

    Attributes:
        name: of the key.
        cut: how many requests were cut off.
        answers: (path, idempotency key) → what was asked, and answered.
    """

    name: str
    cut: int = 0
    answers: dict[tuple[str, str | None], tuple[Any, dict[str, Any]]] = field(default_factory=dict)


class Noting(Post):
    """Requests that are noted with their answers; one that fails goes to the next server.

    Args:
        urls: of the servers, the first one first.
        key: whose they are.
        notes: where they are noted.
    """

    def __init__(self, urls: Sequence[str], key: str, notes: Notes) -> None:
        self._notes, self._lock = notes, threading.Lock()
        super().__init__(urls[0], key, 300.0)
        after = dict(zip(urls, (*urls[1:], urls[0]), strict=True))
        request = self._client.request

        def counted(*asked: Any, **more: Any) -> Any:
            try:
                return request(*asked, **more)
            except Exception:
                notes.cut += 1
                self.url = after[self.url]
                raise

        self._client.request = counted  # type: ignore[method-assign]

    def ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, once: str | None = None
    ) -> dict[str, Any]:
        content = super().ask(method, path, body, once)
        if method == "POST" and "/sessions" in path:
            with self._lock:
                self._notes.answers[path, once] = body, content
        return content


class Client:
    """One that runs learners until it is told to stop.

    Args:
        number: of the client; odd ones have too little, and two of four wait for the server they began with.
        keys: name → key.
        urls: of the servers.
        folder: of what it leaves.
    """

    def __init__(self, number: int, keys: dict[str, str], urls: list[str], folder: Path) -> None:
        self.number, self._keys, self._folder = number, keys, folder
        first = number % len(urls)
        self._urls = urls[first:] + urls[:first] if number % 4 < 2 else [urls[first]]
        self.notes: list[Notes] = []
        self.costs: dict[str, Cost] = defaultdict(Cost)
        self.faults: list[str] = []
        self.attempts = 0
        self.stop = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def _work(self) -> None:
        number = 0
        try:
            while not self.stop.is_set():
                self._round(number)
                number += 1
        except Exception as error:
            self.faults.append(f"client {self.number}, round {number}: {error!r}")

    def _round(self, number: int) -> None:
        poor = self.number % 2 == 1
        name = f"scarce{number % SCARCE}" if poor else "plenty"
        bound, seed = LEARNERS[number % len(LEARNERS)], 1000 * self.number + number
        self.notes.append(Notes(name))
        wall = Served(Noting(self._urls, self._keys[name], self.notes[-1]))
        settings: dict[str, Any] = {"grants": GRANTS, "seed": seed, "on_error": "record"}
        settings |= {"concurrency": 4, "transcripts": True}
        there = self._folder / f"{self.number}-{number}-there"
        found = reroot.run(bound, wall.problems(), wall, out=there, **settings)
        wall.close()
        self.costs[name] += found.cost
        self.attempts += len(found.attempts)
        if poor:
            return
        here, work = self._folder / f"{self.number}-{number}-here", _work()
        problems = [e.problem for cell in work.cells for e in cell.episodes]
        expected = reroot.run(bound, problems, work.generator, out=here, **settings)
        if found.attempts != expected.attempts:
            self.faults.append(f"client {self.number}, round {number}: other attempts")
        mine, theirs = left_in(there), left_in(here)
        del mine["results.parquet"], theirs["results.parquet"]
        if mine != theirs:
            self.faults.append(f"client {self.number}, round {number}: other transcripts")


def _work() -> Any:
    return build_workload(MODEL, [], [], 1, 4)


def disturb(
    servers: Servers, database: Postgres | None, kills: int, draw: random.Random, spread: float
) -> int:
    """Kill servers, one at a time; how often the database crashed."""
    crashes = 0
    for number in range(kills):
        time.sleep(draw.uniform(0.0, spread))
        if database is not None and number % 10 == 9:
            database.stop()
            database.start()
            crashes += 1
            time.sleep(draw.uniform(0.0, spread))
        servers.kill(draw.randrange(len(servers.urls)))
    return crashes


def received(clients: Sequence[Client]) -> dict[str, Cost]:
    """What clients were told that their turns cost, key by key."""
    last: dict[tuple[str, str], Cost] = defaultdict(Cost)
    for client in clients:
        for notes in client.notes:
            for (path, _), (_, content) in notes.answers.items():
                for answer in content.get("answers", []):
                    session = notes.name, path.split("/")[3]
                    last[session] = Cost(*map(max, last[session], Cost(**answer["spent"])))
    total: dict[str, Cost] = defaultdict(Cost)
    for (name, _), cost in last.items():
        total[name] += cost
    return total


def again(
    clients: Sequence[Client], keys: dict[str, str], urls: list[str], draw: random.Random
) -> tuple[int, list[str]]:
    """Send requests once more, to the servers in turn; how many, and what was answered otherwise."""
    faults: list[str] = []
    all_of_them = [
        (notes.name, *asked, *answered)
        for client in clients
        for notes in client.notes
        for asked, answered in notes.answers.items()
    ]
    some = draw.sample(all_of_them, min(AGAIN, len(all_of_them)))
    posts = {name: [Post(url, key, 60.0) for url in urls] for name, key in keys.items()}
    for number, (name, path, once, body, content) in enumerate(some):
        told = posts[name][number % len(urls)].ask("POST", path, body, once)
        if {**told, "turns": 0} != {**content, "turns": 0}:
            faults.append(f"{name}: {path} was answered otherwise when it was sent again")
    for post in (post for some in posts.values() for post in some):
        post.close()
    return len(some), faults


def accounts(db: str, clients: Sequence[Client], keys: Sequence[str]) -> list[str]:
    """What is wrong with the accounts."""
    faults: list[str] = []
    told, ledger = received(clients), Ledger(db)
    for name in keys:
        spent, held = ledger.spent(name), ledger.reserved(name)
        attempts = sum((client.costs[name] for client in clients), Cost())
        if not spent == told[name] == attempts:
            faults.append(f"{name} was charged {spent}, told {told[name]}, attempts {attempts}")
        if any(held):
            faults.append(f"{name}: {held} is set aside for ever")
        if name != "plenty" and spent.tokens > LITTLE.tokens:
            faults.append(f"{name} is overspent: {spent}")
    ledger.close()
    return faults


def used_up(db: str, keys: Sequence[str]) -> int:
    """How many keys have not enough left for one more rollout."""
    ledger = Ledger(db)
    spent = [ledger.spent(name).tokens for name in keys if name != "plenty"]
    ledger.close()
    return sum(tokens > LITTLE.tokens - 4 for tokens in spent)


def measured(
    kind: str, *, kills: int, seed: int, servers: int, clients: int, spread: float
) -> dict[str, Any]:
    """One run on one database: what happened, and every fault."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        database = stack.enter_context(postgres()) if kind == "postgres" else None
        db = str(folder / "db") if database is None else database.database("kills")
        keys = {
            "plenty": add_key(
                folder / "keys.toml", "plenty", GRANTS, Budget(tokens=10**9), results=True
            )
        }
        little = Budget(tokens=LITTLE.tokens)
        for name in (f"scarce{i}" for i in range(SCARCE)):
            keys[name] = add_key(folder / "keys.toml", name, GRANTS, little, results=True)
        serving, started = Servers(folder, db, servers), time.monotonic()
        stack.callback(serving.end)
        running = [Client(i, keys, serving.urls, folder) for i in range(clients)]
        try:
            crashes = disturb(serving, database, kills, random.Random(seed), spread)
        finally:
            for client in running:
                client.stop.set()
            for client in running:
                client.join()
        faults = [fault for client in running for fault in client.faults]
        faults += accounts(db, running, list(keys))
        sent, otherwise = again(running, keys, serving.urls, random.Random(seed))
        faults += [*otherwise, *accounts(db, running, list(keys))]
        spent = sum((cost for client in running for cost in client.costs.values()), Cost())
        return {
            "kills": kills,
            "database crashes": crashes,
            "servers": servers,
            "clients": clients,
            "attempts": sum(client.attempts for client in running),
            "requests cut off": sum(notes.cut for c in running for notes in c.notes),
            "requests sent again": sent,
            "tokens": spent.tokens,
            "keys used up": used_up(db, list(keys)),
            "seconds": round(time.monotonic() - started),
            "faults": faults,
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs it; 1 if there are faults."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--servers", type=int, default=2)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--spread", type=float, default=3.0, help="most seconds between kills")
    parser.add_argument("--database", choices=("sqlite", "postgres", "both"), default="both")
    parser.add_argument("--record", action="store_true")
    options = vars(parser.parse_args(arguments))
    record, which = options.pop("record"), options.pop("database")
    found: dict[str, Any] = {}
    for kind in ("sqlite", "postgres") if which == "both" else (which,):
        found[kind] = measured(kind, **options)
        print(kind, json.dumps(found[kind], indent=1), flush=True)
    if record:
        path = RESULTS / "kills.json"
        before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        path.write_text(json.dumps(before | found, indent=1) + "\n", encoding="utf-8")
    return int(any(one["faults"] for one in found.values()))


if __name__ == "__main__":
    sys.exit(main())
