"""Workers: processes that take requests beside the one that answers them change nothing but the load."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import reroot
from reroot import Budget
from reroot.serving.keys import add_key

MODEL = "hidden_path:K=3,H=4,p=0.6"


@contextmanager
def served(folder: Path, workers: int) -> Iterator[tuple[subprocess.Popen[str], str, list[int]]]:
    """A server, its address and its children."""
    files = ["--keys", str(folder / "keys.toml"), "--db", str(folder / "db"), "--port", "0"]
    command = [sys.executable, "-m", "reroot", "serve", "--model", MODEL, "--problems", "3"]
    server = subprocess.Popen(
        [*command, *files, "--workers", str(workers)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    children: list[int] = []
    try:
        assert server.stdout is not None
        url = server.stdout.readline().split()[-1]
        told = Path(f"/proc/{server.pid}/task/{server.pid}/children")
        children = [int(pid) for pid in told.read_text().split()]
        yield server, url, children
    finally:
        server.terminate()
        server.wait(60)
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


def gone(pid: int) -> bool:
    """Whether a process has ended, waited for or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.slow(8)
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds children in /proc")
def test_workers_give_the_same_sessions_and_end_together(tmp_path: Path) -> None:
    """Attempts through two workers are those in process; their refusals are the desk's; SIGTERM ends all."""
    key = add_key(
        tmp_path / "keys.toml", "a", "root/sample+reward", Budget(tokens=400), results=True
    )
    with served(tmp_path, 2) as (server, url, children):
        assert len(children) == 2
        wall = reroot.connect(url, key)
        found = reroot.run(
            "best_of_n:n=4", wall.problems(), wall, grants="root/sample+reward", seed=3
        )
        spent = wall.account()["spent"]["tokens"]
        assert spent == found.cost.tokens > 0
        body = {"prompt": [0], "n": 200}
        with pytest.raises(reroot.BudgetExceeded, match="tokens"):
            wall._post.ask("POST", "/v1/completions", body)
        with pytest.raises(reroot.InvalidInput, match="no session"):
            wall._post.ask("GET", "/v1/sessions/" + "0" * 32)
        assert wall.account()["spent"]["tokens"] == spent
        wall.close()
        server.terminate()
        server.wait(60)
        assert all(map(gone, children))
    with served(tmp_path, 0) as (_, url, children):
        assert not children
        wall = reroot.connect(url, key)
        alone = reroot.run(
            "best_of_n:n=4", wall.problems(), wall, grants="root/sample+reward", seed=3
        )
        assert alone.attempts == found.attempts
        wall.close()


@pytest.mark.slow(6)
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds children in /proc")
@pytest.mark.parametrize("victim", ["worker", "desk"])
def test_no_part_of_a_server_outlives_another(victim: str, tmp_path: Path) -> None:
    add_key(tmp_path / "keys.toml", "a", "root/sample", Budget())
    with served(tmp_path, 2) as (server, _, children):
        pid = children[0] if victim == "worker" else server.pid
        os.kill(pid, signal.SIGKILL)
        code = server.wait(60)
        assert code == (2 if victim == "worker" else -signal.SIGKILL)
        for _ in range(600):
            if all(map(gone, children)):
                break
            time.sleep(0.05)
        assert all(map(gone, children))
