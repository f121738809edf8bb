"""Every number of every kind of page is the one that the pages showed before they were made from templates.

The records were made once by that code (commit 13a5832). Headings that were empty have names now; charts of
certificates are drawn by Matplotlib now, and the mean of cumulative log-probabilities no longer rises.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from page_kinds import KINDS
from page_numbers import numbers

RECORD = Path(__file__).parent / "records" / "numbers.json"


def named(table: list[list[str]]) -> list[list[str]]:
    """Without headings that had no name."""
    head, *rows = table
    known = {"found", "passed", "holds", "setting", "value", "what", "control"}
    kept = ["" if name in known else name for name in head]
    return [kept, *rows]


@pytest.mark.slow(8)
@pytest.mark.parametrize("kind", KINDS)
def test_every_number_is_as_before(kind: str, tmp_path: Path) -> None:
    before = json.loads(RECORD.read_text(encoding="utf-8"))[kind]
    now = numbers(KINDS[kind](tmp_path))
    was, found = (list(map(named, x["tables"])) for x in (before, now))
    assert len(was) == len(found)
    for one, other in zip(was, found, strict=True):
        assert one == other
    assert before["texts"] == now["texts"]
    if kind != "certificates":
        assert before["drawn"] == now["drawn"]
