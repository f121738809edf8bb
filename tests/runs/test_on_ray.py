"""Ray, on this machine: results equal to the byte with processes, whichever actor or driver is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import reroot
from reroot import InvalidInput
from reroot.errors import MissingDependency
from reroot.runs.executors.base import Work, singly
from reroot.runs.executors.on_ray import OnRay
from reroot.runs.growing import new_attempts

try:
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # on the loopback interface
    import ray
except ImportError:
    ray = None

pytestmark = pytest.mark.xdist_group("ray")  # one at a time, and one after the other
needs_ray = pytest.mark.skipif(
    ray is None, reason="Ray is not installed: pip install 'reroot[ray]'"
)
MODEL = "hidden_path:K=3,H=3,p=0.6"


@pytest.mark.skipif(ray is not None, reason="Ray is installed")
def test_without_ray_its_group_is_named() -> None:
    with pytest.raises(MissingDependency, match=r"reroot\[ray\]"), OnRay("local", 1).pool(begin):
        pass


@pytest.fixture(scope="module")
def local() -> Iterator[None]:
    """One Ray for all tests here: it takes seconds to begin."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with OnRay("local", 2).connected():
        yield


def squares(poison: int, payloads: Sequence[int]) -> list[int]:
    if poison in payloads:
        os.kill(os.getpid(), signal.SIGKILL)
    if -1 in payloads:
        raise InvalidInput("-1 has no square here")
    return [x * x for x in payloads]


def begin() -> Work:
    return partial(squares, 7)


def compared(out: Path, **more: Any) -> reroot.Comparison:
    settings: dict[str, Any] = {"budget_tokens": 2000, "seeds": 2, "problems": 10, **more}
    return reroot.compare(model=MODEL, out=out, **settings)


@needs_ray
@pytest.mark.slow(2)
def test_it_is_on_loopback_alone(local: None) -> None:
    assert [node["NodeManagerAddress"] for node in ray.nodes()] == ["127.0.0.1"]


@needs_ray
@pytest.mark.slow(10)
def test_actors_killed_and_errors(local: None) -> None:
    batches = [[(str(i), i) for i in range(at, at + 5)] for at in range(0, 20, 5)]
    with OnRay("local", 2).pool(begin) as pool:
        found = {done.key: done for done in pool.results(batches)}
        assert found.pop("7").lost.startswith("3 workers died with it")
        assert {int(key): done.value for key, done in found.items()} == {
            i: i * i for i in range(20) if i != 7
        }
        with pytest.raises(InvalidInput, match="-1 has no square"):
            list(pool.results(singly([("a", -1)])))


@needs_ray
@pytest.mark.slow(15)
def test_equal_to_the_byte_though_actors_are_killed(local: None, tmp_path: Path) -> None:
    killed: list[int] = []

    def kill(attempt: Any) -> None:
        if len(killed) < 3:
            for process in [a for a in actors() if a not in killed][:1]:
                os.kill(process, signal.SIGKILL)
                killed.append(process)

    compared(tmp_path / "here", transcripts=True)
    found = compared(
        tmp_path / "ray",
        transcripts=True,
        executor=OnRay("local", 2),
        on_attempt=kill,
        concurrency=8,
    )
    assert killed
    assert found.failures is None
    for name in ("results.parquet", "problems.parquet", "config.json"):
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
    said = [
        {f.name: f.read_bytes() for f in (tmp_path / name / "transcripts").iterdir()}
        for name in ("here", "ray")
    ]
    assert said[0] == said[1]


def actors() -> list[int]:
    """Processes of actors of a Ray of this machine."""
    return sorted(pid for pid, said in commands() if said.startswith(b"ray::_Replica"))


def commands(parent: int | None = None) -> Iterator[tuple[int, bytes]]:
    """(process, its command line), of a process's children alone where one is named."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            of = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent in (None, of):
                yield int(folder.name), (folder / "cmdline").read_bytes()


@needs_ray
@pytest.mark.slow(13)
def test_a_killed_raylet_ends_the_command_which_goes_on(tmp_path: Path) -> None:
    """kill -9 of the node of a Ray that is local: the command says so; the same command makes the rest."""
    arguments = ["compare", "--model", MODEL, "--problems", "20", "--seeds", "3"]
    arguments += ["--ray", "local", "--replicas", "1", "--concurrency", "2"]
    command = [sys.executable, "-m", "reroot", *arguments, "--out", str(tmp_path / "ray")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as first:
        while first.poll() is None and len(new_attempts(tmp_path / "ray").lines) < 5:
            time.sleep(0.02)
        (raylet,) = [pid for pid, said in commands(first.pid) if b"raylet/raylet" in said]
        (actor,) = [pid for pid, said in commands(raylet) if said.startswith(b"ray::_Replica")]
        os.kill(actor, signal.SIGSTOP)  # it has no time to do the rest
        os.kill(raylet, signal.SIGKILL)
        _, said = first.communicate(timeout=200)
    with suppress(ProcessLookupError):  # whoever takes a raylet's orphans in may have ended it
        os.kill(actor, signal.SIGKILL)
    assert first.returncode == 2
    assert "Ray has lost the node of this command" in said
    assert 5 <= len(new_attempts(tmp_path / "ray").lines) < 300
    compared(tmp_path / "here", problems=20, seeds=3, budget_tokens=None)
    subprocess.run(command, check=True)
    results = (tmp_path / "ray" / "results.parquet").read_bytes()
    assert results == (tmp_path / "here" / "results.parquet").read_bytes()
