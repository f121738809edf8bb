"""Completions of training: sampled by seed and step alone, their start marked, resumable."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from reroot import Cost, InvalidInput, Prefix
from reroot.access.sealing import sealed
from reroot.runs.folder import write_json
from reroot.runs.record_folders import read_records
from reroot.runs.records import COMPLETIONS, Record
from reroot.training.group import Group
from reroot.training.strategies.base import Start
from reroot.training.trl.completions import CompletionLog, kept_count
from toys import END, problem, tree

PROBLEMS = [problem(f"p{i}", answer=f"wanted {i}", verifier=None) for i in range(2)]


def groups() -> list[Group]:
    """From the root, and from (1,); of the second the last has no reward."""
    tokens = [[[1, 2, END], [0, 1, 1, 1, 1], [1, 1, 1, 1, 1]], [[2, END], [2, 0, END], [END]]]
    rewards = [[1.0, 0.0, 1.0], [1.0, 0.0, math.nan]]
    starts = [Start(Prefix()), Start(Prefix((1,)))]
    return [
        Group((), start, drawn, None, given, None, Cost(), Cost(), f"p{i}")
        for i, (start, drawn, given) in enumerate(zip(starts, tokens, rewards, strict=True))
    ]


def kept(folder: Path, most: str, steps: tuple[int, ...] = (1, 2)) -> tuple[Record, ...]:
    folder.mkdir(exist_ok=True)
    config = {"kind": "train", "contract": "root/sample", "arm": "adaback", "task": "t", "seed": 3}
    write_json(folder / "config.json", config)
    log = CompletionLog(folder, PROBLEMS, kept_count(most), seed=3)
    for step in steps:
        log.step(step, groups(), tree())
    log.close()
    return read_records(folder).records


def test_all_with_their_start_marked(tmp_path: Path) -> None:
    found = kept(tmp_path / "r", "all", (1,))
    assert len(found) == 6
    first, root = found[3], found[1]
    assert (first.id, first.step, first.group, first.rollout) == ("step/1/1/0", 1, 1, 0)
    assert (first.tokens, first.given, first.output) == ((1, 2, END), 1, "1 2")
    assert "".join(first.pieces or ()) == first.output
    assert (first.passed, first.reward, first.answer, first.complete) == (
        True,
        1.0,
        "wanted 1",
        True,
    )
    assert (root.given, root.outcome) == (0, "failed")
    assert root.mark is not None
    assert (root.mark.token, root.mark.by) == (0, "demonstration")
    assert (found[5].reward, found[5].outcome) == (None, "abstained")


def test_a_sample_is_a_function_of_seed_and_step(tmp_path: Path) -> None:
    found = kept(tmp_path / "a", "2")
    assert [r.step for r in found] == [1, 1, 2, 2]
    again = kept(tmp_path / "b", "2", (2,))
    assert [r.id for r in again] == [r.id for r in found if r.step == 2]
    chosen = {
        kept(tmp_path / "c", "1", (step,))[-1].id.partition("/1/")[2] for step in range(1, 30)
    }
    assert len(chosen) > 1
    assert kept(tmp_path / "none", "none") == ()


def test_a_step_that_is_taken_again_counts_once(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    before = kept(folder, "2")
    with (folder / COMPLETIONS).open("ab") as file:
        file.write(sealed({"step": 3, "of": 1, "completions": []})[:20])  # as a kill leaves it
    assert kept(folder, "2", (2,)) == before


@pytest.mark.parametrize("wrong", ["some", "-1", "1.5", ""])
def test_other_values_are_refused(wrong: str) -> None:
    with pytest.raises(InvalidInput, match=r"keep_completions"):
        kept_count(wrong)
