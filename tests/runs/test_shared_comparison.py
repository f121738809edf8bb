"""Commands whose run folder is on shared storage: the bytes of a local run, and a driver that dies with its machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import reroot
from commands import call
from reroot.runs.growing import new_attempts
from reroot.runs.shared import fetched, stored
from stores import lines, store

HERE = Path(__file__).parent
RESULTS = ("results.parquet", "problems.parquet", "config.json")
SETTINGS: dict[str, Any] = {
    "model": "hidden_path:K=3,H=3,p=0.6",
    "learners": ["best_of_n:n=4", "beam_search:width=2"],
    "budget_tokens": 500,
    "seeds": 2,
    "problems": 12,
    "concurrency": 2,
    "transcripts": True,
}


@pytest.fixture(params=["memory", "s3"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with store(request.param, tmp_path) as found:
        yield found


def same(folder: Path, other: Path) -> None:
    for name in RESULTS:
        assert (folder / name).read_bytes() == (other / name).read_bytes()
    names = sorted(file.name for file in (other / "transcripts").iterdir())
    assert sorted(file.name for file in (folder / "transcripts").iterdir()) == names
    for name in names:
        found, expected = ((f / "transcripts" / name).read_bytes() for f in (folder, other))
        assert found == expected


@pytest.mark.slow(2)
def test_equal_to_a_local_run_to_the_byte(
    address: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("REROOT_CACHE", str(tmp_path / "first"))
    command = ["compare", "--model", SETTINGS["model"], "--budget-tokens", "500", "--seeds", "2"]
    command += ["--problems", "12", "--transcripts"]
    for learner in SETTINGS["learners"]:
        command += ["--learner", learner]
    assert call(*command, "--out", str(tmp_path / "local")) == 0
    assert call(*command, "--out", address) == 0
    said = capsys.readouterr()
    assert f"{address}: " in said.err
    monkeypatch.setenv("REROOT_CACHE", str(tmp_path / "second"))
    with fetched(address) as copy:
        same(copy, tmp_path / "local")
    capsys.readouterr()
    assert call("report", str(tmp_path / "local"), "--json") == 0
    expected = json.loads(capsys.readouterr().out)
    assert call("report", address, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found | {"seconds": 0} == expected | {"seconds": 0}
    assert call("show", address, "--limit", "1") == 0
    assert "1 of 48 attempts" in capsys.readouterr().out
    assert call("view", address, "--static", str(tmp_path / "page.html")) == 0
    assert call(*command, "--out", address, "--seeds", "3") == 2  # another run
    assert f"this machine's copy of {address})" in " ".join(capsys.readouterr().err.split())


def driver(address: str, wait: float) -> None:
    with stored(address, every=0.1, lease=1.0) as folder:
        reroot.compare(out=folder, on_attempt=lambda attempt: time.sleep(wait), **SETTINGS)


@pytest.mark.slow(8)
@pytest.mark.parametrize("protocol", ["file", "s3"])
def test_a_driver_that_died_with_its_machine(
    protocol: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, reader = (tmp_path / name for name in ("one", "two", "reader"))
    program = f"import sys; sys.path[:0] = {[str(HERE), str(HERE.parent)]!r}\n"
    program += "from test_shared_comparison import driver; driver(sys.argv[1], 0.05)"
    with store(protocol, tmp_path) as address:
        environment = os.environ | {"REROOT_CACHE": str(one)}
        first = subprocess.Popen([sys.executable, "-c", program, address], env=environment)
        monkeypatch.setenv("REROOT_CACHE", str(reader))
        made = 0
        while made < 5 and first.poll() is None:
            time.sleep(0.05)
            made = attempts_of(address)
        first.kill()
        assert first.wait() == -signal.SIGKILL
        shutil.rmtree(one)
        made = attempts_of(address)
        assert 5 <= made < 48
        monkeypatch.setenv("REROOT_CACHE", str(two))
        told, tell = lines()
        with stored(address, told=tell, lease=1.0) as folder:
            whole = reroot.compare(out=folder, **SETTINGS)
        assert whole.made == 48 - made
        assert any("has not renewed it for 1 s: taken over" in line for line in told)
        reroot.compare(out=tmp_path / "local", **SETTINGS)
        monkeypatch.setenv("REROOT_CACHE", str(reader))
        with fetched(address, told=tell) as copy:
            same(copy, tmp_path / "local")


def attempts_of(address: str) -> int:
    """How many attempts are stored, as far as there is anything."""
    try:
        with fetched(address, told=lambda line: None) as copy:
            return len(new_attempts(copy).lines)
    except reroot.RerootError:
        return 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["report", "runs/x", "--csv", "s3://b/x"], "csv is a path of this machine, got s3://b/x"),
        (["probe", "http://127.0.0.1:1", "--out", "memory://x"], "out is a path of this machine"),
        (["report", "nothing://b/x"], "nothing://b/x: Protocol not known: nothing"),
        (["report", "memory://"], "expected PROTOCOL://PLACE, got 'memory:'"),
        (["report", "memory://nothing"], "memory://nothing holds no run folder"),
        (["compare", "--model", "x", "--out", "smb://u:secret@h/x"], "smb://h/x: "),
        (["compare", "--model", "x", "--out", "http://127.0.0.1:1/x"], "can't write to http:"),
    ],
)
def test_what_is_refused(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("REROOT_CACHE", str(tmp_path))
    assert call(*arguments) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert said in error
    assert "secret" not in error


def test_python_is_told_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(reroot.RunFolderError, match=r"stored\('s3://bucket/x'\) as folder"):
        reroot.compare(model=SETTINGS["model"], out="s3://bucket/x")
    assert list(tmp_path.iterdir()) == []
