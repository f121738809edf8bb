"""The rate of a served model is that in process: passes are as full, and as many threads compute them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

import reroot
from reroot.families import HiddenPath
from reroot.generators.base import Request
from reroot.serving import company, desk
from reroot.types import Reply
from serving_toys import serving

GRANTS = "root/sample+reward"
AT_ONCE = 16


class Slow(HiddenPath):
    """A family whose draws take a minute, on a clock of its own.

    Attributes:
        passes: requests of each call: (draws, scores).
    """

    def __init__(self) -> None:
        super().__init__(3, 4, 0.6, seed=1)
        self.passes: list[tuple[int, int]] = []
        self._late = 0.0

    def now(self) -> float:
        return time.monotonic() + self._late

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        scores = sum(request.forced is not None for request in requests)
        self.passes.append((len(requests) - scores, scores))
        self._late += 60.0 * (scores < len(requests))
        return super().answer(requests)


class Clock:
    """``time``, as far as the desk needs it."""

    def __init__(self, family: Slow) -> None:
        self.monotonic = family.now


@pytest.mark.slow(5)
@pytest.mark.parametrize("known", [True, False])
def test_passes_of_a_served_run_are_those_of_one_in_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    """Three times as many attempts as run at a time: the first ones come as newcomers, all others follow an
    answer, or an attempt that is closed. Where it is not known yet that passes are long, the first goes with
    whoever is there, and they are in step from the second on. Seconds of waiting are made many, so that no
    machine is too slow for it."""
    family, learner = Slow(), "best_of_n:n=4"
    problems = [family.problem(id=f"p{i}") for i in range(3 * AT_ONCE)]
    monkeypatch.setattr(company, "_LONGEST", 20.0)
    monkeypatch.setattr(desk, "time", Clock(family))
    with serving(family, problems, tmp_path) as server:
        wall = server.connect("key", GRANTS)
        if known:
            reroot.run(learner, wall.problems()[:1], wall, grants=GRANTS)
            family.passes.clear()
        reroot.run(learner, wall.problems(), wall, grants=GRANTS, concurrency=AT_ONCE)
        wall.close()
    served = list(family.passes)
    family.passes.clear()
    reroot.run(learner, problems, family, grants=GRANTS, concurrency=AT_ONCE)
    assert family.passes == 3 * [(AT_ONCE, 0), (0, AT_ONCE)]
    if known:
        assert served == family.passes
    draws = [count for count, _ in served if count]
    assert (sum(draws), {*draws[1:-1]}) == (3 * AT_ONCE, {AT_ONCE})


_THREADS = """
import os, time, torch
from reroot.cli.serve import _aside

def threads():
    return len(os.listdir("/proc/self/task"))

def compute():
    torch.ones(4_000_000).mul_(2.0)
    return threads()

before = threads()
assert _aside(compute) > before + 1  # its thread, and one that computes for it
until = time.monotonic() + 20
while threads() > before and time.monotonic() < until:
    time.sleep(0.01)
print(threads() - before)
"""


@pytest.mark.slow(4)
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
def test_threads_that_compute_while_a_model_is_loaded_are_gone_when_it_is_served() -> None:
    pytest.importorskip("torch")
    env = {**os.environ, "OMP_NUM_THREADS": "2"}
    run = [sys.executable, "-c", _THREADS]
    done = subprocess.run(run, env=env, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "0", done.stderr
