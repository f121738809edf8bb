"""What the SQL of a ledger runs on: a SQLite file, or a database of PostgreSQL.

Both take the same statements, with ``?`` for values. Transactions of the same names come one after the
other, from whichever server: in SQLite all do, in PostgreSQL those that lock a name that another has locked.
"""

from __future__ import annotations

import hashlib
import logging
import re
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import InvalidInput, need

if TYPE_CHECKING:
    import psycopg

log = logging.getLogger("reroot.serving")
_T = TypeVar("_T")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_WAIT = 30
"""Seconds for which one waits for a lock of another, and for the network."""
_EVERY, _MOST_PAGES = 0.25, 16_000
"""Seconds between checkpoints of SQLite's log, and its pages from which on a transaction does it."""
_PAUSE = 1.0
"""Seconds after which a server of databases that could not be reached is tried again."""


class Unavailable(Exception):
    """The accounts cannot be reached, or take nothing, now: what was asked may be asked again.

    It answers a request; it is none of the errors that are told a learner, and are written down.

    Attributes:
        cause: where, and what is the matter, for who runs the server.
    """

    def __init__(self, message: str, cause: str = "") -> None:
        super().__init__(message)
        self.cause = cause


def database(where: str | Path) -> Database:
    """A connection to a file, or to ``postgresql://USER@HOST:PORT/DATABASE``.

    Raises:
        InvalidInput: it is neither.
        MissingDependency: psycopg is not installed.
        Unavailable: it cannot be reached.
    """
    scheme = _SCHEME.match(str(where))
    if scheme is None:
        return Sqlite(where)
    if scheme[1] in ("postgresql", "postgres"):
        need("postgres", "psycopg")
        return Postgres(str(where))
    raise InvalidInput(
        "accounts are kept in a file of SQLite or in postgresql://USER@HOST:PORT/DATABASE, "
        f"got {scheme[1]}://…"
    )


