"""The quick run of ``spanners``: what it bears out, that its checks can fail, and its page."""

from __future__ import annotations

import pytest

from experiment_rows import failing, markup_of, rows_of
from reroot.experiments import get_experiment
from reroot.experiments.base import Row, where
from reroot.experiments.spanners import balanced
from reroot.experiments.spanners_xpo import xpo_like
from reroot.families import Needle


@pytest.mark.slow(8)
def test_quick_run_bears_the_claims_of_spanners_out_and_shows_them() -> None:
    rows = rows_of("spanners")
    checks = get_experiment("spanners").check(rows)
    assert all(check.holds and check.detail for check in checks), [c for c in checks if not c.holds]
    page = markup_of(get_experiment("spanners").show(rows))
    assert (page.count("<figcaption>"), page.count("<table>")) == (3, 1)
    assert ">nan<" not in page


def changed(rows: list[Row], name: str, factor: float, **values: object) -> list[Row]:
    """The rows with a column multiplied where they have these values, by its length in one of them."""
    for row in where(rows, **values):
        row[name] *= factor ** (row.get("H", 4) - 4)
    return rows


def test_xpo_buys_few_rewards_and_reads_every_output() -> None:
    law = Needle(2, 4, seed=0)
    found = xpo_like(law, balanced(4), 0, 0.01)
    assert found["gap"] <= 0.01
    assert found["rewards"] <= 20
    assert found["outputs"] % 16 == 0
    assert found["tokens"] == 4 * found["outputs"] > 16 * found["rewards"]
    assert found == xpo_like(Needle(2, 4, seed=0), balanced(4), 0, 0.01)


@pytest.mark.slow(8)
def test_checks_of_spanners_can_fail() -> None:
    def said(name: str, factor: float, **values: object) -> str:
        return " ".join(failing("spanners", changed(rows_of("spanners"), name, factor, **values)))

    assert "rollouts grow like C_cov" in said("rollouts", 2.0, arm="spanner")
    assert "its rewards do not" in said("rewards", 2.0, arm="spanner")
    assert "pairs of P" in said("rewards", 4.0, arm="uniform")
    assert "polynomial in H" in said("tokens", 8.0, arm="mtss", kind="length")
    assert "rises with H" in said("tokens", 8.0, arm="mtss", kind="length")
    rows = rows_of("spanners")
    for row in where(rows, kind="length", arm="mtss"):
        row["gap"] = 0.1
    assert "come within" in failing("spanners", rows)[0]
    rows = rows_of("spanners")
    for row in where(rows, kind="error"):
        row["gap"] = 0.01
    assert sum("falls like 1/T_data" in name for name in failing("spanners", rows)) == 2
