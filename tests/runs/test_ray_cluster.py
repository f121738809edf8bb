"""A Ray cluster of three nodes in network namespaces that this test makes: lost nodes, a driver that goes on from
another node with a run folder on storage that both reach, and the bytes of one process."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import reroot
from reroot.errors import RunFolderError
from reroot.runs.executors.on_ray import OnRay
from reroot.runs.executors.processes import Processes
from reroot.runs.growing import new_attempts
from reroot.runs.shared import fetched, stored

HERE = Path(__file__)
BENCHMARKS = HERE.parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))
import ray_nodes  # noqa: E402

pytestmark = pytest.mark.xdist_group("ray")
MODEL = "hidden_path:K=3,H=3,p=0.6"
INSIDE = (
    f"import sys; sys.path[:0] = [{str(HERE.parent)!r}]; import {HERE.stem}; {HERE.stem}.main()"
)
SETTINGS: dict[str, Any] = {"budget_tokens": 2000, "seeds": 2, "problems": 10}
RESULTS = ("results.parquet", "problems.parquet", "config.json")


def drive(address: str, wait: float) -> None:
    """On a node: the comparison, whose run folder is at the address; it waits after each attempt."""
    executor = OnRay(ray_nodes.ADDRESS, 2)
    with stored(address, every=0.2, lease=2.0) as folder:
        reroot.compare(
            model=MODEL,
            out=folder,
            executor=executor,
            concurrency=2,
            on_attempt=lambda attempt: time.sleep(wait),
            **SETTINGS,
        )


def started(
    nodes: ray_nodes.Nodes, number: int, address: str, wait: float = 0.0
) -> subprocess.Popen[bytes]:
    """The driver on a node that has a disk of its own, which holds the working copy."""
    environment = ray_nodes.environment() | {"REROOT_CACHE": f"/tmp/ray/disk{number}"}
    program = INSIDE.replace("main()", f"drive({address!r}, {wait})")
    command = nodes.on(number, [sys.executable, "-c", program])
    return subprocess.Popen(command, env=environment)


def stored_attempts(address: str) -> int:
    try:
        with fetched(address, told=lambda line: None) as copy:
            return len(new_attempts(copy).lines)
    except RunFolderError:
        return 0


def on_nodes(folder: Path) -> None:
    """Inside: the node of the driver and of one of two actors is lost, and another goes on."""
    nodes, address = ray_nodes.Nodes([0, 1, 1]), f"file://{folder / 'cluster'}"
    first, made = started(nodes, 2, address, wait=0.1), 0
    while first.poll() is None and made < 5:
        time.sleep(0.05)
        made = stored_attempts(address)
    nodes.lose(2)
    assert first.wait() != 0
    assert 5 <= stored_attempts(address) < 140
    assert started(nodes, 3, address).wait() == 0


def main() -> None:
    on_nodes(Path(sys.argv[1]))


@pytest.mark.slow(25)
@pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="Ray is not installed: pip install 'reroot[ray]'",
)
def test_one_process_four_and_a_cluster_that_loses_a_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REROOT_CACHE", str(tmp_path / "cache"))
    if reason := ray_nodes.why_not():
        pytest.skip(reason)
    inside = ray_nodes.inside([sys.executable, "-c", INSIDE, str(tmp_path)])
    done = subprocess.run(inside, capture_output=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    reroot.compare(model=MODEL, out=tmp_path / "one", **SETTINGS)
    reroot.compare(model=MODEL, out=tmp_path / "four", executor=Processes(4), **SETTINGS)
    with fetched(f"file://{tmp_path / 'cluster'}") as copy:
        cluster = copy
    for name in RESULTS:
        expected = (tmp_path / "one" / name).read_bytes()
        assert (tmp_path / "four" / name).read_bytes() == expected
        assert (cluster / name).read_bytes() == expected
