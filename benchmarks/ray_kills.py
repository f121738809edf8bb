"""Kills of everything at random moments: the same command goes on, and its results are those of an undisturbed run.

    python benchmarks/ray_kills.py [--kills 60] [--seed 0] [--record]

A comparison on an exact family is made in processes, on a Ray of this machine, and on a Ray cluster of three
nodes (``ray_nodes``), while SIGKILL comes to its workers, actors, raylets, whole nodes and the command itself;
on the cluster the command goes on from another node. Whatever it was, ``results.parquet`` must be equal to the
byte to an undisturbed run's, with each attempt recorded once. Then an attempt that kills its worker, on both.
``--record`` writes ``benchmarks/results/ray_kills.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ray_nodes import ADDRESS, NET, Nodes, environment, inside, processes, why_not

from reroot.access.sealing import read_sealed
from reroot.runs.attempts import attempts_of, usage_of
from reroot.runs.folder import JOURNAL, RESULTS

RECORD = Path(__file__).parent / "results" / "ray_kills.json"
WAYS = ("processes", "local", "cluster")
MODEL, KILLS_PER_RUN, MOST_COMMANDS, PATIENCE = "hidden_path:K=3,H=6,p=0.6", 4, 40, 30.0
POISON = '''
import os, signal
from reroot import learner


@learner(requires="root/sample")
async def poisoned(session):
    """Kills whatever it runs in on one problem."""
    if os.environ.get("POISON") and list(session.prompt)[0] % 40 == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return (await session.rollouts(1)).outputs()[0]
'''


@dataclass
class Command:
    """One comparison that is started again until it is finished.

    Attributes:
        way: how its attempts are made.
        nodes: of the cluster.
    """

    way: str
    out: Path
    arguments: list[str]
    nodes: Nodes | None = None
    killed: Counter[str] = field(default_factory=Counter[str])
    started: int = 0
    codes: list[int] = field(default_factory=list[int])
    driver: subprocess.Popen[bytes] | None = None

    def start(self, **more: str) -> None:
        """The same command, on the next node where there are several."""
        how = {
            "here": [],
            "processes": ["--workers", "2"],
            "local": ["--ray", "local", "--replicas", "2"],
            "cluster": ["--ray", ADDRESS, "--replicas", "2"],
        }[self.way]
        command = [sys.executable, "-m", "reroot", "compare", *self.arguments, *how]
        command += ["--out", str(self.out)]
        if self.nodes is not None:
            command = self.nodes.on(2 + self.started % 2, command)
        self.started += 1
        with self.out.with_suffix(".log").open("ab") as log:
            self.driver = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment() | more
            )

    def ended(self, seconds: float) -> bool:
        """Whether the command ends within so long."""
        assert self.driver is not None
        with suppress(subprocess.TimeoutExpired):
            self.codes.append(self.driver.wait(seconds))
            return True
        return False

    def victims(self) -> dict[str, Callable[[], object]]:
        """What there is to kill now, of this run alone: an idle cluster is beside those without nodes."""
        assert self.driver is not None
        found: dict[str, Callable[[], object]] = {"driver": self.driver.kill}
        marks = {"worker": b"multiprocessing.spawn"} if self.way == "processes" else {}
        if self.way == "local":
            marks = {"actor": b"ray::_Replica", "raylet": b"--node_ip_address=127.0.0.1\0"}
        if self.nodes is not None:
            marks = {"actor": b"ray::_Replica"}
            for number in (2, 3):
                marks[f"raylet of {number}"] = f"--node_ip_address={NET}.{number}\0".encode()
                if self.nodes.raylet(number) is not None:
                    found[f"node {number}"] = partial(self.nodes.lose, number)
        for name, mark in marks.items():
            for process, said in processes():
                if mark in said and (name[:6] != "raylet" or b"raylet/raylet" in said):
                    found[f"{name}: {process}"] = partial(os.kill, process, signal.SIGKILL)
        return found

    def mend(self) -> None:
        """Nodes whose raylet is gone come back."""
        for number in () if self.nodes is None else (2, 3):
            if self.nodes is not None and self.nodes.raylet(number) is None:
                self.nodes.lose(number)
                self.nodes.start(number)

    def disturbed(self, rng: random.Random, kills: int) -> None:
        """Run it, kill so often, and let it finish."""
        self.start()
        while True:
            calm = self.killed.total() >= kills
            if calm:
                self.mend()
            if self.ended(180 if calm else self.moment(rng)):
                if self.codes[-1] == 0:
                    return
                if len(self.codes) >= MOST_COMMANDS:
                    raise SystemExit(f"{self.out}: {MOST_COMMANDS} commands: {self.codes}")
                self.mend()
                self.start()
            elif calm:
                raise SystemExit(f"{self.out}: the command has hung for 180 s")
            else:
                self.kill(rng)

    def moment(self, rng: random.Random) -> float:
        """Seconds until the next kill: half of them after the next attempt that is recorded."""
        assert self.driver is not None
        if rng.random() < 0.5:
            before, until = size_of(self.out / JOURNAL), time.monotonic() + PATIENCE
            while self.driver.poll() is None and size_of(self.out / JOURNAL) == before:
                if time.monotonic() > until:  # there may be no node left
                    self.mend()
                    until += PATIENCE
                time.sleep(0.02)
            return rng.uniform(0, 2)
        return rng.uniform(0.2, 5)

    def kill(self, rng: random.Random) -> None:
        """Someone: first of what kind, then who."""
        victims = self.victims()
        kind = rng.choice(sorted({_kind(name) for name in victims}))
        name = rng.choice([name for name in victims if _kind(name) == kind])
        with suppress(ProcessLookupError):
            victims[name]()
            self.killed[kind] += 1
        if kind in ("raylet", "node") and rng.random() < 0.5:
            self.mend()


def _kind(victim: str) -> str:
    return victim.split()[0].rstrip(":")


def size_of(file: Path) -> int:
    """Bytes; none of a file that is not there."""
    return file.stat().st_size if file.exists() else 0


def journal(out: Path) -> list[str]:
    """Keys of all lines, in their order."""
    return [key for _, key in read_sealed(out / JOURNAL, "journal", lambda line: line["key"])]


def compared(command: Command, truth: Path) -> dict[str, Any]:
    """How the folder differs from the undisturbed one's."""
    keys, made = journal(command.out), attempts_of(command.out)
    tokens = [sum(a.cost.tokens for a in attempts_of(p).values()) for p in (command.out, truth)]
    computed = [usage_of(p)["physical"]["computed"] for p in (command.out, truth)]
    return {
        "way": command.way,
        "killed": dict(command.killed),
        "commands": command.started,
        "codes": command.codes,
        "equal": (command.out / RESULTS).read_bytes() == (truth / RESULTS).read_bytes(),
        "attempts": len(made),
        "recorded_again": len(keys) - len(set(keys)),
        "tokens_over": tokens[0] - tokens[1],
        "computed": computed[0] / computed[1],
    }


