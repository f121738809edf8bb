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

QUERY: dict[str, Any] = {"prefix": [], "n": 1, "length": None, "report": "sample", "forced": None}
FORGED: list[Any] = [
    *(None, 7, "ask", [], {}, {"ask": None}, {"ask": [None]}, {"ask": [], "text": []}),
    *({"ask": [{**QUERY, "prefix": prefix}]} for prefix in ([1.0], [True], ["1"], [None], [[1]], "12", None, {})),
    *({"ask": [{**QUERY, "n": n}]} for n in (1.0, True, "1", None, [1])),
    *({"ask": [{**QUERY, "length": n}]} for n in (1.5, True, "5", [])),
    *({"ask": [{**QUERY, "report": report}]} for report in (None, 99, {"kind": 5}, "everything", "topk(2.5)", "topk(0)", "topk(-1)")),
    *({"ask": [{**QUERY, "forced": forced}]} for forced in ("12", 7, [0.5], [True])),
    *({name: [[1.0]]} for name in ("reward", "verifier", "value")),
    *({"hidden": [[]], "layers": layers} for layers in (1.5, True, "1")),
    *({"demonstration": length} for length in (1.5, True, "2", [])),
    *({"text": [value]} for value in (1.5, True, "1", None, [1])),
    {"reward": [1]},
    {"hidden": []},
    {"demonstration": 1, "layers": 2},
    {"ask": [{k: v for k, v in QUERY.items() if k != "n"}]},
    {"ask": [QUERY], "spent": {"tokens": -100}},
    {"ask": [{**QUERY, "contract": "chosen/full"}]},
    {"law": []},
    {"answer": None},
]  # fmt: skip
"""What is no message, as JSON."""


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
