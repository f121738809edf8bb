"""Two processes (gloo) and one, with the same global batch: the same result within float noise."""

# ruff: noqa: E402
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

import trl_toys
import trl_two_processes

HERE = Path(__file__).parents[1]


@pytest.mark.slow(25)
def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    """The two run beside the one, which is this process."""
    folders = {n: tmp_path / str(n) for n in (1, 2)}
    with two_processes(folders[2]) as pair:
        trl_two_processes.train(folders[1], 1)
        _, said = pair.communicate(timeout=240)
    assert pair.returncode == 0, said[-3000:]
    base = trl_toys.fresh()[0].state_dict()
    for name in ("ours", "stock"):
        one, two = (torch.load(folders[n] / f"{name}.pt") for n in (1, 2))
        for weight, value in one.items():
            assert float((two[weight] - value).abs().max()) < 1e-5, (name, weight)
        assert max(float((one[k] - base[k]).abs().max()) for k in base) > 1e-2
        states = [json.loads((folders[n] / f"{name}.json").read_text()) for n in (1, 2)]
        assert states[0] == states[1]


def two_processes(out: Path) -> subprocess.Popen[str]:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "true",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH")))),
    }
    return subprocess.Popen(
        [*launch, str(HERE / "trl_two_processes.py"), str(out), "2"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
