"""Rounds of a desk: with a short pass one transaction, whose end is the first that anybody sees of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reroot import Budget, BudgetExceeded, Contract, Cost, Query
from reroot.access.session import Ask
from reroot.families import HiddenPath
from reroot.serving.database import Unavailable
from reroot.serving.desk import Desk, Pace
from reroot.serving.jsontext import json_of
from reroot.serving.keys import Key
from reroot.serving.ledger import Entry, Ledger, Place
from reroot.serving.sessions import Sessions
from reroot.serving.tasks import Open, TakeTurn
from serving_toys import Held, catalogue

GRANTS = Contract.parse("root/sample")


def key(rollouts: int) -> Key:
    return Key("a", "0" * 64, GRANTS, Budget(rollouts=rollouts))


def desk_of(family: HiddenPath, db: str) -> Desk:
    return Desk(Sessions(catalogue(family, [family.problem(id="p0")]), Ledger(db)))


def opened(desk: Desk, key: Key, session: str) -> None:
    terms = {"problem": "p0", "contract": str(key.grants), "budget": {}, "seed": 1}
    terms |= {"learner": "x", "key": "p0"}
    desk.submit(Open(key, session=session, terms=terms)).result(30)


def turn(desk: Desk, key: Key, session: str, number: int) -> Future[dict[str, Any]]:
    return desk.submit(TakeTurn(key, session=session, number=number, messages=[Ask((Query(),))]))


@pytest.fixture
def two(db: str) -> Iterator[tuple[Held, list[Desk], Ledger]]:
    """The generator of the first of two desks, both, and a ledger to look into."""
    family = Held()
    desks, ledger = [desk_of(family, db), desk_of(HiddenPath(3, 4, 0.6, seed=1), db)], Ledger(db)
    yield family, desks, ledger
    family.may.set()
    for desk in desks:
        desk.drain()
    ledger.close()


def test_nobody_is_answered_in_the_middle_of_a_round_that_is_one_transaction(
    two: tuple[Held, list[Desk], Ledger],
) -> None:
    """The pass before was short. What this one may cost is nowhere to be seen, and yet not given to another."""
    family, (one, other), ledger = two
    has = key(rollouts=2)
    for desk, session in zip((one, other), "st", strict=True):
        opened(desk, has, session)
    turn(one, has, "s", 0).result(30)
    family.hold()
    mine = turn(one, has, "s", 1)
    assert family.asked.wait(30)
    theirs = turn(other, has, "t", 0)
    with pytest.raises(TimeoutError):
        theirs.result(0.2)
    assert (ledger.spent("a").rollouts, ledger.reserved("a")) == (1, Cost())
    family.may.set()
    assert mine.result(30)["answers"][0]["error"] is None
    assert theirs.result(30)["answers"][0]["error"]["type"] == BudgetExceeded.__name__
    assert (ledger.spent("a").rollouts, ledger.reserved("a")) == (2, Cost())


def test_while_a_pass_of_unknown_length_goes_on_others_are_answered(
    two: tuple[Held, list[Desk], Ledger],
) -> None:
    """The first pass of a server: what it may cost is set aside for all to see."""
    family, (one, other), ledger = two
    has = key(rollouts=2)
    for desk, session in zip((one, other), "st", strict=True):
        opened(desk, has, session)
    family.hold()
    mine = turn(one, has, "s", 0)
    assert family.asked.wait(30)
    assert ledger.reserved("a").rollouts == 1
    assert turn(other, has, "t", 0).result(30)["answers"][0]["error"] is None
    assert turn(other, has, "t", 1).result(30)["answers"][0]["error"] is not None
    family.may.set()
    assert mine.result(30)["answers"][0]["error"] is None
    assert (ledger.spent("a").rollouts, ledger.reserved("a")) == (2, Cost())


KILLED = """
import os, signal, sys
from serving_toys import Held
from test_serving_rounds import desk_of, key, opened, turn

class Ends(Held):
    passes = 0

    def answer(self, requests):
        found = super().answer(requests)
        self.passes += 1
        if self.passes == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

