"""Run folders: locks, configurations, full disks, damaged journals, and kill -9."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import reroot
from forks import Forks
from reroot import Budget, RunFolderError
from reroot.access.attempt_json import attempt_from_json, attempt_to_json
from reroot.access.runner import Attempt
from reroot.generators.tabular import Tabular
from reroot.runs.attempts import RunFolder
from toys import K, Wrapped, as_learner, one_rollout, play, problem, problems, search, tree, zeros

TASKS = [problem(f"p{i}", reward=zeros) for i in range(6)]


def run(folder: Path, **settings: Any) -> list[Attempt]:
    return play(
        *(search, "reset/sample+reward+verifier"),
        **{"task": TASKS, "out": folder, "concurrency": 2, **settings},
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Attempt], bytes]:
    folder = tmp_path_factory.mktemp("whole")
    return run(folder), (folder / "results.parquet").read_bytes()


def is_the_same(folder: Path, whole: tuple[list[Attempt], bytes]) -> None:
    assert run(folder) == whole[0]
    assert (folder / "results.parquet").read_bytes() == whole[1]


def test_what_a_folder_holds(tmp_path: Path) -> None:
    attempts = run(tmp_path)
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {
        *("config.json", "journal.jsonl", "results.parquet", "summary.json"),
        *("inflight", ".lock", "usage.jsonl", "texts.jsonl"),
    }
    table = pl.read_parquet(tmp_path / "results.parquet")
    assert table["problem"].to_list() == [p.id for p in TASKS]
    assert table["reward"].to_list() == [a.reward for a in attempts]
    assert table["tokens_out"].to_list() == [list(a.output or ()) for a in attempts]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["attempts"] == 6
    assert summary["cost"]["tokens"] == sum(a.cost.tokens for a in attempts)


@pytest.mark.parametrize("body", [search, one_rollout])
def test_attempts_read_back(body: Any) -> None:
    for attempt in play(body, "reset/sample+reward+verifier", task=TASKS):
        line = json.dumps(attempt_to_json(attempt))
        assert attempt_from_json(json.loads(line)) == attempt


# ---- whose folder it is -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"seed": 1}, "seed is 0 there and 1 now"),
        ({"budget": Budget(tokens=9)}, 'budget is {} there and {"tokens": 9} now'),
        ({"task": TASKS[:5]}, 'problems is ["p0", "p1"'),
        ({"generator": tree(seed=2)}, "generator is {"),
    ],
)
def test_another_configuration_is_named(change: dict[str, Any], key: str, tmp_path: Path) -> None:
    run(tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    with pytest.raises(RunFolderError, match="holds a run with another configuration") as error:
        run(tmp_path, **change)
    assert key in str(error.value)
    assert {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before


def test_another_contract_or_learner_is_named(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(RunFolderError, match=r'grants is "reset/sample'):
        play(search, "chosen/sample+reward+verifier", task=TASKS, out=tmp_path)
    named = reroot.learner(requires=reroot.Contract.parse("root/none"))(search)()
    with pytest.raises(RunFolderError, match=r'learner is \{"name": "toy"'):
        reroot.run(named, TASKS, tree(), grants="reset/sample+reward+verifier", out=tmp_path)


def test_what_does_not_matter_may_change(tmp_path: Path) -> None:
    first = run(tmp_path, transcripts=True)
    assert run(tmp_path, concurrency=64, task=TASKS[::-1])[::-1] == first


@pytest.mark.slow(1)
def test_a_folder_in_use(tmp_path: Path) -> None:
    """By this process or another: the second one is refused and changes nothing."""
    run(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    with RunFolder(tmp_path, config):
        with pytest.raises(RunFolderError, match="is in use by another process"):
            run(tmp_path)
        script = f"from reroot.runs.attempts import RunFolder; RunFolder({str(tmp_path)!r}, {{}}).__enter__()"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert "is in use by another process" in done.stderr
    run(tmp_path)


def test_folders_that_are_none(tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.tex").write_text("chapter 1")
    with pytest.raises(RunFolderError, match=r"is not empty and holds no config\.json"):
        run(full)
    with pytest.raises(RunFolderError, match=r"can't use .*thesis\.tex as a run folder"):
        run(full / "thesis.tex")
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text("{")
    with pytest.raises(RunFolderError, match="is not JSON"):
        run(other)


def test_a_kill_before_the_configuration_was_written(
    tmp_path: Path, whole: tuple[list[Attempt], bytes]
) -> None:
    (tmp_path / ".config.json.4711").write_text('{"kind"')
    (tmp_path / "inflight").mkdir()
    is_the_same(tmp_path, whole)


# ---- journals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [1, 20, "é"])
def test_a_journal_that_was_cut_off(
    cut: int | str, tmp_path: Path, whole: tuple[list[Attempt], bytes]
) -> None:
    """The last attempt is made again; the others are not."""
    run(tmp_path)
    journal = tmp_path / "journal.jsonl"
    data = journal.read_bytes()
    journal.write_bytes(data[:-cut] if isinstance(cut, int) else data + cut.encode()[:1])
    generator = Wrapped()
    assert run(tmp_path, generator=generator) == whole[0]
    assert (tmp_path / "results.parquet").read_bytes() == whole[1]
    assert bool(generator.calls) == isinstance(cut, int)
    is_the_same(tmp_path, whole)


@pytest.mark.parametrize("line", [b"rubbish", b"{}", b"[]", b"\xff", b'{"output": 3}'])
def test_a_damaged_journal_is_not_touched(line: bytes, tmp_path: Path) -> None:
    run(tmp_path)
    journal = tmp_path / "journal.jsonl"
    lines = journal.read_bytes().split(b"\n")
    journal.write_bytes(b"\n".join([lines[0], line, *lines[2:]]))
    damaged = journal.read_bytes()
    with pytest.raises(RunFolderError, match=r"journal\.jsonl, line 2: not a journal line"):
        run(tmp_path)
    assert journal.read_bytes() == damaged


# ---- full disks ---------------------------------------------------------------------------------


class Disk:
    """Appends fail once ``room`` bytes are written, having written what still fits."""

    def __init__(self, patch: pytest.MonkeyPatch, room: int, short: bool) -> None:
        self.room, self.short = room, short
        self.open = Path.open
        disk = self

        def open_path(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            file = disk.open(path, mode, *args, **kwargs)
            return _Limited(file, disk) if mode == "ab" else file

        patch.setattr(Path, "open", open_path)


class _Limited:
    def __init__(self, file: Any, disk: Disk) -> None:
        self.file, self.disk = file, disk

    def write(self, data: bytes) -> int:
        fits = data[: self.disk.room]
        self.disk.room -= len(fits)
        written = self.file.write(fits)
        if written < len(data) and not self.disk.short:
            raise OSError(28, "No space left on device")
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> _Limited:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()


@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("room", [0, 300, 1_000, 1_500])
def test_a_full_disk(
    room: int, short: bool, tmp_path: Path, whole: tuple[list[Attempt], bytes]
) -> None:
    """The message says what is safe; nothing is half-written; with room again it goes on."""
    with pytest.MonkeyPatch.context() as patch:
        Disk(patch, room, short)
        with pytest.raises(RunFolderError) as error:
            run(tmp_path)
    text = str(error.value)
    assert "o space left on device" in text
    assert "safe. Make room and run the same command again: it continues from there." in text
    for path in [tmp_path / "journal.jsonl", *(tmp_path / "inflight").iterdir()]:
        data = path.read_bytes() if path.exists() else b""
        assert not data or data.endswith(b"}\n")
        for line in data.splitlines():
            json.loads(line)
    assert (tmp_path / "results.parquet").exists()
    is_the_same(tmp_path, whole)


def refuse_table(patch: pytest.MonkeyPatch) -> None:
    """No room for results.parquet."""
    replace = os.replace

    def full(source: Path, target: Path) -> None:
        if Path(target).name == "results.parquet":
            raise OSError(28, "No space left on device")
        replace(source, target)

    patch.setattr(os, "replace", full)


def test_a_disk_too_full_for_the_table(
    tmp_path: Path, whole: tuple[list[Attempt], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every attempt is in the journal."""

    with monkeypatch.context() as patch:
        refuse_table(patch)
        with pytest.raises(RunFolderError, match=r"can't write .*results\.parquet: No space left"):
            run(tmp_path)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".results")]
    assert len((tmp_path / "journal.jsonl").read_bytes().splitlines()) == 6
    is_the_same(tmp_path, whole)


