"""What keys have spent, and what their sessions were told: one database for all servers of it.

Before a question is asked its worst case is set aside, and seen by every server; when it is answered,
the answer is written down and charged in one transaction. So whatever is killed at whatever moment,
what was charged is what is written down, and what is written down is given again, not drawn again.
What a killed server had set aside is free again when its client asks once more, or its session has
been idle for ``IDLE`` seconds; a turn whose worst case is no longer set aside when it is answered is not
written down, so that no clock and no freed reservation can overspend a key.
"""

from __future__ import annotations

import json
import operator
import secrets
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import AccountExceeded, InvalidInput
from ..types import CURRENCIES, Budget, Cost
from ..types.account import Prices, amount, left, limited, total
from .book import NAMES, Aside, Book, Slot
from .database import Database, Unavailable, database

IDLE = 3600.0
"""Seconds after which what an idle session has set aside is free again."""

VERSION = 1
"""Of the tables; a ledger of another one is refused."""

_COLUMNS = ", ".join(f'"{c}" BIGINT NOT NULL DEFAULT 0' for c in CURRENCIES)
_SUMS = ", ".join(f'CAST(COALESCE(SUM("{c}"), 0) AS BIGINT)' for c in CURRENCIES)
# read by SQLite and PostgreSQL alike
_TABLES = {
    "reroot_ledger": "one INTEGER PRIMARY KEY CHECK (one = 1), version INTEGER NOT NULL, secret TEXT NOT NULL",
    "reroot_accounts": f"name TEXT PRIMARY KEY, {_COLUMNS}",
    "reroot_sessions": "id TEXT PRIMARY KEY, name TEXT NOT NULL, terms TEXT NOT NULL, "
    "turns INTEGER NOT NULL DEFAULT 0, closed TEXT, at DOUBLE PRECISION NOT NULL",
    "reroot_turns": "session TEXT NOT NULL, number INTEGER NOT NULL, told TEXT NOT NULL, "
    "PRIMARY KEY (session, number)",
    "reroot_reservations": "session TEXT NOT NULL, turn INTEGER NOT NULL, asked TEXT NOT NULL, "
    f"part INTEGER NOT NULL, name TEXT NOT NULL, {_COLUMNS}, PRIMARY KEY (session, turn, asked, part)",
}
_INDEX = "CREATE INDEX reroot_reserved ON reroot_reservations (name)"


PRUNED = {"pruned": True}
"""What stands for the end of a session that was pruned."""

OPEN = -1
"""The part of a turn that is what was open before it."""


class Superseded(Exception):
    """Another server, or an earlier try, has answered this turn: what it has written down counts."""


@dataclass(frozen=True, slots=True)
class Place:
    """A turn of a session of a key.

    ``asked``: a digest of what is asked in it. Of two that differ one is answered, but both are under
    way until then.
    """

    name: str
    session: str
    turn: int
    asked: str = ""


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

    @property
    def pruned(self) -> bool:
        """Whether what it was told is no longer kept (``pruning``)."""
        return self.closed == PRUNED


@dataclass(frozen=True, slots=True)
class Entry:
    """A turn that was answered: what is written down and charged, together.

    ``held``: the worst case of what is still open behind it, which stays set aside. ``backed``: it counts
    only if what it charges and holds was set aside and still is.
    """

    place: Place
    told: dict[str, Any]
    charged: Cost
    held: Cost = Cost()
    closed: dict[str, Any] | None = None
    backed: bool = False


