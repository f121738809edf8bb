"""What one transaction of the ledger has read of its sessions, and what it is to write: each at once."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..types import CURRENCIES, Cost
from ..types.account import total

if TYPE_CHECKING:
    from .database import Database

NAMES = ", ".join(f'"{c}"' for c in CURRENCIES)
"""Columns of the currencies."""

_MARKS = ", ".join("?" * len(CURRENCIES))

Slot = tuple[int, str, int]
"""What is set aside of a session: (turn, digest of what is asked in it, part)."""


def _added(table: str) -> str:
    return ", ".join(f'"{c}" = {table}."{c}" + excluded."{c}"' for c in CURRENCIES)


_OPEN = "INSERT INTO reroot_sessions (id, name, terms, turns, closed, at) VALUES (?, ?, ?, ?, ?, ?)"
_TURN = "UPDATE reroot_sessions SET turns = ?, closed = ?, at = ? WHERE id = ?"
_TOLD = "INSERT INTO reroot_turns VALUES (?, ?, ?)"
_FREE = "DELETE FROM reroot_reservations WHERE session = ? AND turn <= ?"
_ASIDE = (
    f"INSERT INTO reroot_reservations (session, turn, asked, part, name, {NAMES}) "
    f"VALUES (?, ?, ?, ?, ?, {_MARKS}) "
    f"ON CONFLICT (session, turn, asked, part) DO UPDATE SET {_added('reroot_reservations')}"
)
_CHARGE = (
    f"INSERT INTO reroot_accounts (name, {NAMES}) VALUES (?, {_MARKS}) "
    f"ON CONFLICT (name) DO UPDATE SET {_added('reroot_accounts')}"
)


@dataclass(slots=True)
class Row:
    """A session: its key, its terms, how many turns are answered, what was told when it was closed (JSON)."""

    name: str
    terms: str
    turns: int
    closed: str | None
    new: bool = False


@dataclass(slots=True)
class Aside:
    """What is set aside in one slot: ``there`` already, and ``more``."""

    there: Cost
    more: Cost = Cost()


class Book:
    """Sessions as one transaction finds and leaves them; others are kept from them until it ends.

    Args:
        db: in a transaction of their keys.

    Attributes:
        balances: of keys, what is spent and what is set aside, with what is not written yet.
    """

    def __init__(self, db: Database) -> None:
        self.balances: dict[str, tuple[Cost, Cost]] = {}
        self._db = db
        self._rows: dict[str, Row | None] = {}
        self._aside: dict[str, dict[Slot, Aside]] = {}
        self._changed: dict[str, Row] = {}  # sessions, whose time at least is new
        self._more: dict[tuple[str, Slot], Aside] = {}
        self._freed: list[tuple[str, int]] = []
        self._told: list[tuple[str, int, str]] = []
        self._charged: dict[str, Cost] = {}

    # ---- what is there ---------------------------------------------------------------------------

    def read(self, sessions: Iterable[str]) -> None:
        """Read what is known of sessions."""
        # PostgreSQL has no texts with a zero
        wanted = {s for s in sessions if s not in self._rows and "\0" not in s}
        if not wanted:
            return
        self._rows |= dict.fromkeys(wanted)
        marks, values = _listed(wanted)
        found = self._db.rows(
            f"SELECT id, name, terms, turns, closed FROM reroot_sessions WHERE id IN ({marks})",
            *values,
        )
        for session, *row in found:
            self._rows[session] = Row(*row)

    def session(self, session: str) -> Row | None:
        """A session, if there is one of that name."""
        if session not in self._rows:
            self.read([session])
        return self._rows.get(session)

    def aside(self, session: str) -> dict[Slot, Aside]:
        """What is set aside for a session that is there."""
        if session not in self._aside:
            there = [s for s, row in self._rows.items() if row is not None and s not in self._aside]
            self._aside |= {session: {} for session in there}
            marks, values = _listed(there)
            sql = f"SELECT session, turn, asked, part, {NAMES} FROM reroot_reservations"
            found = self._db.rows(f"{sql} WHERE session IN ({marks})", *values)
            for which, turn, asked, part, *cost in found:
                self._aside[which][turn, asked, part] = Aside(Cost(*cost))
        return self._aside[session]

    # ---- what is to be written -------------------------------------------------------------------

    def open(self, session: str, name: str, terms: str) -> None:
        """A session that is not there."""
        self._rows[session] = self._changed[session] = Row(name, terms, 0, None, new=True)
        self._aside[session] = {}

    def touch(self, session: str, row: Row) -> None:
        """A session is not idle."""
        self._changed[session] = row

    def set_aside(self, session: str, slot: Slot, more: Cost) -> None:
        """Set more aside for a session that is there."""
        slots = self.aside(session)
        aside = slots.get(slot)
        if aside is None:
            aside = slots[slot] = Aside(Cost())
        aside.more = total((aside.more, more))
        self._more[session, slot] = aside

    def turn(self, session: str, row: Row, told: str, closed: str | None) -> None:
        """The next turn of a session is answered; what was set aside for it is free."""
        turn = row.turns
        row.turns, row.closed = turn + 1, closed
        self._changed[session] = row
        self._told.append((session, turn, told))
        slots = self.aside(session)
        for slot in [slot for slot in slots if slot[0] <= turn]:
            self._more.pop((session, slot), None)
            if any(slots.pop(slot).there) and (session, turn) not in self._freed[-1:]:
                self._freed.append((session, turn))

    def charge(self, name: str, cost: Cost) -> None:
        """Charge a key."""
        before = self._charged.get(name)
        self._charged[name] = cost if before is None else before + cost

    def write_down(self) -> None:
        """Write all that is to be written."""
        now, db = time.time(), self._db
        new: list[tuple[object, ...]] = []
        known: list[tuple[object, ...]] = []
        for session, row in self._changed.items():
            if row.new:
                new.append((session, row.name, row.terms, row.turns, row.closed, now))
                row.new = False
            else:
                known.append((row.turns, row.closed, now, session))
        db.change_all(_OPEN, new)
        db.change_all(_TURN, known)
        db.change_all(_TOLD, self._told)
        db.change_all(_FREE, self._freed)
        db.change_all(_ASIDE, [*self._rows_aside()])
        db.change_all(_CHARGE, [(name, *cost) for name, cost in self._charged.items()])
        self.balances.clear()
        for written in (self._changed, self._more, self._charged):
            written.clear()
        self._told, self._freed = [], []

    def _rows_aside(self) -> Iterator[tuple[object, ...]]:
        for (session, slot), aside in self._more.items():
            row = self._rows[session]
            assert row is not None
            yield (session, *slot, row.name, *aside.more)
            aside.there, aside.more = total((aside.there, aside.more)), Cost()


def _listed(values: Iterable[str]) -> tuple[str, Sequence[str]]:
    """Marks of a list and its values, some of them several times: so there are few different statements."""
    given = [*values]
    length = 1 << (len(given) - 1).bit_length()
    given += given[-1:] * (length - len(given))
    return ", ".join("?" * length), given
