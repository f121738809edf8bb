"""Ledgers of several servers, in a file and in PostgreSQL: never overspent, told and charged once."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import reroot
from postgres_toys import KILL, Postgres
from reroot import Budget, BudgetExceeded, Cost, InvalidInput
from reroot.serving.database import Unavailable
from reroot.serving.ledger import VERSION, Entry, Ledger, Place, Superseded


@pytest.fixture
def ledgers(db: str) -> Iterator[list[Ledger]]:
    """What three servers have of it."""
    made = [Ledger(db) for _ in range(3)]
    yield made
    for ledger in made:
        ledger.close()


def test_servers_that_begin_at_once_make_one_ledger(db: str) -> None:
    barrier = threading.Barrier(4)

    def begin(_: int) -> bytes:
        barrier.wait()
        ledger = Ledger(db)
        ledger.close()
        return ledger.secret

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(begin, range(4)))) == 1


def test_a_file_that_another_has_just_begun_is_waited_for(tmp_path: Path) -> None:
    """SQLite itself does not, where a file is to become one with a log of its own."""
    file = tmp_path / "db"
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    other.execute("CREATE TABLE some (x)")
    let_go = threading.Timer(0.2, lambda: other.execute("ROLLBACK"))
    let_go.start()
    Ledger(file).close()
    let_go.join()
    other.close()


def test_the_same_is_told_to_all_and_charged_once(ledgers: list[Ledger]) -> None:
    first, second, _ = ledgers
    assert first.secret == second.secret
    first.open("s", "a", {"x": "\u20ac\0"})
    assert second.open("s", "a", {}).terms == {"x": "\u20ac\0"}
    assert second.session("s\0") is None
    place, worst = Place("a", "s", 0, "q"), Cost(tokens=5)
    for ledger in (first, first, second):
        ledger.reserve(place, 0, worst, Budget(tokens=5), None)
    assert first.reserved("a") == worst
    entry = Entry(place, {"said": 1}, Cost(tokens=3), held=Cost(tokens=1), backed=True)
    assert first.write([entry]) == [True]
    assert second.write([Entry(place, {"said": 2}, Cost(tokens=4), backed=True)]) == [False]
    assert second.turn("s", 0) == {"said": 1} == second.turns("s")[0]
    assert (second.spent("a"), second.reserved("a")) == (Cost(tokens=3), Cost(tokens=1))
    with pytest.raises(Superseded):
        second.reserve(place, 0, worst, Budget(tokens=9), None)


def test_nobody_reserves_between_what_another_reads_and_writes(ledgers: list[Ledger]) -> None:
    first, second, _ = ledgers
    limits, worst, begun, done = (
        Budget(tokens=5),
        Cost(tokens=3),
        threading.Event(),
        threading.Event(),
    )
    for session in "st":
        first.open(session, "a", {})
    reserved = first.reserved

    def slowly(name: str) -> Cost:
        found = reserved(name)
        begun.set()
        done.wait(0.3)
        return found

    def other() -> None:
        begun.wait()
        with pytest.raises(BudgetExceeded):
            second.reserve(Place("a", "t", 0), 0, worst, limits, None)
        done.set()

    first.reserved = slowly  # type: ignore[method-assign]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(other)
        first.reserve(Place("a", "s", 0), 0, worst, limits, None)
        waiting.result()
    assert second.reserved("a") == worst


def test_another_question_under_the_same_turn_frees_nothing_that_is_set_aside(
    ledgers: list[Ledger],
) -> None:
    """Two servers answer different questions of one turn: until one is written down, both count."""
    first, second, _ = ledgers
    for session in "st":
        first.open(session, "a", {})
    limits = Budget(tokens=10)
    first.reserve(Place("a", "s", 0, "dear"), 0, Cost(tokens=8), limits, None)
    second.reserve(Place("a", "s", 0, "cheap"), 0, Cost(tokens=1), limits, None)
    with pytest.raises(BudgetExceeded):
        second.reserve(Place("a", "t", 0), 0, Cost(tokens=5), limits, None)
    dear = Entry(Place("a", "s", 0, "dear"), {}, Cost(tokens=8), backed=True)
    assert first.write([dear]) == [True]
    assert (first.spent("a"), first.reserved("a")) == (Cost(tokens=8), Cost())


def test_of_what_is_done_together_all_or_nothing_counts(ledgers: list[Ledger]) -> None:
    """A statement that fails in the middle: nobody is told what was not committed."""
    first, second, _ = ledgers
    with first.together({"a"}):
        first.open("s", "a", {})
        first.reserve(Place("a", "s", 0, "q"), 0, Cost(tokens=3), Budget(tokens=5), None)
        first.reserve(Place("a", "s", 0, "q"), 0, Cost(tokens=5), Budget(tokens=5), None)
        first.reserve(Place("a", "s", 0, "q"), 0, Cost(tokens=2), Budget(tokens=5), None)
        with pytest.raises(BudgetExceeded):
            first.reserve(Place("a", "s", 0, "q"), 1, Cost(tokens=1), Budget(tokens=5), None)
    assert second.reserved("a") == Cost(tokens=5)

    def broken() -> None:
        with first.together({"a"}):
            first.open("t", "a", {})
            with pytest.raises(Unavailable):
                first._db.change("DELETE FROM nothing")

    with pytest.raises(Unavailable):
        broken()
    assert second.session("t") is None
    first.open("t", "a", {})
    assert second.session("t") is not None


def test_what_was_freed_meanwhile_is_not_charged(ledgers: list[Ledger]) -> None:
    """A clock that is wrong, or a round of hours: what another has taken since cannot be overspent."""
    first, second, _ = ledgers
    limits, worst = Budget(tokens=5), Cost(tokens=5)
    for session in "st":
        first.open(session, "a", {})
    place = Place("a", "s", 0)
    first.reserve(place, 0, worst, limits, None)
    second.sweep(now=time.time() + 1e5)
    second.reserve(Place("a", "t", 0), 0, worst, limits, None)
    assert first.write([Entry(place, {}, worst, backed=True)]) == [False]
    assert first.turn("s", 0) is None
    second.sweep()
    assert second.reserved("a") == worst
    second.sweep(now=0)  # the clock goes back by years: what is from the future was never
    assert second.reserved("a") == Cost()
    first.reserve(place, 0, worst, limits, None)
    assert first.write([Entry(place, {}, worst, backed=True)]) == [True]


def test_whatever_is_freed_when_no_key_is_overspent(ledgers: list[Ledger]) -> None:
    """Three servers reserve and write at random, and free at random what others have set aside."""
    limits, sessions = Budget(tokens=97), [f"s{i}" for i in range(12)]
    for session in sessions:
        ledgers[0].open(session, "a", {})

    def work(number: int) -> int:
        ledger, draw, charged = ledgers[number], random.Random(number), 0
        for _ in range(40):
            session = draw.choice(sessions)
            known = ledger.session(session)
            assert known is not None
            place = Place("a", session, known.turns, draw.choice("xyz"))
            worst = draw.randint(1, 9)
            actual = draw.randint(0, worst)
            try:
                ledger.reserve(place, 0, Cost(tokens=worst), limits, None)
                if draw.random() < 0.2:
                    ledger.sweep(now=1e12)
                held = Cost(tokens=draw.randint(0, worst - actual))
                entry = Entry(place, {}, Cost(tokens=actual), held, backed=True)
                charged += actual if ledger.write([entry]) == [True] else 0
            except (BudgetExceeded, Superseded):
                continue
        return charged

    with ThreadPoolExecutor(3) as pool:
        charged = sum(pool.map(work, range(3)))
    assert charged <= 97
    assert ledgers[0].spent("a") == Cost(tokens=charged)
    # how much the last ones hold is chance; once that is free, all that is left can be used, and no more
    ledgers[1].sweep(now=1e12)
    for left in reversed(range(97 - charged)):
        known = ledgers[2].session("s0")
        assert known is not None
        place = Place("a", "s0", known.turns)
        ledgers[2].reserve(place, 0, Cost(tokens=1), limits, None)
        assert ledgers[2].write([Entry(place, {}, Cost(tokens=1), backed=True)]) == [True]
        assert ledgers[0].spent("a") == Cost(tokens=97 - left)
    known = ledgers[0].session("s0")
    assert known is not None
    with pytest.raises(BudgetExceeded):
        ledgers[0].reserve(Place("a", "s0", known.turns), 0, Cost(tokens=1), limits, None)


def test_a_ledger_of_another_version_or_kind_is_refused_by_name(db: str) -> None:
    if not db.startswith("postgresql"):
        Path(db).touch()
    with pytest.raises(InvalidInput, match="holds no ledger"):
        Ledger(db, make=False)
    ledger = Ledger(db)
    ledger._db.change("UPDATE reroot_ledger SET version = ?", VERSION + 1)
    with pytest.raises(InvalidInput, match=f"version {VERSION + 1}.* keeps version {VERSION}"):
        Ledger(db)
    ledger._db.change("DROP TABLE reroot_ledger")
    ledger.close()
    with pytest.raises(InvalidInput, match=r"is no ledger.*reroot_accounts"):
        Ledger(db)


@pytest.mark.slow(1)
@pytest.mark.xdist_group("postgres")
def test_a_connection_that_was_lost_while_nothing_went_on_is_not_noticed(running: Postgres) -> None:
    url = running.database("idle")
    first, second = Ledger(url), Ledger(url)
    second._db.rows(KILL)
    assert first.spent("a") == Cost()
    second._db.rows(KILL)
    first.open("s", "a", {})
    second._db.rows(KILL)
    reserved = first.reserved
    first.reserved = lambda name: (second._db.rows(KILL), reserved(name))[1]  # type: ignore[method-assign]
    with pytest.raises(
        Unavailable
    ):  # in the middle nothing is tried again: what went before it is lost
        first.reserve(Place("a", "s", 0), 0, Cost(tokens=1), Budget(tokens=1), None)
    assert second.reserved("a") == Cost()
    first.reserved = reserved  # type: ignore[method-assign]

    def cut() -> None:
        with first.together({"a"}):
            second._db.rows(KILL)
            for session in "tu":
                with pytest.raises(Unavailable):
                    first.open(session, "a", {})

    with pytest.raises(Unavailable):
        cut()
    assert (second.session("t"), second.session("u")) == (None, None)
    assert second.session("s") is not None
    for ledger in (first, second):
        ledger.close()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:secret@127.0.0.1:1/x",
        "mysql://u:secret@h/x",
        "postgresql://u:secret@[h/x",
        "postgresql://u:a@secret@h/x",
        "postgresql://u:1/secret@h/x",
    ],
)
def test_a_wrong_address_is_refused_and_its_password_not_shown(url: str) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(InvalidInput, match=r"accounts .*postgresql://") as caught:
        Ledger(url)
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_without_psycopg_the_group_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(reroot.MissingDependency, match=r"reroot\[postgres\]"):
        Ledger("postgresql://h/x")