def poisoned(way: str, folder: Path, truth: Path, arguments: list[str]) -> dict[str, Any]:
    """An attempt per seed that kills its worker: it alone is missing, and it is named."""
    command = Command(way, folder / f"poison-{way}", arguments)
    command.start(POISON="1")
    if not command.ended(180):
        raise SystemExit("the poisoned command hangs")
    made, whole = attempts_of(command.out), attempts_of(truth)
    failed = {key: str(a.error) for key, a in made.items() if a.error is not None}
    others = all(made[key] == a for key, a in whole.items() if key not in failed)
    return {
        "way": way,
        "code": command.codes[-1],
        "failed": sorted(failed),
        "said": sorted({said.split(",")[0] for said in failed.values()}),
        "others_equal": others and set(made) == set(whole),
    }


def measured(kills: int, seed: int, folder: Path) -> dict[str, Any]:
    """Disturb runs until so many kills have been made."""
    rng, arguments = random.Random(seed), ["--model", MODEL, "--seeds", "4", "--problems", "40"]
    arguments += ["--budget-tokens", "20000", "--concurrency", "16"]
    truth = Command("here", folder / "here", arguments)
    truth.start()
    assert truth.ended(180)
    assert truth.codes == [0]
    nodes, rows, left = Nodes([0, 1, 1]), list[dict[str, Any]](), kills
    started = time.monotonic()
    while left > 0:
        way = WAYS[len(rows) % len(WAYS)]
        out = folder / f"run-{len(rows)}"
        command = Command(way, out, arguments, nodes if way == "cluster" else None)
        command.mend()
        command.disturbed(rng, min(left, KILLS_PER_RUN))
        rows.append(compared(command, truth.out))
        left -= command.killed.total()
        print(json.dumps(rows[-1]), flush=True)
    file = folder / "poison.py"
    file.write_text(POISON, encoding="utf-8")
    arguments = ["--model", MODEL, "--seeds", "2", "--problems", "40", "--learner"]
    arguments += [f"{file}:poisoned"]
    truth = Command("here", folder / "unpoisoned", arguments)
    truth.start()
    assert truth.ended(180)
    assert truth.codes == [0]
    poison = [poisoned(way, folder, truth.out, arguments) for way in WAYS[:2]]
    killed = sum((Counter(row["killed"]) for row in rows), Counter[str]())
    return {
        "seed": seed,
        "kills": sum(killed.values()),
        "killed": dict(killed),
        "runs": len(rows),
        "commands": sum(row["commands"] for row in rows),
        "seconds": round(time.monotonic() - started),
        "equal": sum(row["equal"] for row in rows),
        "attempts": rows[0]["attempts"],
        "recorded_again": sum(row["recorded_again"] for row in rows),
        "tokens_over": sum(row["tokens_over"] for row in rows),
        "poison": poison,
        "rows": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.inside:
        if reason := why_not():
            raise SystemExit(reason)
        command = inside([sys.executable, *sys.argv, "--inside"])
        os.execvp(command[0], command)
    with tempfile.TemporaryDirectory() as folder:
        found = measured(options.kills, options.seed, Path(folder))
    print(json.dumps({k: v for k, v in found.items() if k != "rows"}, indent=1))
    if options.record:
        RECORD.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if found["equal"] < found["runs"] or found["recorded_again"] or found["tokens_over"]:
        raise SystemExit("not the results of an undisturbed run")


if __name__ == "__main__":
    main()
