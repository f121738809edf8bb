"""Freeing what old sessions were told. Of each its name stays, so that nothing is drawn again under it,
and what it was charged, which stands in its key's account."""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import dataclass

from .ledger import PRUNED, Ledger

_AT_ONCE = 100  # sessions per transaction, during which servers wait
_PAUSE = 0.01  # seconds between two, in which they go on


@dataclass(frozen=True, slots=True)
class Freed:
    """What was freed of a key.

    Attributes:
        sessions: that ended with it.
        turns: that they had been told.
        bytes: of what they had been told.
    """

    sessions: int = 0
    turns: int = 0
    bytes: int = 0

    def __add__(self, other: Freed) -> Freed:
        return Freed(
            self.sessions + other.sessions, self.turns + other.turns, self.bytes + other.bytes
        )


def prune(ledger: Ledger, name: str, before: float) -> Freed:
    """Free what the sessions of a key were told in which nothing has happened since ``before``.

    Servers may go on meanwhile: a turn that is under way in such a session is then neither charged nor told.

    Args:
        ledger: the accounts.
        name: of the key.
        before: seconds since 1970; servers let sessions be idle for ``ledger.IDLE`` seconds
            without losing anything, so it should be at least as long ago.

    Raises:
        Unavailable: the database cannot be reached; what was freed before is.
    """
    ended, freed = json.dumps(PRUNED), Freed()
    found = ledger.database.rows(
        "SELECT id FROM reroot_sessions WHERE name = ? AND at < ? AND (closed IS NULL OR closed <> ?)",
        *(name, before, ended),
    )
    ids = (session for (session,) in found)
    while part := list(itertools.islice(ids, _AT_ONCE)):
        freed += _free(ledger, name, before, part, ended)
        time.sleep(_PAUSE)
    return freed


def _free(ledger: Ledger, name: str, before: float, part: list[str], ended: str) -> Freed:
    """Free those of ``part`` in which nothing has happened meanwhile."""
    db = ledger.database
    with db.transaction([name]):
        found = db.rows(
            f"SELECT id FROM reroot_sessions WHERE at < ? AND id IN ({_marks(part)})",
            *(before, *part),
        )
        if not found:
            return Freed()
        ids = [session for (session,) in found]
        of_them = f"session IN ({_marks(ids)})"
        sql = f"SELECT COUNT(*), COALESCE(SUM(LENGTH(told)), 0) FROM reroot_turns WHERE {of_them}"
        ((turns, size),) = db.rows(sql, *ids)
        db.change(f"DELETE FROM reroot_turns WHERE {of_them}", *ids)
        db.change(f"DELETE FROM reroot_reservations WHERE {of_them}", *ids)
        db.change(
            f"UPDATE reroot_sessions SET terms = ?, closed = ? WHERE id IN ({_marks(ids)})",
            *("{}", ended, *ids),
        )
    return Freed(len(ids), int(turns), int(size))


def _marks(values: list[str]) -> str:
    return ", ".join("?" * len(values))
