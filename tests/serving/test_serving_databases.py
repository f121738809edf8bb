"""One ledger for several servers, in a file and in PostgreSQL: never overspent, told and charged once."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import reroot
from postgres_toys import Postgres, postgres
from reroot import Budget, BudgetExceeded, Cost, InvalidInput
from reroot.serving.client import Post, Served
from reroot.serving.database import Unavailable
from reroot.serving.ledger import VERSION, Entry, Ledger, Place, Superseded
from serving_toys import serving
from toys import as_learner, problems, search, tree

EVERYTHING = "chosen/full+reward+verifier+demonstration+value"
ASK = {"prefix": [], "n": 1, "length": None, "report": "sample", "forced": None}
NUMBERS = itertools.count()
KILL = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE application_name = 'reroot' AND pid <> pg_backend_pid()"
)


@pytest.fixture(scope="module")
def running() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("postgres", marks=[pytest.mark.slow(3), pytest.mark.xdist_group("postgres")]),
    ]
)
def db(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place for accounts."""
    if request.param == "sqlite":
        return str(tmp_path / "accounts.sqlite")
    return request.getfixturevalue("running").database(f"d{next(NUMBERS)}")


@pytest.fixture
def ledgers(db: str) -> Iterator[list[Ledger]]:
    """What three servers have of it."""
    made = [Ledger(db) for _ in range(3)]
    yield made
    for ledger in made:
        ledger.close()


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
    assert 80 < charged <= 97
    assert ledgers[0].spent("a") == Cost(tokens=charged)


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


class Between(Post):
    """Each request goes to another server."""

    def __init__(self, urls: list[str], key: str) -> None:
        super().__init__(urls[0], key, 60.0)
        self._urls = itertools.cycle(urls)

    def ask(self, *request: Any, **more: Any) -> dict[str, Any]:
        self.url = next(self._urls)
        return super().ask(*request, **more)


@pytest.mark.slow(1)
def test_a_session_goes_on_at_another_server(db: str, tmp_path: Path) -> None:
    """Turn by turn, while the first has it in memory still; the attempts are those of one process."""
    task, bound, budget = problems(3), as_learner(search), Budget(tokens=200)
    expected = reroot.run(bound, task, tree(), grants=EVERYTHING, budget=budget)
    with serving(tree(), task, tmp_path, db) as one, serving(tree(), task, tmp_path, db) as two:
        post = Between([one.url, two.url], one.key("a", EVERYTHING, Budget(tokens=10**6)))
        wall = Served(post)
        found = reroot.run(bound, wall.problems(), wall, grants=EVERYTHING, budget=budget)
        account = wall.account()
        wall.close()
    assert found.attempts == expected.attempts
    assert account["spent"] == expected.cost.to_dict()
    assert not any(account["reserved"].values())


@pytest.mark.slow(1)
def test_one_turn_sent_to_two_servers_at_once_is_answered_once(db: str, tmp_path: Path) -> None:
    task = problems(1)
    with serving(tree(), task, tmp_path, db) as one, serving(tree(), task, tmp_path, db) as two:
        key = one.key("a", "root/sample", Budget(rollouts=60))
        posts = [Post(server.url, key, 60.0) for server in (one, two)]
        body = {"problem": "p0", "seed": 3}
        with ThreadPoolExecutor(4) as pool:

            def all_at_once(path: str, body: dict[str, Any], once: str | None = None) -> list[Any]:
                barrier = threading.Barrier(4)

                def ask(i: int) -> Any:
                    barrier.wait()
                    return posts[i % 2].ask("POST", path, body, once)

                return list(pool.map(ask, range(4)))

            opened = all_at_once("/v1/sessions", body, "the same key")
            assert all(one == opened[0] for one in opened)
            path = f"/v1/sessions/{opened[0]['session']}"
            for number in range(15):
                body = {"messages": [{"ask": [{**ASK, "n": 1 + number % 3}]}]}
                told = all_at_once(f"{path}/turns/{number}", body)
                assert all(one == told[0] for one in told)
            ended = all_at_once(f"{path}/close", {"output": [1, 2, 3]})
            assert all(one == ended[0] for one in ended)
        account = posts[0].ask("GET", "/v1/account")
    assert account["spent"]["rollouts"] == 30
    assert account["reserved"]["rollouts"] == 0


