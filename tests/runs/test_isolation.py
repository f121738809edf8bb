"""Learners in processes of their own: the same results to the byte, and faults that end their own attempt."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import reroot
from every_learner import SPECS, problems, suited
from isolation_learners import FAULTS
from reroot import Budget, InvalidInput
from reroot.access.episode import bind
from reroot.access.isolation.processes import LearnerProcesses
from reroot.access.isolation.settings import Isolation, isolation_of
from reroot.access.isolation.starting import Launcher
from reroot.access.isolation.walls import MEANING, STANDS, told
from reroot.access.runner import Attempt, Job, execute
from reroot.access.sealing import sealed
from reroot.learners import get_learner
from reroot.runs.folder import read_config
from toys import as_learner, one_rollout, problem, tree
from toys import problems as plain
from transcripts import left_in

FILE = Path(__file__).parent.parent / "isolation_learners.py"


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    with Launcher(Isolation(), "reroot.runs.isolated", [str(FILE)]) as started:
        yield started


class Lines:
    """A log that keeps what is written."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def recorded(self, key: str) -> list[dict[str, Any]]:
        return []

    def append(self, key: str, line: dict[str, Any]) -> None:
        self.kept[key] = self.kept.get(key, b"") + sealed(line)

    def finish(self, key: str) -> None:
        pass


def made(
    spec: str, stage: LearnerProcesses | None, limits: tuple[int | None, ...] = (None, 7)
) -> tuple[list[Attempt], dict[str, bytes]]:
    """Attempts and transcripts of a learner, a problem for each limit of tokens."""
    bound, toy = get_learner(spec), suited(spec)
    contract, log, found = bound.requires.resolved, Lines(), list[Attempt]()
    jobs = [
        Job(p.id, bound, bind(p, toy), contract, Budget(tokens=limit), 0)
        for p, limit in zip(problems(toy, len(limits)), limits, strict=True)
    ]
    execute(jobs, toy, concurrency=2, on_attempt=found.append, log=log, stage=stage)
    return found, log.kept


@pytest.mark.slow(8)
def test_every_learner_says_the_same_to_the_byte(launcher: Launcher) -> None:
    """Every seventh also where its budget ends: what is raised then is the same for all."""
    for i, spec in enumerate(SPECS):
        limits = (None, 7) if i % 7 == 0 else (None,)
        alone, isolated = (
            made(spec, stage, limits) for stage in (None, LearnerProcesses(launcher))
        )
        assert isolated[1] == alone[1], spec
        by_key = [sorted(found, key=lambda a: a.key) for found in (isolated[0], alone[0])]
        assert by_key[0] == by_key[1], spec
        assert len(isolated[1]) == len(limits)


@pytest.mark.slow(3)
def test_run_folders_are_the_same(tmp_path: Path) -> None:
    """But for the configuration, which says how it was run; and a file's learner that waits."""
    spec, settings = f"{FILE}:waiting", dict[str, Any](grants="root/sample", transcripts=True)
    for kind in ("none", "process"):
        run = reroot.run(spec, plain(3), tree(), out=tmp_path / kind, isolation=kind, **settings)
        assert [a.metadata["votes"][0] for a in run.attempts] == [0, 0, 0]
    assert left_in(tmp_path / "process") == left_in(tmp_path / "none")
    config = (tmp_path / "process" / "config.json").read_text(encoding="utf-8")
    assert '"walls"' in config
    with pytest.raises(reroot.RunFolderError):
        reroot.run(spec, plain(3), tree(), out=tmp_path / "process", **settings)


@pytest.mark.slow(2)
def test_attempts_share_no_state(launcher: Launcher) -> None:
    bound, task = get_learner(f"{FILE}:counting"), plain(4)
    counted: list[list[int]] = []
    for stage in (None, LearnerProcesses(launcher)):
        found: list[Attempt] = []
        jobs = [
            Job(p.id, bound, bind(p, tree()), bound.requires.resolved, Budget(), 0) for p in task
        ]
        execute(jobs, tree(), concurrency=2, on_attempt=found.append, stage=stage)
        counted.append(sorted(a.metadata["before"] for a in found))
    assert counted == [[0, 1, 2, 3], [0, 0, 0, 0]]


def descriptors_and_children() -> tuple[int, list[str]]:
    here = Path("/proc/self")
    children = [p.read_text(encoding="ascii") for p in sorted(here.glob("task/*/children"))]
    return len(os.listdir(here / "fd")), " ".join(children).split()


