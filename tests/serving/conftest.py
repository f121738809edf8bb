"""Places for accounts: files of SQLite, databases of PostgreSQL."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from postgres_toys import Postgres, postgres

NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def running() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("postgres", marks=[pytest.mark.slow(1), pytest.mark.xdist_group("postgres")]),
    ]
)
def db(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place for accounts."""
    if request.param == "sqlite":
        return str(tmp_path / "accounts.sqlite")
    return request.getfixturevalue("running").database(f"d{next(NUMBERS)}")