class Ledger:
    """One connection to the accounts; it serves the thread that made it, or one after the other.

    Every method may raise ``Unavailable``: the database cannot be reached, is locked or full. Then nothing
    was done, or, if it was lost in that very moment, all of it: who asks the same again is told which.

    Args:
        db: a file of SQLite, or ``postgresql://USER@HOST:PORT/DATABASE``.
        make: make it if it is not there.

    Raises:
        InvalidInput: it cannot be reached, is something else, or of another version of reroot.
        MissingDependency: psycopg is not installed.
    """

    def __init__(self, db: str | Path, *, make: bool = True) -> None:
        self._book: Book | None = None  # of the transaction that is open
        try:
            self._db = database(db)
            try:
                with self._db.transaction([""]):
                    self.secret = self._found(make)
            except BaseException:
                self._db.close()
                raise
        except Unavailable as error:
            raise InvalidInput(f"can't keep accounts in {error.cause}") from None

    def _found(self, make: bool) -> bytes:
        """The secret of the ledger that is there, or is made."""
        shown, there = self._db.shown, self._db.tables()
        if "reroot_ledger" in there:
            ((version, secret),) = self._db.rows("SELECT version, secret FROM reroot_ledger")
            if version != VERSION:
                raise InvalidInput(
                    f"{shown} is a ledger of version {version}; this reroot keeps version {VERSION}"
                )
            return bytes.fromhex(secret)
        strange = there & _TABLES.keys() if self._db.shared else there
        if strange:
            raise InvalidInput(
                f"{shown} is no ledger of 'reroot serve', or one from before they had versions: "
                f"it has tables {sorted(strange)[:5]}"
            )
        if not make:
            raise InvalidInput(f"{shown} holds no ledger: 'reroot serve' makes one")
        for name, columns in _TABLES.items():
            self._db.change(f"CREATE TABLE {name} ({columns})")
        self._db.change(_INDEX)
        secret = secrets.token_hex(32)
        self._db.change("INSERT INTO reroot_ledger VALUES (1, ?, ?)", VERSION, secret)
        return bytes.fromhex(secret)

    @property
    def database(self) -> Database:
        """Its connection."""
        return self._db

    def close(self) -> None:
        self._db.close()

    def tidy_beside(self) -> None:
        """See ``Database.tidy_beside``: for servers, whose transactions are many."""
        self._db.tidy_beside()

    @contextmanager
    def together(self, names: Collection[str], sessions: Iterable[str] = ()) -> Iterator[None]:
        """All that is opened, reserved and written inside, for these keys, is one transaction; what is refused
        inside leaves the rest.

        Inside another one it is a part of that.

        Args:
            names: of the keys.
            sessions: of theirs, to be read at once.
        """
        if self._book is not None:
            yield
            return
        with self._db.transaction(names):
            book = self._book = Book(self._db)
            try:
                book.read(sessions)
                yield
                book.write_down()
            finally:
                self._book = None

    # ---- accounts --------------------------------------------------------------------------------

    def spent(self, name: str) -> Cost:
        """What a key was charged."""
        found = self._db.rows(f"SELECT {NAMES} FROM reroot_accounts WHERE name = ?", name)
        return Cost(*(found[0] if found else ()))

    def reserved(self, name: str) -> Cost:
        """What is set aside for a key."""
        sql = f"SELECT {_SUMS} FROM reroot_reservations WHERE name = ?"
        return Cost(*self._db.rows(sql, name)[0])

    def reserve(
        self, place: Place, part: int, worst: Cost, limits: Budget, prices: Prices | None
    ) -> None:
        """Set ``worst`` aside for a question, all of it or nothing; a second time it is the same.

        Args:
            place: the turn.
            part: which question of the turn it is; ``OPEN``: all that was open before.
            worst: what it may cost.
            limits: of the key.
            prices: of the generator.

        Raises:
            AccountExceeded: it does not fit; names the first currency that is short.
            Superseded: the turn is answered already, or the session has ended.
        """
        if (book := self._book) is None:
            with self.together([place.name], [place.session]):
                self.reserve(place, part, worst, limits, prices)
            return
        row = book.session(place.session)
        if row is None or row.turns != place.turn or row.closed is not None:
            raise Superseded
        book.touch(place.session, row)
        slot = (place.turn, "" if part == OPEN else place.asked, part)
        known, more = book.aside(place.session).get(slot), worst
        if known is not None:
            # where the key has refused others before it, it may be another question of the same turn
            more = Cost(*(max(0, x) for x in worst - known.there - known.more))
            if not any(more):
                return
        spent, held = self.balance(place.name)
        for currency in limited(limits):
            free = left(limits, currency, prices, spent, held)
            needed = amount(more, currency, prices)
            if free is not None and needed > free:
                told = (x if isinstance(x, int) else float(x) for x in (needed, free))
                raise AccountExceeded(currency, *told)
        if any(more):
            book.set_aside(place.session, slot, more)
            book.balances[place.name] = spent, held + more

    def balance(self, name: str) -> tuple[Cost, Cost]:
        """What a key has spent, and has set aside; ``together`` with what was reserved before."""
        book = self._book
        if book is None:
            return self.spent(name), self.reserved(name)
        if name not in book.balances:
            book.balances[name] = self.spent(name), self.reserved(name)
        return book.balances[name]

    def write(self, entries: Sequence[Entry]) -> list[bool]:
        """Write turns down and charge them; which of them.

        The others had been answered already, or what they had set aside was freed before they were.
        """
        from .jsontext import json_of  # which needs what servers alone have

        places = [entry.place for entry in entries]
        with self.together({p.name for p in places}, [p.session for p in places]):
            book = self._book
            assert book is not None
            done = [_write(book, entry, json_of(entry.told).decode()) for entry in entries]
            book.write_down()
        return done

    def sweep(self, now: float | None = None) -> None:
        """Free what sessions have set aside that are idle, or whose time is none: a clock was wrong."""
        now = time.time() if now is None else now
        idle = "FROM reroot_sessions WHERE at < ? OR at > ?"
        times = (now - IDLE, now + IDLE)
        names = self._db.rows(
            f"SELECT DISTINCT name FROM reroot_reservations WHERE session IN (SELECT id {idle})",
            *times,
        )
        if names:
            with self._db.transaction({name for (name,) in names}):
                self._db.change(
                    f"DELETE FROM reroot_reservations WHERE session IN (SELECT id {idle}) "
                    f"AND name IN ({', '.join('?' * len(names))})",
                    *(*times, *(name for (name,) in names)),
                )

    # ---- sessions --------------------------------------------------------------------------------

    def open(self, session: str, name: str, terms: dict[str, Any]) -> Written:
        """Write a session down; what is there, if it is there already."""
        with self.together([name], [session]):
            known = self.session(session)
            if known is not None:
                return known
            assert self._book is not None
            self._book.open(session, name, json.dumps(terms))
        return Written(name, terms, 0, None)

    def session(self, session: str) -> Written | None:
        """A session, if there is one of that name."""
        book = self._book or Book(self._db)
        row = book.session(session)
        if row is None:
            return None
        closed = None if row.closed is None else json.loads(row.closed)
        return Written(row.name, json.loads(row.terms), row.turns, closed)

    def turn(self, session: str, number: int) -> dict[str, Any] | None:
        """What a turn was told, if it is answered."""
        found = self._db.rows(
            "SELECT told FROM reroot_turns WHERE session = ? AND number = ?", session, number
        )
        return json.loads(found[0][0]) if found else None

    def turns(self, session: str) -> list[dict[str, Any]]:
        """All turns of a session, in order."""
        found = self._db.rows(
            "SELECT told FROM reroot_turns WHERE session = ? ORDER BY number", session
        )
        return [json.loads(told) for (told,) in found]


def _write(book: Book, entry: Entry, told: str) -> bool:
    """Write one down, if it is the first and what it costs is set aside."""
    place = entry.place
    row = book.session(place.session)
    if row is None or row.turns != place.turn or row.closed is not None:
        return False
    if entry.backed and not _backed(entry, book.aside(place.session)):
        return False
    closed = None if entry.closed is None else json.dumps(entry.closed)
    book.turn(place.session, row, told, closed)
    if any(entry.held):
        book.set_aside(place.session, (place.turn + 1, "", OPEN), entry.held)
    if any(entry.charged):
        book.charge(place.name, entry.charged)
    return True


def _backed(entry: Entry, slots: Mapping[Slot, Aside]) -> bool:
    """Whether all that a turn charges, and leaves open, is still set aside."""
    turn, asked = entry.place.turn, (entry.place.asked, "")
    held = [slots[slot] for slot in slots if slot[0] == turn and slot[1] in asked]
    found = total(cost for aside in held for cost in (aside.there, aside.more))
    return not any(map(operator.gt, total((entry.charged, entry.held)), found))
