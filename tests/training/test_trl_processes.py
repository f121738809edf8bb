"""Two processes (gloo) and one, with the same global batch: the same result within float noise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

HERE = Path(__file__).parents[1]


@pytest.mark.slow
def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    known = {n: trained(tmp_path / str(n), n) for n in (1, 2)}
    one, two = (torch.load(known[n] / "weights.pt") for n in (1, 2))
    for name, value in one.items():
        assert float((two[name] - value).abs().max()) < 1e-5, name
    moved = torch.load(known[1] / "weights.pt")
    import trl_toys

    base = trl_toys.fresh()[0].state_dict()
    assert max(float((moved[k] - base[k]).abs().max()) for k in base) > 1e-2
    states = [json.loads((known[n] / "state.json").read_text()) for n in (1, 2)]
    assert states[0] == states[1]


def trained(out: Path, processes: int) -> Path:
    out.mkdir()
    script = [str(HERE / "trl_two_processes.py"), str(out), str(processes)]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launch += [f"--nproc-per-node={processes}"]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "true",
        "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run(
        launch + script, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return out
