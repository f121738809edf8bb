"""Accounts: never overspent, charged once, given again; whatever is killed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import reroot
from reroot import Budget, BudgetExceeded, Cost
from reroot.serving.ledger import Entry, Ledger, Place, Superseded
from serving_toys import serving
from toys import as_learner, one_rollout, problems, search, tree

EVERYTHING = "chosen/full+reward+verifier+demonstration+value"


def test_two_connections_never_set_aside_more_than_there_is(tmp_path: Path) -> None:
    """100 reservations of 3 tokens from two connections, side by side, where 20 fit."""
    limits, ledgers = Budget(tokens=61), [Ledger(tmp_path / "db") for _ in range(2)]
    for i in range(100):
        ledgers[0].open(f"s{i}", "a", {})

    def take(i: int) -> bool:
        try:
            ledgers[i % 2].reserve(Place("a", f"s{i}", 0), 0, Cost(tokens=3), limits, None)
        except BudgetExceeded:
            return False
        return True

    def some(first: int) -> int:
        return sum(take(i) for i in range(first, 100, 2))

    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(some, range(2))) == 20
    assert ledgers[0].reserved("a") == Cost(tokens=60)
    for ledger in ledgers:
        ledger.close()


def test_a_turn_is_written_down_and_charged_once(tmp_path: Path) -> None:
    first, second = Ledger(tmp_path / "db"), Ledger(tmp_path / "db")
    first.open("s", "a", {})
    place, worst = Place("a", "s", 0), Cost(tokens=5)
    for ledger in (first, first, second):  # tried again, and by another server
        ledger.reserve(place, 0, worst, Budget(tokens=5), None)
    assert first.reserved("a") == worst
    entry = Entry(place, {"said": 1}, Cost(tokens=4))
    assert first.write([entry]) == [True]
    assert second.write([Entry(place, {"said": 2}, Cost(tokens=4))]) == [False]
    assert second.turn("s", 0) == {"said": 1}
    assert (second.spent("a"), second.reserved("a")) == (Cost(tokens=4), Cost())
    with pytest.raises(Superseded):
        second.reserve(place, 0, worst, Budget(tokens=9), None)
    for ledger in (first, second):
        ledger.close()


def test_an_idle_session_gives_back_what_it_has_set_aside(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "db")
    ledger.open("s", "a", {})
    ledger.reserve(Place("a", "s", 0), 0, Cost(tokens=5), Budget(tokens=5), None)
    ledger.sweep()
    assert ledger.reserved("a") == Cost(tokens=5)
    ledger.sweep(now=1e12)
    assert ledger.reserved("a") == Cost()
    ledger.close()


@pytest.mark.slow(4)
def test_concurrent_clients_do_not_overspend_their_key(tmp_path: Path) -> None:
    """Four clients together want far more than the key has: it is never overspent, and charged what they got."""
    task, bound = problems(12), as_learner(search)
    with serving(tree(), task, tmp_path) as server:
        key = server.key("shared", EVERYTHING, Budget(tokens=120))

        def client(seed: int) -> Cost:
            wall = reroot.connect(server.url, key)
            found = reroot.run(
                *(bound, wall.problems(), wall), grants=EVERYTHING, seed=seed, on_error="record"
            )
            wall.close()
            return found.cost

        with ThreadPoolExecutor(4) as pool:
            costs = list(pool.map(client, range(4)))
        wall = reroot.connect(server.url, key)
        account = wall.account()
        wall.close()
    assert 0 < account["spent"]["tokens"] <= 120
    assert account["spent"] == sum(costs, Cost()).to_dict()
    assert account["reserved"]["tokens"] == 0


@pytest.mark.slow(1)
def test_a_session_is_taken_up_from_the_ledger_and_told_the_same(tmp_path: Path) -> None:
    """After each turn the server forgets all it has in memory; the attempts stay as they are."""
    task, bound = problems(2), as_learner(search)
    expected = reroot.run(bound, task, tree(), grants=EVERYTHING, budget=Budget(tokens=200))
    with serving(tree(), task, tmp_path) as server:
        wall = server.connect("a", EVERYTHING)
        sessions = server.desk.sessions
        keep = sessions.keep
        sessions.keep = lambda live: (sessions._lives.clear(), keep(live))[1]  # type: ignore[method-assign]
        found = reroot.run(
            *(bound, wall.problems(), wall), grants=EVERYTHING, budget=Budget(tokens=200)
        )
        assert found.attempts == expected.attempts
        wall.close()


def test_an_answer_that_was_lost_is_given_again_and_not_charged_again(tmp_path: Path) -> None:
    with serving(tree(), problems(1), tmp_path) as server:
        wall = server.connect("a", "root/sample", Budget(rollouts=1))
        post = wall._post
        body = {"problem": "p0", "contract": "root/sample", "seed": 3}
        opened = [post.ask("POST", "/v1/sessions", body, once="the same key") for _ in range(2)]
        assert opened[0] == opened[1]
        path = f"/v1/sessions/{opened[0]['session']}/turns/0"
        ask = {"prefix": [], "n": 1, "length": None, "report": "sample", "forced": None}
        turns = [post.ask("POST", path, {"messages": [{"ask": [ask]}]}) for _ in range(3)]
        assert turns[0] == turns[1] == turns[2]
        assert wall.account()["spent"]["rollouts"] == 1
        with pytest.raises(reroot.BackendError, match="was another"):
            post.ask("POST", path, {"messages": []})
        wall.close()


def test_the_budget_of_the_key_refuses_and_draws_go_on_as_if_nothing_was_asked(
    tmp_path: Path,
) -> None:
    """A refusal by the key is like one by the session, also when the session is taken up again."""

    async def greedy(session: reroot.Session) -> object:
        pool = (await session.rollouts(1)).outputs()
        with pytest.raises(BudgetExceeded, match="rollouts"):
            await session.rollouts(3)
        return (await session.rollouts(1)).outputs()[0] if pool else None

    bound, task = as_learner(greedy), problems(1)
    here = reroot.run(bound, task, tree(), grants="root/sample", budget=Budget(rollouts=3))
    with serving(tree(), task, tmp_path) as server:
        wall = server.connect("a", "root/sample", Budget(rollouts=3))
        sessions = server.desk.sessions
        keep = sessions.keep
        sessions.keep = lambda live: (sessions._lives.clear(), keep(live))[1]  # type: ignore[method-assign]
        there = reroot.run(bound, wall.problems(), wall, grants="root/sample")
        wall.close()
    assert there.attempts[0].output == here.attempts[0].output
    assert there.cost == here.cost


def test_many_threads_may_ask_one_session_and_one_of_them_is_answered(tmp_path: Path) -> None:
    with serving(tree(), problems(1), tmp_path) as server:
        wall = server.connect("a", "root/sample")
        post = wall._post
        path = post.ask("POST", "/v1/sessions", {"problem": "p0"})["session"]
        ask = {"prefix": [], "n": 1, "length": None, "report": "sample", "forced": None}
        found: list[object] = []

        def turn(n: int) -> None:
            body = {"messages": [{"ask": [{**ask, "n": n}]}]}
            try:
                found.append(post.ask("POST", f"/v1/sessions/{path}/turns/0", body))
            except reroot.RerootError as error:
                found.append(str(error))

        threads = [threading.Thread(target=turn, args=(n,)) for n in range(1, 9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(isinstance(one, dict) for one in found) == 1
        assert wall.account()["reserved"]["rollouts"] == 0
        wall.close()


def test_one_rollout_of_one_learner(tmp_path: Path) -> None:
    with serving(tree(), problems(1), tmp_path) as server:
        wall = server.connect("a", "root/sample", results=False)
        (attempt,) = reroot.run(
            as_learner(one_rollout), wall.problems(), wall, grants="root/sample"
        ).attempts
        wall.close()
    assert attempt.output is not None
    assert (attempt.reward, attempt.surprisal, attempt.accepted) == (None, None, None)
