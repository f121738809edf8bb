"""``benchmarks/kills.py``: servers are killed while clients go on, and the accounts equal what was received."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

KILLS = Path(__file__).parents[2] / "benchmarks" / "kills.py"


@pytest.mark.slow(25)
@pytest.mark.parametrize(
    "kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.xdist_group("postgres"))]
)
def test_accounts_equal_what_clients_received(kind: str) -> None:
    measured = runpy.run_path(str(KILLS))["measured"]
    found = measured(kind, kills=4, seed=3, servers=2, clients=2, spread=1.0)
    assert found["faults"] == []
    assert found["requests cut off"] > 0
    assert found["attempts"] > 8
