"""Isolated learners of suites, and of attempts that are made in several processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import reroot
from reroot import InvalidInput
from reroot.access.isolation.walls import MEANING
from reroot.runs.elsewhere import _as_isolated
from reroot.runs.folder import read_config
from reroot.runs.suite import run_suite
from serving_toys import serving
from toys import problems, tree
from transcripts import left_in

FILE = Path(__file__).parent.parent / "isolation_learners.py"


@pytest.mark.slow(8)
def test_workers_make_the_same_attempts_behind_the_same_walls(tmp_path: Path) -> None:
    """A file's learner and one of reroot's own; equal to the byte, with their transcripts."""
    found: list[Any] = []
    for kind, workers in (("none", 1), ("process", 2)):
        comparison = reroot.compare(
            model="hidden_path:K=3,H=3,p=0.6",
            learners=[f"{FILE}:waiting", "first_success:max_rollouts=4"],
            grants="root/sample",
            budget_tokens=600,
            seeds=1,
            problems=4,
            out=tmp_path / kind,
            isolation=kind,
            workers=workers,
            transcripts=True,
            on_walls=lambda said: None,
        )
        assert comparison.failures is None
        found.append(comparison.attempts)
    assert found[0] == found[1]
    assert left_in(tmp_path / "process") == left_in(tmp_path / "none")
    assert set(read_config(tmp_path / "process")["isolation"]["walls"]) == set(MEANING)


@pytest.mark.slow(1)
def test_a_worker_with_other_walls_makes_nothing() -> None:
    """As on another machine, whose kernel gives less."""
    told = {"kind": "process", "walls": dict.fromkeys(MEANING, "none here")}
    with pytest.raises(InvalidInput, match="other walls in a worker"), _as_isolated(told, []):
        pass


@pytest.mark.slow(5)
def test_suites_are_the_same_behind_walls(tmp_path: Path) -> None:
    summaries: list[dict[str, Any]] = []
    said: list[str] = []
    for kind in ("none", "process"):
        suite = run_suite(
            "sampling",
            model="hidden_path:K=2,H=2,p=0.6",
            out=tmp_path / kind,
            quick=True,
            problems=1,
            seeds=1,
            budget_tokens=40,
            budget_calls=8,
            isolation=kind,
            on_walls=said.append,
        )
        assert suite.failures is None
        summaries.append({k: v for k, v in suite.summary.items() if k != "speed"})
    assert summaries[0] == summaries[1]
    assert len(said) == 1
    assert "isolation" in read_config(tmp_path / "process" / "tokens")


@pytest.mark.slow(2)
def test_isolated_learners_of_served_sessions(tmp_path: Path) -> None:
    """Both boundaries: the learner is walled off from its own machine, and its session is elsewhere."""
    spec, settings = f"{FILE}:waiting", dict[str, Any](grants="root/sample")
    here = reroot.run(spec, problems(2), tree(), **settings)
    with serving(tree(), problems(2), tmp_path) as server:
        wall = server.connect("a", "root/sample")
        there = reroot.run(spec, wall.problems(), wall, isolation="process", **settings)
        wall.close()
    assert there.attempts == here.attempts
