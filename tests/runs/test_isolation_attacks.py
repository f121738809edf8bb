"""The same attacks with and without walls: what Python hands out in one process is not there in another."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from isolation_attacks import ATTACKS
from reroot import Budget
from reroot.access import gate
from reroot.access.episode import bind
from reroot.access.isolation.processes import LearnerProcesses
from reroot.access.isolation.settings import Isolation
from reroot.access.isolation.starting import Launcher
from reroot.access.isolation.walls import STANDS
from reroot.access.learner_thread import Stage
from reroot.access.runner import Attempt, Job, execute
from reroot.learners import get_learner
from toys import problem, tree

FILE = Path(__file__).parent.parent / "isolation_attacks.py"
NEEDS = {
    "reading": "files",
    "writing": "files",
    "network": "network",
    "signals": "processes",
    **dict.fromkeys(("memory", "outliving", "sharing", "by_file", "named", "scheduling"), "calls"),
    "staying": "calls",
}
"""Attack → the wall that stops it, where it is not the other process itself."""


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    """Started where the run's process holds secrets."""
    secret = ModuleType("isolation_secret")
    secret.SECRET = "the answer"  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "isolation_secret", secret)
        patch.setenv("ISOLATION_SECRET", "the answer")
        with Launcher(Isolation(), "reroot.runs.isolated", [str(FILE)]) as started:
            yield started


def learned(by: str, stage: Stage | None, file: Path, port: int) -> object:
    bound = get_learner(f"{FILE}:attack:by={by},file={file},port={port}")
    found: list[Attempt] = []
    job = Job("p", bound, bind(problem(), tree()), bound.requires.resolved, Budget(), 0)
    execute([job], tree(), concurrency=1, on_attempt=found.append, stage=stage)
    (attempt,) = found
    assert attempt.error is None, attempt.error
    return attempt.metadata["learned"]


@pytest.mark.slow(2)
@pytest.mark.parametrize("by", ATTACKS)
def test_what_an_attack_learns(
    by: str, launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something in this process; nothing in one of its own."""
    monkeypatch.setattr(gate.PrefixRules, "check", gate.PrefixRules.check)  # put back afterwards
    file = tmp_path / "answers.txt"
    file.write_text("the answer", encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert learned(by, None, file, port) is not None
        monkeypatch.undo()
        wall = launcher.walls[NEEDS.get(by, "process")]
        if wall != STANDS:
            pytest.skip(f"no wall for {NEEDS[by]} on this machine: {wall}")
        assert learned(by, LearnerProcesses(launcher), file, port) is None


@pytest.mark.slow(2)
def test_attempts_side_by_side_cannot_harm_each_other(launcher: Launcher) -> None:
    """One tries to kill and to slow down whoever else is there, while the other waits."""
    if launcher.walls["calls"] != STANDS:
        pytest.skip(f"no wall for calls on this machine: {launcher.walls['calls']}")
    found: list[Attempt] = []
    jobs: list[Job] = []
    for by in ("victim", "saboteur", "victim"):
        bound = get_learner(f"{FILE}:attack:by={by}")
        grants = bound.requires.resolved
        jobs.append(Job(str(len(jobs)), bound, bind(problem(), tree()), grants, Budget(), 0))
    stage = LearnerProcesses(launcher)
    execute(jobs, tree(), concurrency=3, on_attempt=found.append, stage=stage)
    told = {attempt.key: (attempt.error, attempt.metadata.get("learned")) for attempt in found}
    assert told == {"0": (None, [0]), "1": (None, None), "2": (None, [0])}