@pytest.mark.slow(5)
def test_faults_end_their_own_attempt_and_leave_nothing() -> None:
    before = descriptors_and_children()
    names = ["", *(name for name, _, _ in FAULTS), "none"]
    found: dict[str, Attempt] = {}
    with Launcher(Isolation(), "reroot.runs.isolated", [str(FILE)]) as launcher:
        unfiltered = launcher.walls["calls"] != STANDS
        learners = {name: get_learner(f"{FILE}:faulty:by='{name}'") for name in names}
        episode = bind(problem(), tree())
        jobs = [
            Job(name, bound, episode, bound.requires.resolved, Budget(), 0)
            for name, bound in learners.items()
        ]
        execute(
            jobs,
            tree(),
            concurrency=64,
            on_attempt=lambda a: found.update({a.key: a}),
            attempt_timeout=4.0,
            stage=LearnerProcesses(launcher, 4.0),
        )
    for name, _, expected in FAULTS:
        if name in ("fork", "bomb") and unfiltered:
            continue
        assert str(found[name].error).startswith(expected), (name, found[name].error)
    assert found[""].error is found["none"].error is None
    assert descriptors_and_children() == before


@pytest.mark.slow(3)
def test_a_launcher_that_dies_is_started_again(launcher: Launcher) -> None:
    launcher._process.kill()
    launcher._process.wait()
    found, _ = made("best_of_n:n=2", LearnerProcesses(launcher))
    assert [a.error for a in found] == [None, None]


OWN = """
import sys
from reroot import learner

getattr(sys, "isolation_marks", []).append(1)


@learner(requires="root/sample")
async def own(session, *, n: int = 2, m: float = 0.5):
    "Of a user."
    return (await session.rollouts(n)).outputs()[-1]
"""


@pytest.mark.slow(4)
def test_code_of_a_file_runs_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even while it is imported; and ``compare`` says the same."""
    file = tmp_path / "own.py"
    file.write_text(OWN, encoding="utf-8")
    monkeypatch.setattr(sys, "isolation_marks", [], raising=False)
    said, found = list[str](), list[Any]()
    for kind in ("process", "none"):
        comparison = reroot.compare(
            model="hidden_path:K=3,H=3,p=0.6",
            learners=[f"{file}:own:n=3", "first_success:max_rollouts=4"],
            grants="root/sample",
            budget_tokens=600,
            seeds=1,
            problems=3,
            out=tmp_path / kind,
            isolation=kind,
            on_walls=said.append,
        )
        assert comparison.failures is None
        found.append(comparison.attempts)
        assert len(said) == 1
        assert len(sys.isolation_marks) == (kind == "none")  # type: ignore[attr-defined]
        assert ("isolation" in comparison.summary) == (kind == "process")
    assert found[0] == found[1]
    process, none = (read_config(tmp_path / kind) for kind in ("process", "none"))
    assert process["isolation"]["kind"] == "process"
    assert set(process["isolation"]["walls"]) == set(MEANING)
    assert process["learners"] == none["learners"]


@pytest.mark.slow(2)
@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("own.py:nobody", "has no 'nobody'"),
        ("own.py:own:k=3", "has no parameter 'k'"),
        ("broken.py:own", "importing it raised ZeroDivisionError"),
        ("missing.py:own", "cannot read the file"),
    ],
)
def test_learners_that_cannot_be_loaded(spec: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN, encoding="utf-8")
    (tmp_path / "broken.py").write_text("1 / 0", encoding="utf-8")
    with pytest.raises(InvalidInput, match=said):
        reroot.run(
            f"{tmp_path}/{spec}", plain(1), tree(), grants="root/sample", isolation="process"
        )


# ---- settings ----------------------------------------------------------------------------------


def test_settings_are_read() -> None:
    assert isolation_of("none") is None
    read = isolation_of("process:memory_mb=64,write=true")
    assert read == Isolation(memory_mb=64, write=True)
    assert str(read) == "process:memory_mb=64,write=true"
    assert isolation_of(str(Isolation())) == Isolation()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("thread", "isolation must be one of none, process, got 'thread'"),
        ("none:memory_mb=64", "isolation must be one of none, process"),
        (None, "isolation must be one of none, process, got None"),
        ("process:memory_mb=1", "memory_mb must be"),
        ("process:memroy_mb=64", "memory_mb"),
        ("process:reads=/nowhere/at/all", "reads must be a file or folder"),
        ("process:write=2", "write must be true or false"),
    ],
)
def test_bad_settings_are_refused(text: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        reroot.run("best_of_n", plain(1), tree(), grants="root/sample+reward", isolation=text)


def test_learners_that_no_spec_names_are_refused() -> None:
    with pytest.raises(InvalidInput, match="needs learners that a spec names"):
        reroot.run(
            as_learner(one_rollout), plain(1), tree(), grants="root/sample", isolation="process"
        )


def test_what_does_not_stand_is_told() -> None:
    walls = {**dict.fromkeys(MEANING, STANDS), "network": "no namespaces: not permitted"}
    text = told(walls)
    assert text.startswith("learners run in processes of their own, behind: process, limits, ")
    assert text.endswith("; no wall for network (no namespaces: not permitted)")