@pytest.mark.slow(3)
def test_clients_of_several_servers_do_not_overspend_their_key(db: str, tmp_path: Path) -> None:
    task, bound = problems(8), as_learner(search)
    with serving(tree(), task, tmp_path, db) as one, serving(tree(), task, tmp_path, db) as two:
        key = one.key("shared", EVERYTHING, Budget(tokens=120))

        def client(seed: int) -> Cost:
            wall = reroot.connect((one, two)[seed % 2].url, key)
            found = reroot.run(
                *(bound, wall.problems(), wall), grants=EVERYTHING, seed=seed, on_error="record"
            )
            wall.close()
            return found.cost

        with ThreadPoolExecutor(4) as pool:
            spent = sum(pool.map(client, range(4)), Cost())
        account = Post(two.url, key, 60.0).ask("GET", "/v1/account")
    assert 100 < account["spent"]["tokens"] <= 120
    assert account["spent"] == spent.to_dict()
    assert account["reserved"]["tokens"] == 0


def test_a_session_is_not_taken_up_by_a_server_that_serves_something_else(
    db: str, tmp_path: Path
) -> None:
    """Another law under the same ids; another problem under the same id: refused, and nothing charged."""
    other = [reroot.Problem("p0", (), 4, lambda output: 1.0)]
    with (
        serving(tree(1), problems(1), tmp_path, db) as one,
        serving(tree(2), problems(1), tmp_path, db) as two,
        serving(tree(1), other, tmp_path, db) as three,
    ):
        key = one.key("a", "root/sample", Budget(rollouts=3))
        first, *others = (Post(server.url, key, 5.0) for server in (one, two, three))
        body = {"problem": "p0", "seed": 3}
        path = first.ask("POST", "/v1/sessions", body, "the same key")["session"]
        turn = (f"/v1/sessions/{path}/turns/0", {"messages": [{"ask": [ASK]}]})
        for post in others:
            for request in (turn, (f"/v1/sessions/{path}/close", {"output": [1]})):
                with pytest.raises(reroot.BackendError, match=r"another generator.* 'p0'"):
                    post.ask("POST", *request)
            with pytest.raises(reroot.BackendError, match="another generator"):
                post.ask("POST", "/v1/sessions", body, "the same key")
        first.ask("POST", *turn)
        assert first.ask("GET", "/v1/account")["spent"]["rollouts"] == 1


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
    assert second.session("s") is not None
    for ledger in (first, second):
        ledger.close()


@pytest.mark.slow(6)
@pytest.mark.xdist_group("postgres")
def test_lost_connections_are_made_anew_and_a_lost_database_is_waited_for(
    running: Postgres, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Connections end between and within turns, and PostgreSQL itself as in a crash; then it goes on."""
    task, bound, url = problems(6), as_learner(search), running.database("lost")
    expected = reroot.run(bound, task, tree(), grants=EVERYTHING)
    with serving(tree(), task, tmp_path, url) as server:
        key = server.key("a", EVERYTHING, Budget(tokens=10**6))
        done = threading.Event()

        def disturb() -> None:
            ledger = Ledger(url)
            while not done.wait(0.25):
                ledger._db.rows(KILL)
            ledger.close()

        thread = threading.Thread(target=disturb)
        thread.start()
        wall = reroot.connect(server.url, key)
        found = reroot.run(bound, wall.problems(), wall, grants=EVERYTHING)
        done.set()
        thread.join()
        assert found.attempts == expected.attempts
        assert wall.account()["spent"] == expected.cost.to_dict()
        running.stop()
        said = wall._post._client.get(f"{server.url}/v1/account")
        assert (said.status_code, said.headers["retry-after"]) == (503, "1")
        assert str(running.folder) not in said.text
        running.start()
        assert wall.account()["spent"] == expected.cost.to_dict()
        wall.close()
    assert "are kept in postgresql://" in caplog.text


@pytest.mark.parametrize(
    "url",
    ["postgresql://u:secret@127.0.0.1:1/x", "mysql://u:secret@h/x", "postgresql://u:secret@[h/x"],
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
