"""Folders that grow while somebody looks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reroot import RunFolderError, run
from reroot.access.sealing import sealed
from reroot.families import HiddenPath
from reroot.runs.attempts import attempts_of
from reroot.runs.growing import new_attempts, new_lines


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    family = HiddenPath(3, 3, 0.6, seed=0)
    problems = [replace(family.problem(), id=f"p{i}") for i in range(12)]
    run("best_of_n:n=4", problems, family, grants="root/sample+reward", out=tmp_path)
    return tmp_path


def test_whatever_was_written_so_far_every_attempt_comes_once(folder: Path) -> None:
    """Cut at every length, half-written lines included, and read on from there."""
    data = (folder / "journal.jsonl").read_bytes()
    grown = folder / "grown"
    grown.mkdir()
    keys, offset = list[str](), 0
    for end in [*range(0, len(data), 37), len(data)]:
        (grown / "journal.jsonl").write_bytes(data[:end])
        seen = new_attempts(grown, offset)
        assert not seen.again
        assert seen.offset == data[:end].rfind(b"\n") + 1
        keys += [attempt.key for attempt in seen.lines]
        offset = seen.offset
    assert keys == list(attempts_of(folder))
    assert new_attempts(grown, offset).lines == []


def test_no_journal_yet_a_shorter_one_and_a_damaged_one(folder: Path, tmp_path: Path) -> None:
    assert new_attempts(tmp_path / "none").offset == 0
    whole = new_attempts(folder)
    assert new_attempts(folder, whole.offset + 1).again
    assert len(new_attempts(folder, whole.offset + 1).lines) == 12
    journal = folder / "journal.jsonl"
    good = journal.stat().st_size
    with journal.open("ab") as file:
        file.write(sealed({"key": "no attempt"}) + b'{"half')
    with pytest.raises(RunFolderError, match="line 13: not a journal line"):
        new_attempts(folder)
    with pytest.raises(RunFolderError, match=f"at byte {good}: not a journal line"):
        new_attempts(folder, good)
    assert new_lines(folder, good).lines == [{"key": "no attempt"}]