desk = desk_of(Ends(), sys.argv[1])
opened(desk, key(2), "s")
turn(desk, key(2), "s", 0).result(30)
turn(desk, key(2), "s", 1).result(30)
"""


@pytest.mark.slow(3)
def test_of_a_server_killed_behind_a_pass_nothing_is_charged_or_set_aside(
    db: str, tmp_path: Path
) -> None:
    """What it had drawn nobody was told: another draws the same, for the same."""
    here = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
    paths = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-c", KILLED, db]
    ended = subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, check=False, timeout=60)
    assert ended.returncode == -signal.SIGKILL
    ledger = Ledger(db)
    assert (ledger.spent("a").rollouts, ledger.reserved("a")) == (1, Cost())
    again, alone = desk_of(Held(), db), desk_of(Held(), str(tmp_path / "other"))
    opened(alone, key(2), "s")
    told = [turn(alone, key(2), "s", number).result(30) for number in range(2)]
    assert [turn(again, key(2), "s", number).result(30) for number in range(2)] == told
    assert (ledger.spent("a").rollouts, ledger.reserved("a")) == (2, Cost())
    for desk in (again, alone):
        desk.drain()
    ledger.close()


def test_a_pass_is_expected_to_be_as_long_as_the_last_or_longer_for_more() -> None:
    def waiting(tokens: int) -> Any:
        return [SimpleNamespace(admitted=SimpleNamespace(worst=Cost(tokens=tokens)))]

    pace = Pace()
    assert pace.short([SimpleNamespace(admitted=None)])  # type: ignore[list-item]
    assert not pace.short(waiting(1))
    pace.was(waiting(10), 0.01)
    pace.was([], 99.0)  # a round of nothing says nothing
    assert pace.short(waiting(1))
    assert pace.short(waiting(20))
    assert not pace.short(waiting(21))
    pace.was(waiting(1000), 0.03)
    assert not pace.short(waiting(1))


def test_of_two_entries_for_one_turn_the_first_counts(db: str) -> None:
    """Written at once, with what is closed and what stays open; each key is charged for its own."""
    ledger = Ledger(db)
    for session, name in (("s", "a"), ("t", "b"), ("u", "b")):
        ledger.open(session, name, {})
    first = Entry(Place("a", "s", 0), {"said": 1}, Cost(tokens=1))
    second = Entry(Place("a", "s", 0), {"said": 2}, Cost(tokens=2))
    closes = Entry(Place("b", "t", 0), {}, Cost(tokens=4), closed={"x": 1})
    beyond = Entry(Place("b", "t", 1), {}, Cost(tokens=8))
    opens = Entry(Place("b", "u", 0), {}, Cost(tokens=16), held=Cost(tokens=3))
    strange = Entry(Place("b", "none", 0), {}, Cost(tokens=32))
    written = ledger.write([first, second, closes, beyond, opens, strange])
    assert written == [True, False, True, False, True, False]
    assert (ledger.spent("a").tokens, ledger.spent("b").tokens) == (1, 20)
    assert (ledger.reserved("a"), ledger.reserved("b")) == (Cost(), Cost(tokens=3))
    assert ledger.turns("s") == [{"said": 1}]
    known = ledger.session("t")
    assert known is not None
    assert (known.turns, known.closed) == (1, {"x": 1})
    ledger.close()


def test_what_is_opened_and_written_in_one_transaction_is_there_or_not_at_all(db: str) -> None:
    ledger, other = Ledger(db), Ledger(db)
    limits = Budget(tokens=9)

    def once(fails: bool) -> None:
        with ledger.together({"a"}, ["s"]):
            ledger.open("s", "a", {"x": 1})
            ledger.open("t", "a", {})
            assert ledger.write([Entry(Place("a", "t", 0), {}, Cost())]) == [True]
            ledger.reserve(Place("a", "s", 0, "q"), 0, Cost(tokens=9), limits, None)
            assert ledger.balance("a") == (Cost(), Cost(tokens=9))
            entry = Entry(Place("a", "s", 0, "q"), {}, Cost(tokens=5), backed=True)
            assert ledger.write([entry]) == [True]
            assert other.session("s") is None
            if fails:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        once(fails=True)
    assert other.session("s") is None
    once(fails=False)
    known = other.session("s")
    assert known is not None
    assert (known.terms, known.turns) == ({"x": 1}, 1)
    assert (other.spent("a").tokens, other.reserved("a")) == (5, Cost())
    for one in (ledger, other):
        one.close()


def test_a_desk_that_goes_down_is_unavailable(tmp_path: Path) -> None:
    desk = desk_of(Held(), str(tmp_path / "db"))
    desk.drain()
    with pytest.raises(Unavailable, match="going down"):
        turn(desk, key(1), "s", 0)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, 0.1, None, True]}, b'{"a":[1,0.1,null,true]}'),
        ([float("inf"), -float("inf")], b"[Infinity,-Infinity]"),
        ("\u20ac", b'"\\u20ac"'),
        ("\ud800", b'"\\ud800"'),
        (10**30, b"1" + b"0" * 30),
    ],
)
def test_json_is_ascii_to_the_last_digit(value: object, text: bytes) -> None:
    assert json_of(value) == text
