"""How commands end: signals, readers that go away, and what is left behind."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path

import pytest

from reroot.cli import main

REROOT = [sys.executable, "-m", "reroot"]
SPREAD = {
    "certify": ["certify", "smc", "vgb", "power_sampling", "--processes", "2"],
    "reproduce": ["reproduce", "barrier", "--workers", "2"],
}


def eventually(holds: Callable[[], object], seconds: float = 60.0) -> bool:
    """Whether something comes to hold; the bound is only there for a machine that is busy."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.05)
    return False


def children(parent: int) -> set[int]:
    """Worker processes that a process has started."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            command = (stat.parent / "cmdline").read_bytes()
        except OSError:  # it has ended
            continue
        if int(fields[1]) == parent and b"spawn_main" in command:
            found.add(int(stat.parent.name))
    return found


def runs(process: int) -> bool:
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize(
    ("command", "number", "status"),
    [
        ("certify", signal.SIGKILL, -9),
        ("certify", signal.SIGTERM, 143),
        ("reproduce", signal.SIGKILL, -9),
        ("reproduce", signal.SIGINT, 130),
    ],
)
def test_no_worker_outlives_its_command(
    command: str, number: signal.Signals, status: int, tmp_path: Path
) -> None:
    """Killed alone; Ctrl-C goes to the whole group, as a terminal sends it: workers say nothing."""
    arguments = [*REROOT, *SPREAD[command], "--out", str(tmp_path / "run")]
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert eventually(lambda: len(children(process.pid)) == 2)
        workers = children(process.pid)
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        _, printed = process.communicate(timeout=60)
        assert process.returncode == status
        assert eventually(lambda: not any(map(runs, workers)), 20)
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in printed
    if status > 0:
        assert printed.endswith("the same command continues.\n")
        assert len(printed.splitlines()) == 1


def test_sigint_while_importing_is_one_line() -> None:
    """The signal comes at the first import after the entry point has begun."""
    code = (
        "import os, signal, sys\n"
        "class Watch:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'typer': os.kill(os.getpid(), signal.SIGINT)\n"
        "import reroot.cli\n"
        "sys.meta_path.insert(0, Watch())\n"
        "reroot.cli.main(['list', 'contracts'])\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 130
    assert run.stderr == "interrupted\n"
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("what", [["list", "contracts"], ["--help"], ["compare", "--help"]])
def test_a_reader_that_goes_away_is_no_error(what: list[str]) -> None:
    process = subprocess.Popen(
        [*REROOT, *what], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(60) in (0, 1)


@pytest.mark.slow(1)
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize("what", [["list", "contracts"], ["compare", "--help"], ["report", "…β"]])
def test_other_encodings_degrade(what: list[str], encoding: str) -> None:
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    run = subprocess.run([*REROOT, *what], capture_output=True, env=env, timeout=60, check=False)
    assert run.returncode == (2 if what[0] == "report" else 0)
    printed = (run.stdout + run.stderr).decode(encoding)
    assert "Traceback" not in printed
    expected = {"list": "root/...", "compare": "KL temperature", "report": "error: "}[what[0]]
    assert expected in printed


@pytest.mark.slow(1)
def test_nothing_is_said_at_exit_and_a_closed_output_is_no_error(tmp_path: Path) -> None:
    """No warning of tasks that were pending, of coroutines that were never awaited, of what is None."""
    family = ["compare", "--model", "hidden_path:K=3,H=4,p=0.6", "--problems", "2", "--seeds", "1"]
    command = [*REROOT, *family, "--budget-tokens", "500", "--out", str(tmp_path / "run")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    closed = [
        sys.executable,
        "-c",
        "import os, sys; os.close(1); os.execv(sys.argv[1], sys.argv[1:])",
    ]
    run = subprocess.run(
        [*closed, *REROOT, "list", "contracts"],
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.stderr == ""


def test_what_is_left_is_said_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of run folders where there are some; a command that writes nothing leaves nothing."""

    def said(arguments: list[str]) -> str:
        def run(_: object) -> int:
            os.kill(os.getpid(), signal.SIGTERM)
            return 0

        monkeypatch.setattr("reroot.cli.commands.run", run)
        printed = io.StringIO()
        with redirect_stderr(printed), pytest.raises(SystemExit, match="143"):
            main(arguments)
        return printed.getvalue()

    assert said(["train"]).startswith("terminated: run folders keep")
    assert said(["serve", "--port", "0"]) == (
        "terminated: what clients were told is written down; the same command goes on.\n"
    )
    assert said(["describe", "smc"]) == said([]) == "terminated\n"