def test_the_first_error_is_the_one_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the table can't be written either, because of the same full disk."""

    Disk(monkeypatch, 1_000, short=False)

    refuse_table(monkeypatch)
    with pytest.raises(RunFolderError, match=r"safe\. Make room and run"):
        run(tmp_path)


# ---- processes ----------------------------------------------------------------------------------

SCRIPT = textwrap.dedent(
    """
    import sys, time
    sys.path[:0] = [sys.argv[1], sys.argv[1] + "/.."]
    from test_run_folder import TASKS, Slow, run
    run(sys.argv[2], generator=Slow(sys.argv[3]), transcripts=True)
    """
)


class Slow(Wrapped):
    """Takes its time, and keeps an account of the calls it has answered."""

    def __init__(self, account: str) -> None:
        super().__init__()
        self.account = Path(account)

    def answer(self, requests: Any) -> Any:
        time.sleep(0.02)
        replies = super().answer(requests)
        with self.account.open("a") as file:
            file.writelines(f"{r.key} {r.first} {r.n}\n" for r in requests if r.forced is None)
        return replies


def start(folder: Path, **kwargs: Any) -> subprocess.Popen[bytes]:
    here = str(Path(__file__).parent)
    account = str(folder.with_suffix(".account"))
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, here, str(folder), account], stderr=subprocess.PIPE, **kwargs
    )


