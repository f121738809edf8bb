"""What attempts to get more than a contract grants have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from reroot.access.session import (
    Session,
)
from reroot.types import Cost
from toys import (
    play_one,
)

FREE = Cost()
EVERYTHING = "chosen/full+reward+verifier+demonstration"


def force(record: object, **fields: object) -> Any:
    """Change a frozen record behind its back."""
    for name, value in fields.items():
        object.__setattr__(record, name, value)
    return record


def is_refused(
    attack: Callable[[Session], Any],
    grants: str,
    error: type[Exception],
    message: str,
    **settings: Any,
) -> None:
    """The attack gets ``error`` saying ``message``."""
    spent: list[Cost] = []

    async def attempt(session: Session) -> None:
        with pytest.raises(error) as caught:
            await attack(session)
        assert message in str(caught.value)
        assert caught.value.__cause__ is None
        spent.append(session.spent)

    outcome = play_one(attempt, grants, **settings)
    assert outcome.error is None, outcome.error
    assert spent == [outcome.cost]
