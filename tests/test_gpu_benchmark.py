"""``benchmarks/gpu.py`` on a CPU: it finds wrong laws and draws, and needs few packages."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")

from reroot.contract import Sampling

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
ALONE = """
import runpy, sys
for name in ("polars", "rich", "typer", "matplotlib", "datasets", "trl", "peft"):
    sys.modules[name] = None
sys.path.insert(0, {folder!r})
sys.argv = ["gpu.py", "--shapes", "tiny", "--dtypes", "float32", "--repeats", "1", "--device", "cpu",
            "--minutes", {minutes!r}, "--out", {out!r}]
runpy.run_path({folder!r} + "/gpu.py", run_name="__main__")
"""


def run(out: Path, minutes: str) -> subprocess.CompletedProcess[str]:
    code = ALONE.format(folder=str(BENCHMARKS), out=str(out), minutes=minutes)
    env = os.environ | {"PYTHONPATH": str(BENCHMARKS.parent / "src"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
    )


@pytest.mark.slow(30)
def test_it_checks_and_measures_with_few_packages(tmp_path: Path) -> None:
    done = run(tmp_path, "6")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu-CPU.json").read_text())
    mine = found["tiny float32"]
    assert found["card"] == "CPU"
    assert found["left out"] == []
    assert mine["laws"]["right"]
    assert mine["laws"]["largest, nats"] < 1e-3
    assert mine["draws"]["right"]
    assert mine["draws"]["bins"] > 100
    assert mine["speed"]["rollout tokens per second"] > 0


@pytest.mark.slow(5)
def test_what_there_is_no_time_for_is_said_and_is_no_success(tmp_path: Path) -> None:
    done = run(tmp_path, "0.1")
    assert done.returncode == 1
    assert json.loads((tmp_path / "gpu-CPU.json").read_text())["left out"] == ["tiny float32"]


@pytest.mark.slow(5)
def test_wrong_laws_and_draws_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    gpu: Any = importlib.import_module("gpu")
    side: Any = gpu.Side("tiny", "float32", "cpu")
    honest, engine = side.engine.log_laws, side.engine.answer
    assert gpu.draws(side)["right"]
    monkeypatch.setattr(side.engine, "log_laws", lambda *a: honest(*a) + 0.01)
    assert not gpu.laws(side, "float32")["right"]
    monkeypatch.setattr(side.engine, "log_laws", honest)
    colder = Sampling(0.9)
    monkeypatch.setattr(
        side.engine, "answer", lambda asked: engine([replace(r, sampling=colder) for r in asked])
    )
    found = gpu.draws(side)
    assert not found["right"]
    assert found["surprisal z"] < -5
