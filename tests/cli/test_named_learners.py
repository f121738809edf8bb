"""Learners by the names that other programs use: one command on a family of theirs, and on one that is not."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

import reroot
from commands import call
from reroot import RerootError
from reroot.families import HiddenPath
from reroot.learners.registry import get_learner

LOCK = "actions=2,goods=2,noise=1,decoders=3"
NEEDLE = ("mtss:beta=0.25", "spanner_sampling:beta=0.25,coverage=8")
LAYERS = (f"sim_golf:{LOCK},episodes=4", f"rvfs:{LOCK}")
LAYERS += tuple(f"{name}:{LOCK},episodes=10" for name in ("pce", "pcr"))
FAMILIES = {
    "needle:K=2,H=3": NEEDLE,
    "low_rank:K=2,H=3,S=2": ("hmm_exact:n=10", "hmm_samples", "low_rank_spanner"),
    "combination_lock:H=2,A=2,G=2,n=1,decoders=3": LAYERS,
}


@pytest.mark.slow(4)
@pytest.mark.parametrize("family", FAMILIES)
def test_one_command_ends_with_results(family: str, tmp_path: Path) -> None:
    learners = FAMILIES[family]
    grants = {str(get_learner(name).requires) for name in learners}
    given = ["compare", "--model", family, "--problems", "1", "--seeds", "1"]
    given += ["--budget-tokens", "2000", "--grants", ",".join(sorted(grants))]
    for name in learners:
        given += ["--learner", name]
    assert call(*given, "--out", str(tmp_path / "run")) == 0
    results = pl.read_parquet(tmp_path / "run" / "results.parquet")
    assert {name.partition("(")[0] for name in results["learner"]} == {
        name.partition(":")[0] for name in learners
    }
    assert results["error"].is_null().all()


@pytest.mark.parametrize("name", [*NEEDLE, *LAYERS])
def test_a_family_that_is_not_theirs_is_refused(name: str) -> None:
    """Low-rank learners take any law: no family is wrong for them."""
    path = HiddenPath(3, 4, 0.6)
    grants = str(get_learner(name).requires)
    with pytest.raises(RerootError, match=r"feature|hidden|no block MDP"):
        reroot.run(name, [path.problem()], path, grants=grants)
