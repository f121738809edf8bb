"""What keys have spent, and what their sessions were told: one SQLite file for all servers of a machine.

Before a question is asked its worst case is set aside, and seen by every server; when it is answered,
the answer is written down and charged in one transaction. So whatever is killed at whatever moment,
what was charged is what is written down, and what is written down is given again, not drawn again.
What a killed server had set aside is free again when its client asks once more, or its session has
been idle for ``IDLE`` seconds.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BudgetExceeded, InvalidInput
from ..types import CURRENCIES, Budget, Cost
from ..types.account import Prices, amount, left

IDLE = 3600.0
"""Seconds after which what an idle session has set aside is free again."""

_COLUMNS = ", ".join(f'"{c}" INTEGER NOT NULL DEFAULT 0' for c in CURRENCIES)
_NAMES = ", ".join(f'"{c}"' for c in CURRENCIES)
_SUMS = ", ".join(f'COALESCE(SUM("{c}"), 0)' for c in CURRENCIES)
_ADDED = ", ".join(f'"{c}" = "{c}" + ?' for c in CURRENCIES)
_MARKS = ", ".join("?" * len(CURRENCIES))
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS secret (value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS accounts (name TEXT PRIMARY KEY, {_COLUMNS}) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sessions (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, terms TEXT NOT NULL,
    turns INTEGER NOT NULL DEFAULT 0, closed TEXT, at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS turns (
    session TEXT NOT NULL, number INTEGER NOT NULL, told TEXT NOT NULL, PRIMARY KEY (session, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reservations (
    session TEXT NOT NULL, turn INTEGER NOT NULL, part INTEGER NOT NULL, name TEXT NOT NULL, {_COLUMNS},
    PRIMARY KEY (session, turn, part)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS reserved ON reservations (name);
"""


_OPEN = -1
"""The part under which a turn leaves what is still open."""


class Superseded(Exception):
    """Another server, or an earlier try, has answered this turn: what it has written down counts."""


@dataclass(frozen=True, slots=True)
class Place:
    """A turn of a session of a key."""

    name: str
    session: str
    turn: int


@dataclass(frozen=True, slots=True)
class Written:
    """A session as it is written down.

    Attributes:
        name: its key.
        terms: of what it is.
        turns: how many are answered.
        closed: what was told when it was closed, if it was.
    """

    name: str
    terms: dict[str, Any]
    turns: int
    closed: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Entry:
    """A turn that was answered: what is written down and charged, together.

    ``held``: the worst case of what is still open behind it, which stays set aside.
    """

    place: Place
    told: dict[str, Any]
    charged: Cost
    held: Cost = Cost()
    closed: dict[str, Any] | None = None


