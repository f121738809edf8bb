"""A diagnosis whose attempts are made in other processes is the same diagnosis."""

from __future__ import annotations

import json
import os
import signal
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import pytest

import reroot
from reroot import InvalidInput
from reroot.runs.diagnosing.diagnose import diagnose

FILES = ("diagnosis.json", "results.parquet", "config.json")
MODEL = "hidden_path:K=8,H=6,p=0.2"


def diagnosed(out: Path, **more: Any) -> None:
    settings: dict[str, Any] = {"problems": 6, "budget_tokens": 30_000, "group": 4, **more}
    diagnose(MODEL, out=out, **settings)


@pytest.mark.slow(8)
def test_two_processes_of_which_one_is_killed(tmp_path: Path) -> None:
    killed: list[int] = []

    def kill(line: str) -> None:
        if not killed and (workers := active_children()):
            killed.extend(w.pid for w in workers[:1] if w.pid)
            os.kill(killed[0], signal.SIGKILL)

    diagnosed(tmp_path / "here")
    diagnosed(tmp_path / "workers", workers=2, on_progress=kill)
    assert killed
    for name in FILES:
        assert (tmp_path / "workers" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
    told = json.loads((tmp_path / "here" / "diagnosis.json").read_text())
    assert any(p["walks"][1] and p["cuts"] == {} for p in told["problems"])  # silent ones, too


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="give out"):
        diagnose(MODEL, workers=2)
    family = reroot.families.HiddenPath(3, 3, 0.6, seed=0)
    with pytest.raises(InvalidInput, match="given as objects: generator"):
        diagnose(family, [family.problem()], workers=2, out=tmp_path)
    with pytest.raises(InvalidInput, match="judge_workers"):
        diagnosed(tmp_path, workers=2, judge_workers=1)
