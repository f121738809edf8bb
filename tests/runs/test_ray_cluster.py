"""A Ray cluster of three nodes in network namespaces that this test makes: lost nodes, a command that goes on from
another node, and the bytes of one process."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import reroot
from reroot.runs.executors.processes import Processes
from reroot.runs.growing import new_attempts

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


def command(out: Path) -> list[str]:
    arguments = ["compare", "--model", MODEL, "--budget-tokens", "2000", "--seeds", "2"]
    arguments += ["--problems", "10", "--concurrency", "2", "--out", str(out)]
    arguments += ["--ray", ray_nodes.ADDRESS, "--replicas", "2"]
    return [sys.executable, "-m", "reroot", *arguments]


def on_nodes(folder: Path) -> None:
    """Inside: the node of the command and of one of two actors is lost, and another goes on."""
    nodes, out = ray_nodes.Nodes([0, 1, 1]), folder / "cluster"
    first = subprocess.Popen(nodes.on(2, command(out)), env=ray_nodes.environment())
    while first.poll() is None and len(new_attempts(out).lines) < 5:
        time.sleep(0.02)
    nodes.lose(2)
    assert first.wait() != 0
    assert 5 <= len(new_attempts(out).lines) < 140
    subprocess.run(nodes.on(3, command(out)), env=ray_nodes.environment(), check=True)


def main() -> None:
    on_nodes(Path(sys.argv[1]))


@pytest.mark.slow(20)
@pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="Ray is not installed: pip install 'reroot[ray]'",
)
def test_one_process_four_and_a_cluster_that_loses_a_node(tmp_path: Path) -> None:
    if reason := ray_nodes.why_not():
        pytest.skip(reason)
    inside = ray_nodes.inside([sys.executable, "-c", INSIDE, str(tmp_path)])
    done = subprocess.run(inside, capture_output=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    reroot.compare(model=MODEL, out=tmp_path / "one", **SETTINGS)
    reroot.compare(model=MODEL, out=tmp_path / "four", executor=Processes(4), **SETTINGS)
    for name in RESULTS:
        expected = (tmp_path / "one" / name).read_bytes()
        assert (tmp_path / "four" / name).read_bytes() == expected
        assert (tmp_path / "cluster" / name).read_bytes() == expected