class Database(ABC):
    """One connection; it serves the thread that made it, or one after the other.

    Attributes:
        shown: where it leads, without names of users and passwords.
        shared: whether other programs may have tables of their own there.
    """

    shown: str
    shared: bool
    _errors: type[Exception]

    def __init__(self) -> None:
        self._inside = False
        self._works: bool | None = None  # None: it was not tried yet
        self._broken: Unavailable | None = None  # what has failed in the transaction that is open

    @abstractmethod
    def tables(self) -> set[str]:
        """Names of the tables that are there."""

    @abstractmethod
    def close(self) -> None: ...

    def tidy_beside(self) -> None:  # noqa: B027
        """Have another thread do, from now on, what a transaction would have to do now and then."""

    @abstractmethod
    def _execute(self, sql: str, values: tuple[Any, ...]) -> Any:
        """The cursor after one statement."""

    @abstractmethod
    def _execute_all(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """One statement for each of some rows of values, in a transaction."""

    @abstractmethod
    def _begin(self, names: Iterable[str]) -> None: ...

    @abstractmethod
    def _undo(self) -> None:
        """Whatever has happened: no transaction is open."""

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """What a statement finds (``Unavailable``)."""
        return self._asked(lambda: self._execute(sql, values).fetchall())

    def change(self, sql: str, *values: object) -> int:
        """How many rows a statement has changed (``Unavailable``)."""
        return self._asked(lambda: self._execute(sql, values).rowcount)

    def change_all(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Change what a statement says for each of some rows of values, in a transaction (``Unavailable``)."""
        if rows:
            self._asked(lambda: self._execute_all(sql, rows))

    @contextmanager
    def transaction(self, names: Iterable[str]) -> Iterator[None]:
        """All of it or nothing, one after the other with whoever names one of ``names``.

        Inside another one it is a part of that. If it ends by ``Unavailable`` all of it may have happened all
        the same, and is to be looked for.
        """
        if self._inside:
            yield
            return
        self._broken = None
        try:
            self._asked(lambda: self._begin(names))
            self._inside = True
            yield
            self.change("COMMIT")
        except BaseException:
            self._undo()
            raise
        finally:
            self._inside = False

    def _asked(self, ask: Callable[[], _T]) -> _T:
        """What the database says (``Unavailable``)."""
        if self._inside and self._broken is not None:
            # its transaction is gone, so what comes after it would count by itself
            raise self._broken
        try:
            found = ask()
        except self._errors as error:
            cause = f"{self.shown}: {self._told(error)}"
            if self._works:
                self._works = False
                log.error("can't keep accounts in %s", cause)
            self._broken = Unavailable("the accounts can't be reached now; try again", cause)
            raise self._broken from None
        if self._works is not True:
            if self._works is False:
                log.warning("accounts are kept in %s again", self.shown)
            self._works = True
        return found

    def _told(self, error: Exception) -> str:
        return str(error)


class Sqlite(Database):
    """A file, which servers of one machine may share; it is made if it is not there."""

    shared, _errors = False, sqlite3.Error

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.shown = str(path)
        self._db = self._asked(lambda: self._connected(path))
        self._tidying: _Checkpoints | None = None

    def _connected(self, path: str | Path) -> sqlite3.Connection:
        db = sqlite3.connect(path, timeout=_WAIT, isolation_level=None, check_same_thread=False)
        until = time.monotonic() + _WAIT
        while True:
            try:  # who begins at the same moment is not waited for, as it is by other statements
                db.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    db.close()
                    raise
                time.sleep(0.01)
        db.execute("PRAGMA synchronous = NORMAL")
        return db

    def tables(self) -> set[str]:
        return {row[0] for row in self.rows("SELECT name FROM sqlite_master WHERE type = 'table'")}

    def close(self) -> None:
        if self._tidying is not None:
            self._tidying.end()
        self._db.close()

    def tidy_beside(self) -> None:
        """Bring SQLite's log into the file beside the transactions, which do it only where it grows all the same."""
        self._tidying = self._asked(lambda: _Checkpoints(self._connected(self.shown)))
        self.rows(f"PRAGMA wal_autocheckpoint = {_MOST_PAGES}")

    def _execute(self, sql: str, values: tuple[Any, ...]) -> sqlite3.Cursor:
        return self._db.execute(sql, values)

    def _execute_all(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        self._db.executemany(sql, rows)

    def _begin(self, names: Iterable[str]) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def _undo(self) -> None:
        # a full disk ends a transaction by itself
        with suppress(sqlite3.Error):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")


class _Checkpoints:
    """A thread that brings the log of a file into it, which waits for the disk as no request should.

    Args:
        db: a connection of its own, which it ends.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db, self._over = db, threading.Event()
        self._thread = threading.Thread(target=self._work, name="checkpoints", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while not self._over.wait(_EVERY):
            # where it fails a transaction fails, too, and says so
            with suppress(sqlite3.Error):
                self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        self._db.close()

    def end(self) -> None:
        self._over.set()
        self._thread.join()


class Postgres(Database):
    """A database of PostgreSQL, for servers of any machines. A connection that was lost is made anew.

    Args:
        url: as libpq has them; a password is better kept in ``~/.pgpass`` or ``PGPASSWORD``, as
            others on the machine see the arguments of programs.
    """

    shared = True

    def __init__(self, url: str) -> None:
        import psycopg
        from psycopg.conninfo import conninfo_to_dict

        super().__init__()
        self._errors = psycopg.Error
        told: dict[str, Any] = {}
        with suppress(psycopg.Error):
            told = conninfo_to_dict(url)
        # an "@" or "/" of a password that is written as such puts the rest of it into these
        strange = any("@" in str(told.get(name, ""))[1:] for name in ("host", "port", "dbname"))
        if strange or not told:  # and what is wrong may hold the password
            raise InvalidInput(
                "accounts are to be kept in postgresql://USER@HOST:PORT/DATABASE; what was given is no such URL "
                "('@', '/' and '%' of a password are written %40, %2F and %25)"
            )
        self._secrets = [str(told[name]) for name in ("password", "sslpassword") if told.get(name)]
        host, port = told.get("host") or told.get("hostaddr") or "", told.get("port")
        self.shown = f"postgresql://{host}{f':{port}' if port else ''}/{told.get('dbname', '')}"
        limits = {"connect_timeout": 5, "tcp_user_timeout": 1000 * _WAIT, "keepalives_idle": 10}
        self._told_all = {"application_name": "reroot", **limits, **told, "client_encoding": "utf8"}
        self._db: psycopg.Connection[tuple[Any, ...]] | None = None
        self._retried = -_PAUSE
        self._asked(self._connected)

    def tables(self) -> set[str]:
        sql = "SELECT tablename FROM pg_tables WHERE schemaname = ANY (current_schemas(false))"
        return {row[0] for row in self.rows(sql)}

    def close(self) -> None:
        if self._db is not None:
            self._db.close()

    def _connected(self) -> psycopg.Connection[tuple[Any, ...]]:
        import psycopg

        if self._db is None or self._db.closed:
            # a server that does not answer must not take the time of every request
            if time.monotonic() < self._retried + _PAUSE:
                raise psycopg.OperationalError("it could not be reached a moment ago")
            try:
                self._db = psycopg.connect(**self._told_all, autocommit=True)
                # who is frozen in a transaction must not keep its key from all others
                for name in ("lock_timeout", "idle_in_transaction_session_timeout"):
                    self._db.execute(f"SET {name} = '{_WAIT}s'".encode())
            except psycopg.Error:
                self._retried = time.monotonic()
                raise
        return self._db

    def _execute(self, sql: str, values: tuple[Any, ...]) -> psycopg.Cursor[tuple[Any, ...]]:
        import psycopg

        text, once_more = sql.replace("?", "%s").encode(), not self._inside
        while True:
            db = self._connected()
            try:
                return db.execute(text, values)
            except psycopg.OperationalError:
                # nothing has been done yet where no transaction is open
                if not (db.closed and once_more):
                    raise
                once_more = False

    def _execute_all(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        with self._connected().cursor() as cursor:  # they are sent at once
            cursor.executemany(sql.replace("?", "%s").encode(), rows)

    def _begin(self, names: Iterable[str]) -> None:
        self._execute("BEGIN", ())
        locks = sorted({_number(name) for name in names})
        self._inside = True
        self._execute(
            "SELECT pg_advisory_xact_lock(lock) FROM unnest(?::bigint[]) AS lock", (locks,)
        )

    def _undo(self) -> None:
        if self._db is not None and not self._db.closed:
            with suppress(self._errors):
                self._db.execute("ROLLBACK")
                return
            self._db.close()

    def _told(self, error: Exception) -> str:
        text = " ".join(str(error).split())
        for secret in self._secrets:
            text = text.replace(secret, "…")
        return text


def _number(name: str) -> int:
    """What PostgreSQL locks for a name: 64 bits with a sign."""
    digest = hashlib.sha256(f"reroot ledger\x1f{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
