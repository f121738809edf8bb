"""What a learner's process may read, write and use up, on machines that have all walls and on others."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import reroot
from reroot import Budget, InvalidInput
from reroot.access.episode import bind
from reroot.access.isolation import landlock, namespaces, seccomp, walls
from reroot.access.isolation.processes import LearnerProcesses, Task
from reroot.access.isolation.settings import Isolation
from reroot.access.isolation.starting import Launcher
from reroot.access.runner import Attempt, Job, execute
from reroot.learners import get_learner
from toys import problem, problems, tree

FILE = Path(__file__).parent.parent / "isolation_attacks.py"
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it is there on Linux only")


def attempts(launcher: Launcher, *specs: str) -> list[Attempt]:
    """One attempt after the other, each of one of the attacks."""
    stage, found, episode = LearnerProcesses(launcher), list[Attempt](), bind(problem(), tree())
    for i, spec in enumerate(specs):
        bound = get_learner(f"{FILE}:attack:{spec}")
        job = Job(str(i), bound, episode, bound.requires.resolved, Budget(), 0)
        execute([job], tree(), concurrency=1, on_attempt=found.append, stage=stage)
    return found


def learned(launcher: Launcher, *specs: str) -> list[object]:
    made = attempts(launcher, *specs)
    assert [attempt.error for attempt in made] == [None] * len(specs)
    return [attempt.metadata["learned"] for attempt in made]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file that may be read, and one beside it with a file that may not."""
    made = tmp_path_factory.mktemp("data")
    for name in ("shown", "hidden"):
        (made / name).mkdir()
        (made / name / "text.txt").write_text("the answer", encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def roomy(folder: Path) -> Iterator[Launcher]:
    """One that may write, and read a folder."""
    settings = Isolation(memory_mb=256, write=True, reads=str(folder / "shown"))
    with Launcher(settings, "reroot.runs.isolated", [str(FILE)]) as started:
        if started.walls["files"] != walls.STANDS:
            pytest.skip(f"no file system of its own: {started.walls['files']}")
        yield started


@linux
@pytest.mark.slow(3)
def test_it_reads_what_it_is_given_and_no_more(roomy: Launcher, folder: Path) -> None:
    files = [folder / name / "text.txt" for name in ("shown", "hidden")]
    given, other = learned(roomy, *(f"by=reading,file={file}" for file in files))
    assert given == ["the answer"]
    assert other is None


@linux
@pytest.mark.slow(2)
def test_what_it_writes_is_its_own_and_goes_with_it(roomy: Launcher, folder: Path) -> None:
    """Not even the next attempt of the run finds it; the folder that it may read it cannot change."""
    before = set(os.listdir("/tmp"))
    file = folder / "shown" / "text.txt"
    (path, *found) = learned(roomy, f"by=writing,file={file}", "by=neighbours", "by=neighbours")
    assert str(path).startswith("/tmp/")
    assert found == [False, False]
    assert "left" not in set(os.listdir("/tmp")) - before
    assert os.listdir(folder / "shown") == ["text.txt"]


@linux
@pytest.mark.slow(3)
def test_what_it_writes_is_bounded(roomy: Launcher) -> None:
    """All of it by ``memory_mb``, and so is each file."""
    (filled, large, unnamed) = learned(roomy, "by=filling", "by=growing", "by=unnamed")
    assert filled in ([size, ["0", "1"]] for size in (248, 256))  # MiB, in whole files
    assert large == errno.EFBIG
    assert unnamed == errno.EPERM


@pytest.mark.parametrize("frame", ['{"sent":[[0,{"text":%s}]],"parked":false,"finished":null}', "%s", '{"call":%s}',
                                   '{"sent":[],"parked":false,"finished":%s}'])  # fmt: skip
def test_frames_a_little_less_deep_than_the_stack_break_their_own_attempt(frame: str) -> None:
    """Whatever reads, checks or shows them has no stack left at some depth."""
    stage = LearnerProcesses(launcher=None)  # type: ignore[arg-type]
    kinds = set[str]()
    for depth in range(900, 1000):
        task = Task("none", facts=None)  # type: ignore[arg-type]
        body = (frame % ("[" * depth + "]" * depth)).encode()
        task.buffer += len(body).to_bytes(4, "little") + body
        turn = stage._read(task)
        assert turn is not None
        assert turn.finished is not None
        assert turn.finished.error is not None
        kinds.add(turn.finished.error.kind)
    assert kinds == {"ProtocolError"}


# ---- machines that do not have every wall -----------------------------------------------------------


def test_other_platforms_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(InvalidInput, match="is there on Linux only, this is darwin"):
        reroot.run(
            "best_of_n", problems(1), tree(), grants="root/sample+reward", isolation="process"
        )


def test_a_processor_without_filter_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert seccomp.refusal() == "no filter is written for riscv64 processors"
    said = walls.told(
        {**dict.fromkeys(walls.MEANING, walls.STANDS), "calls": seccomp.refusal() or ""}
    )
    assert "no wall for calls (no filter is written for riscv64 processors)" in said


def test_a_kernel_without_namespaces_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError(errno.EPERM, "unshare: Operation not permitted")

    monkeypatch.setattr(namespaces, "enter", refuse)
    found = walls.outer([])
    assert found.keys() == {"files", "processes", "network"}
    assert set(found.values()) == {"no namespaces: [Errno 1] unshare: Operation not permitted"}


WITHOUT = """
import sys

from reroot.access.isolation import namespaces, seccomp

made = seccomp._Program([(0x20, 0, 0, 0)])
column = 0 if sys.argv[3] == "x86_64" else 1
made.refuse(seccomp._REFUSED["unshare"][column])
made.steps.append((0x06, 0, 0, 0x7FFF0000))
code = b"".join(__import__("struct").pack("=HBBI", *step) for step in made.steps)
seccomp.program = lambda own, write: code
namespaces.no_new_privileges()
seccomp.install(True)

from reroot.access.episode import bind
from reroot.access.isolation.processes import LearnerProcesses, Task
from reroot.access.isolation.settings import Isolation
from reroot.access.isolation.starting import Launcher
from reroot.access.runner import Job, execute
from reroot import Budget
from reroot.learners import get_learner
from toys import problem, tree

file, secret = sys.argv[1:3]
with Launcher(Isolation(reads=sys.argv[4]), "reroot.runs.isolated", [file]) as launcher:
    print(launcher.walls)
    for spec in (f"reading,file={secret}", f"reading,file={sys.argv[4]}", "writing", "signals"):
        bound, found = get_learner(f"{file}:attack:by={spec}"), []
        job = Job("p", bound, bind(problem(), tree()), bound.requires.resolved, Budget(), 0)
        stage = LearnerProcesses(launcher)
        execute([job], tree(), concurrency=1, on_attempt=found.append, stage=stage)
        print(found[0].error, found[0].metadata.get("learned"))
"""
"""A machine whose kernel refuses namespaces, and nothing else; what attacks learn there."""


@linux
@pytest.mark.slow(4)
def test_without_namespaces_landlock_keeps_the_files(folder: Path) -> None:
    if seccomp.refusal() is not None or not landlock.version():
        pytest.skip("the kernel has no Landlock, or there is no filter to fake another one with")
    secret, given = folder / "hidden" / "text.txt", folder / "shown" / "text.txt"
    arguments = [str(FILE), str(secret), os.uname().machine, str(given)]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    told, *found = done.stdout.splitlines()
    assert "'files': 'stands'" in told, done.stderr
    assert "'network': 'no namespaces: [Errno 1]" in told
    assert "'calls': 'stands'" in told
    assert found == ["None None", "None ['the answer']", "None None", "None None"], found