class Ledger:
    """One connection to the file; it serves the thread that made it, or one after the other.

    Args:
        path: the file, made if it is not there.

    Raises:
        InvalidInput: it is no such file.
    """

    def __init__(self, path: str | Path) -> None:
        # of accounts, while all others are kept from changing them
        self._balances: dict[str, tuple[Cost, Cost]] | None = None
        try:
            self._db = sqlite3.connect(
                path, timeout=30.0, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.executescript(_SCHEMA)
            with self._transaction():
                row = self._db.execute("SELECT value FROM secret").fetchone()
                if row is None:
                    row = (secrets.token_bytes(32),)
                    self._db.execute("INSERT INTO secret VALUES (?)", row)
        except sqlite3.Error as error:
            raise InvalidInput(f"can't keep accounts in {path}: {error}") from None
        self.secret: bytes = row[0]

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def together(self) -> Iterator[None]:
        """All that is opened and reserved inside is one transaction; what fails inside leaves the rest."""
        with self._transaction():
            self._balances = {}
            try:
                yield
            finally:
                self._balances = None

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        if self._balances is not None:
            yield
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # ---- accounts --------------------------------------------------------------------------------

    def spent(self, name: str) -> Cost:
        """What a key was charged."""
        found = self._db.execute(f"SELECT {_NAMES} FROM accounts WHERE name = ?", (name,))
        return Cost(*(found.fetchone() or ()))

    def reserved(self, name: str) -> Cost:
        """What is set aside for a key."""
        found = self._db.execute(f"SELECT {_SUMS} FROM reservations WHERE name = ?", (name,))
        return Cost(*found.fetchone())

    def reserve(
        self, place: Place, part: int, worst: Cost, limits: Budget, prices: Prices | None
    ) -> None:
        """Set ``worst`` aside for a question, all of it or nothing; a second time it is the same.

        Args:
            place: the turn.
            part: which question of the turn it is.
            worst: what it may cost.
            limits: of the key.
            prices: of the generator.

        Raises:
            BudgetExceeded: it does not fit; names the first currency that is short.
            Superseded: the turn is answered already.
        """
        with self._transaction():
            self._check(place)
            where = (place.session, place.turn, part)
            before = self._db.execute(
                "DELETE FROM reservations WHERE session = ? AND turn = ? AND part = ?", where
            )
            spent, held = self._balance(place.name, before.rowcount == 0)
            for currency in limits.to_dict():
                free = left(limits, currency, prices, spent, held)
                needed = amount(worst, currency, prices)
                if free is not None and needed > free:
                    told = (x if isinstance(x, int) else float(x) for x in (needed, free))
                    raise BudgetExceeded(currency, *told)
            self._set_aside(place, part, worst)
            if self._balances is not None:
                self._balances[place.name] = spent, held + worst

    def _balance(self, name: str, known: bool) -> tuple[Cost, Cost]:
        """What a key has spent, and has set aside."""
        found = self._balances.get(name) if known and self._balances is not None else None
        return found or (self.spent(name), self.reserved(name))

    def _set_aside(self, place: Place, part: int, worst: Cost) -> None:
        self._db.execute(
            f"INSERT INTO reservations (session, turn, part, name, {_NAMES}) "
            f"VALUES (?, ?, ?, ?, {_MARKS})",
            (place.session, place.turn, part, place.name, *worst),
        )

    def _check(self, place: Place) -> None:
        found = self._db.execute("SELECT turns FROM sessions WHERE id = ?", (place.session,))
        row = found.fetchone()
        if row is None or row[0] != place.turn:
            raise Superseded

    def write(self, entries: list[Entry]) -> list[bool]:
        """Write turns down and charge them; which of them: the others had been answered already."""
        done: list[bool] = []
        charged: dict[str, Cost] = {}
        with self._transaction():
            for entry in entries:
                place = entry.place
                closed = None if entry.closed is None else json.dumps(entry.closed)
                changed = self._db.execute(
                    "UPDATE sessions SET turns = turns + 1, at = ?, closed = ? "
                    "WHERE id = ? AND turns = ? AND closed IS NULL",
                    (time.time(), closed, place.session, place.turn),
                )
                done.append(changed.rowcount == 1)
                if not done[-1]:
                    continue
                row = (place.session, place.turn, json.dumps(entry.told))
                self._db.execute("INSERT INTO turns VALUES (?, ?, ?)", row)
                charged[place.name] = charged.get(place.name, Cost()) + entry.charged
                where = (place.session, place.turn)
                self._db.execute("DELETE FROM reservations WHERE session = ? AND turn <= ?", where)
                if any(entry.held):
                    self._set_aside(place, _OPEN, entry.held)
            for name, charge in sorted(charged.items()):
                self._db.execute("INSERT OR IGNORE INTO accounts (name) VALUES (?)", (name,))
                self._db.execute(f"UPDATE accounts SET {_ADDED} WHERE name = ?", (*charge, name))
        return done

    def sweep(self, now: float | None = None) -> None:
        """Free what sessions have set aside that are idle."""
        before = (time.time() if now is None else now) - IDLE
        with self._transaction():
            self._db.execute(
                "DELETE FROM reservations WHERE session IN (SELECT id FROM sessions WHERE at < ?)",
                (before,),
            )

    # ---- sessions --------------------------------------------------------------------------------

    def open(self, session: str, name: str, terms: dict[str, Any]) -> Written:
        """Write a session down; what is there, if it is there already."""
        with self._transaction():
            known = self.session(session)
            if known is not None:
                return known
            self._db.execute(
                "INSERT INTO sessions (id, name, terms, at) VALUES (?, ?, ?, ?)",
                (session, name, json.dumps(terms), time.time()),
            )
        return Written(name, terms, 0, None)

    def session(self, session: str) -> Written | None:
        """A session, if there is one of that name."""
        found = self._db.execute(
            "SELECT name, terms, turns, closed FROM sessions WHERE id = ?", (session,)
        )
        row = found.fetchone()
        if row is None:
            return None
        closed = None if row[3] is None else json.loads(row[3])
        return Written(row[0], json.loads(row[1]), row[2], closed)

    def turn(self, session: str, number: int) -> dict[str, Any] | None:
        """What a turn was told, if it is answered."""
        found = self._db.execute(
            "SELECT told FROM turns WHERE session = ? AND number = ?", (session, number)
        )
        row = found.fetchone()
        return None if row is None else json.loads(row[0])

    def turns(self, session: str) -> list[dict[str, Any]]:
        """All turns of a session, in order."""
        found = self._db.execute(
            "SELECT told FROM turns WHERE session = ? ORDER BY number", (session,)
        )
        return [json.loads(row[0]) for row in found.fetchall()]