@pytest.mark.slow
def test_kill_9_at_any_moment(tmp_path: Path, whole: tuple[list[Attempt], bytes]) -> None:
    """Killed again and again, then left alone: the same results, and next to no work done twice."""
    folder, rng, kills = tmp_path / "run", random.Random(5), 0
    account = folder.with_suffix(".account")
    account.touch()
    here = Path(__file__).parent
    program = f"run({str(folder)!r}, generator=Slow({str(account)!r}), transcripts=True)"
    with Forks("from test_run_folder import Slow, run", (here, here.parent)) as forks:
        for _ in range(5):
            enough = account.stat().st_size + rng.randrange(1, 400)
            forks.start(f"from test_run_folder import Slow, run\n{program}")
            while forks.poll() is None and account.stat().st_size < enough:
                time.sleep(0.002)
            time.sleep(rng.random() * 0.03)
            forks.kill()
            kills += forks.wait() == -signal.SIGKILL
        forks.start(f"from test_run_folder import Slow, run\n{program}")
        assert forks.wait() == 0
    assert kills == 5
    assert len((folder / "journal.jsonl").read_bytes().splitlines()) == 6
    assert (folder / "results.parquet").read_bytes() == whole[1]
    assert len(list((folder / "transcripts").iterdir())) == 6
    is_the_same(folder, whole)
    asked = account.read_text().splitlines()
    # at worst the wave in flight (2 attempts, 2 questions each) is asked again after each kill
    assert len(asked) - len(set(asked)) <= 4 * kills


@pytest.mark.slow
def test_a_limit_on_the_size_of_files(tmp_path: Path, whole: tuple[list[Attempt], bytes]) -> None:
    """A real refusal of the operating system, in a process of its own."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    process = start(tmp_path / "run", preexec_fn=limit)
    _, complaints = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "RunFolderError: can't write" in complaints.decode()
    assert "safe. Make room and run the same command again" in complaints.decode()
    is_the_same(tmp_path / "run", whole)


def test_ctrl_c_keeps_what_is_finished(tmp_path: Path) -> None:
    """The table holds the attempts that had ended; the rest is made when the run goes on."""

    class Interrupted(Wrapped):
        def answer(self, requests: Any) -> Any:
            if self.calls == 4:
                signal.raise_signal(signal.SIGINT)  # in this thread, now
            return super().answer(requests)

    usual = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
    try:
        with pytest.raises(KeyboardInterrupt):
            play(
                one_rollout, task=problems(9), generator=Interrupted(), out=tmp_path, concurrency=2
            )
    finally:
        signal.signal(signal.SIGINT, usual)
    table = pl.read_parquet(tmp_path / "results.parquet")
    assert 0 < table.height < 9
    attempts = play(one_rollout, task=problems(9), out=tmp_path)
    assert attempts == play(one_rollout, task=problems(9))


def test_the_configuration_names_the_generator(tmp_path: Path) -> None:
    """Two trees of the same shape are two generators."""
    levels = [[0.25] * K, [[0.25] * K] * K]
    other = [[0.25] * K, [[0.25] * K] * (K - 1) + [[0.1, 0.2, 0.3, 0.4]]]
    task = problem(max_tokens=2, demonstration=None)
    reroot.run(as_learner(one_rollout), [task], Tabular(levels), grants="root/sample", out=tmp_path)
    with pytest.raises(RunFolderError, match="generator is"):
        reroot.run(
            *(as_learner(one_rollout), [task], Tabular(other)), grants="root/sample", out=tmp_path
        )


@pytest.mark.parametrize(
    "out", ["memory://x", "s3://bucket/x", "file:///tmp/x", Path("file:///tmp/x")]
)
def test_addresses_are_no_run_folders(out: str | Path) -> None:
    with pytest.raises(RunFolderError, match="a path of a file system, got"):
        RunFolder(out, {})
