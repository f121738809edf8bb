"""A ledger that takes nothing for a while: what is asked is refused for then, and nothing counts twice."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

import reroot
from reroot import Budget, Cost, InvalidInput
from reroot.serving.database import Unavailable
from reroot.serving.ledger import Entry, Ledger, Place
from serving_toys import Server, serving
from toys import as_learner, problems, search, tree

EVERYTHING = "chosen/full+reward+verifier+demonstration+value"
ASK = {"prefix": [], "n": 1, "length": None, "report": "sample", "forced": None}


def connection(server: Server) -> sqlite3.Connection:
    return server.desk.sessions.ledger._db._db  # type: ignore[attr-defined]


def full(server: Server) -> Callable[[], object]:
    """The disk is full; what frees it again."""
    db = connection(server)
    db.execute("PRAGMA max_page_count = 1")
    return lambda: db.execute("PRAGMA max_page_count = 1000000")


def read_only(server: Server) -> Callable[[], object]:
    db = connection(server)
    db.execute("PRAGMA query_only = 1")
    return lambda: db.execute("PRAGMA query_only = 0")


def locked(server: Server) -> Callable[[], object]:
    """Another program holds the file."""
    connection(server).execute("PRAGMA busy_timeout = 20")
    other = sqlite3.connect(server.db, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    return other.close


@pytest.mark.slow(2)
@pytest.mark.parametrize(
    ("fault", "apart"), [(full, False), (read_only, False), (read_only, True), (locked, True)]
)
def test_clients_wait_while_the_ledger_takes_nothing(
    fault: Callable[[Server], Callable[[], object]],
    apart: bool,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In the middle of a run; it ends as if nothing had been, and the log says what was the matter.

    ``apart``: what is set aside is written down before the generator is asked.
    """
    task, bound = problems(4), as_learner(search)
    expected = reroot.run(bound, task, tree(), grants=EVERYTHING)
    with serving(tree(), task, tmp_path) as server:
        key = server.key("a", EVERYTHING, Budget(tokens=10**6))
        ledger, write, mend = server.desk.sessions.ledger, server.desk.sessions.ledger.write, []

        def failing(entries: list[Entry]) -> list[bool]:
            if server.desk.rounds >= 3 and not mend:
                mend.append(fault(server))
                threading.Timer(0.5, mend[0]).start()
            return write(entries)

        ledger.write = failing  # type: ignore[method-assign]
        if apart:
            server.desk._pace.short = lambda waiting: False  # type: ignore[method-assign]
        wall = reroot.connect(server.url, key)
        found = reroot.run(bound, wall.problems(), wall, grants=EVERYTHING)
        account = wall.account()
        wall.close()
    assert mend
    assert found.attempts == expected.attempts
    assert account["spent"] == expected.cost.to_dict()
    assert not any(account["reserved"].values())
    assert "can't keep accounts in" in caplog.text
    assert "are kept in" in caplog.text


def test_a_refusal_for_now_says_when_to_come_again_and_nothing_else(tmp_path: Path) -> None:
    with serving(tree(), problems(1), tmp_path) as server:
        auth = {"Authorization": f"Bearer {server.key('a', 'root/sample')}"}
        mend = read_only(server)
        url = f"{server.url}/v1/sessions"
        said = httpx2.post(url, json={"problem": "p0"}, headers=auth, trust_env=False)
        assert (said.status_code, said.headers["retry-after"]) == (503, "1")
        assert "sqlite" not in said.text
        mend()
        assert (
            httpx2.post(url, json={"problem": "p0"}, headers=auth, trust_env=False).status_code
            == 201
        )


def test_a_commit_that_fails_leaves_no_transaction_behind(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "db")
    ledger.open("s", "a", {})
    db = ledger._db._db  # type: ignore[attr-defined]
    db.execute("CREATE TABLE one (x INTEGER PRIMARY KEY)")
    db.execute("CREATE TABLE two (x REFERENCES one DEFERRABLE INITIALLY DEFERRED)")
    db.execute("PRAGMA foreign_keys = 1")
    with pytest.raises(Unavailable), ledger._db.transaction(["a"]):
        ledger._db.change("INSERT INTO two VALUES (3)")  # refused where it is committed
    assert ledger.write([Entry(Place("a", "s", 0), {}, Cost(tokens=1))]) == [True]
    ledger.close()


def test_what_was_open_and_freed_is_set_aside_again_before_it_is_answered(tmp_path: Path) -> None:
    """A message that waits for the next turn; the session is idle for an hour, and another takes the rest."""
    both = {"messages": [{"ask": [ASK]}, {"demonstration": 1}]}
    with serving(tree(), problems(1), tmp_path) as server:
        key = server.key("a", "root/sample+demonstration", Budget(rollouts=2))
        post = reroot.connect(server.url, key)._post

        def opened() -> str:
            return f"/v1/sessions/{post.ask('POST', '/v1/sessions', {'problem': 'p0'})['session']}"

        idle, other = opened(), opened()
        assert post.ask("POST", f"{idle}/turns/0", both)["open"] == 1
        assert post.ask("GET", "/v1/account")["reserved"]["rollouts"] == 1
        ledger = Ledger(server.db)
        ledger.sweep(now=time.time() + 1e5)
        ledger.close()
        more = {"messages": [{"ask": [{**ASK, "n": 2}]}]}
        assert post.ask("POST", f"{other}/turns/0", more)["answers"][0]["error"] is None
        with pytest.raises(reroot.BudgetExceeded):
            post.ask("POST", f"{idle}/turns/1", {"messages": []})
        assert post.ask("GET", "/v1/account")["spent"]["rollouts"] == 2
        # closed with a message that nobody will answer: it is looked at, and costs nothing
        post.ask("POST", f"{idle}/close", {"output": [1, 2, 3]})
        assert post.ask("GET", idle)["closed"]
        assert not any(post.ask("GET", "/v1/account")["reserved"].values())


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database, but a text that is long enough to be looked at")
    with pytest.raises(InvalidInput, match="not a database"):
        Ledger(tmp_path / "text")
    other = sqlite3.connect(tmp_path / "other")
    other.execute("CREATE TABLE accounts (name TEXT)")
    other.close()
    with pytest.raises(InvalidInput, match=r"is no ledger.*'accounts'"):
        Ledger(tmp_path / "other")
    with pytest.raises(InvalidInput, match="unable to open"):
        Ledger(tmp_path / "none" / "db")
