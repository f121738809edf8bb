"""Places on shared storage, and machines that work there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from reroot.runs.shared import mirror
from stores import PROTOCOLS, Machine, store


@pytest.fixture(params=PROTOCOLS)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with store(request.param, tmp_path) as found:
        yield found


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Makes this process one on another machine: another folder of copies."""
    return lambda name: monkeypatch.setenv("REROOT_CACHE", str(tmp_path / name))


@pytest.fixture(autouse=True)
def first(machine: Machine) -> Iterator[None]:
    machine("first")
    yield
    assert [t for t in threading.enumerate() if isinstance(t, mirror.Repeated)] == []
