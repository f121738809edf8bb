"""Queues: no key waits for another's, passes wait a little for company, a full queue says when to come again."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from reroot import Budget, Contract
from reroot.access.session import Ask
from reroot.serving.client import Post
from reroot.serving.company import Company
from reroot.serving.desk import MOST, Desk
from reroot.serving.keys import Key
from reroot.serving.tasks import Account, Close, Open, TakeTurn, Task
from serving_toys import Held, serving, unwritten

GRANTS = Contract.parse("root/sample")


class Silent(Desk):
    """Nobody works, so that queues can be looked at."""

    def _work(self) -> None:
        pass


def turn(key: Key, session: str = "s") -> TakeTurn:
    return TakeTurn(key, session=session, number=0, messages=[Ask(())])


def close(key: Key, session: str) -> Close:
    return Close(key, session=session, ended={"output": [0]})


def key(name: str) -> Key:
    return Key(name, "0" * 64, GRANTS, queue=1000)


def names(desk: Desk) -> list[str]:
    taken = desk._next()
    assert taken is not None
    return [task.key.name for task in taken]


def test_a_thousand_requests_of_one_key_delay_another_by_no_round() -> None:
    desk, many, few = Silent(unwritten()), key("many"), key("few")
    for _ in range(1000):
        desk.submit(Account(many))
    desk.submit(Account(few))
    assert names(desk) == ["many", "few"] + ["many"] * (MOST - 2)
    desk.submit(Account(few))
    assert names(desk)[:2] == ["few", "many"]  # who was first is last now
    assert desk.waiting() == 1000 + 2 - 2 * MOST


def test_a_pass_waits_for_those_who_were_told_a_tenth_of_the_last_one() -> None:
    company, due = Company(), [("a", "turn")] * 30 + [("a", "open"), ("b", "turn")]
    company.was(due, 32, 0.0, 0.01)
    company.came("a", "turn", 1.0)
    assert company.hold(1.0, 1.0) == 0.0  # passes are short
    company.was(due, 31, 10.0, 12.0)
    for each in due[1:]:
        company.came(*each, 12.0)
    # as many as the last time: one is missing
    assert company.hold(11.0, 12.05) == pytest.approx(0.15)
    company.came("b", "turn", 12.01)
    company.came("a", "open", 12.01)  # neither another's second request is his, nor a newcomer's
    assert company.hold(11.0, 12.05) == pytest.approx(0.15)
    company.came("a", "turn", 12.02)
    assert company.hold(11.0, 12.05) == 0.0  # all have come
    company.was([("a", "turn")], 0, 12.06, 12.06)  # he was told something that needed no pass
    assert company.hold(12.1, 12.1) == pytest.approx(0.2)
    assert company.hold(12.1, 12.3) == 0.0


def test_a_pass_waits_while_newcomers_keep_coming() -> None:
    company = Company()
    company.was([], 1, 0.0, 2.0)
    for now in np.arange(5.0, 5.2, 0.015).tolist():
        company.came("a", "open", now)
        assert company.hold(5.0, now) == pytest.approx(min(0.02, 5.2 - now))
    assert company.hold(5.0, 5.2) == 0.0


def test_who_has_not_come_when_a_pass_begins_is_not_waited_for() -> None:
    company = Company()
    company.was([("gone", "turn"), ("here", "turn")], 2, 0.0, 20.0)
    company.came("here", "turn", 20.1)
    assert company.hold(20.1, 20.2) == pytest.approx(0.4)  # half a second at most
    company.was([("here", "turn")], 1, 21.0, 41.0)
    company.came("here", "turn", 41.1)
    assert company.hold(41.1, 41.2) == 0.0


def test_short_passes_end_the_waiting_by_halves() -> None:
    company, holds = Company(), list[float]()
    company.was([("a", "turn")], 1, 0.0, 1.0)
    for second in range(1, 8):
        holds.append(company.hold(second, second))
        company.was([("a", "turn")], 1, second, second + 0.01)
    assert holds == pytest.approx([0.1, 0.05, 0.025, 0.0125, 0.00625, 0.0, 0.0])


def test_what_needs_no_pass_goes_while_passes_wait() -> None:
    """The requests of one key: its turns are held for company, its account is told at once."""

    class Waits(Company):
        def left(self, since: float, now: float) -> float:
            return 5.0 * (desk._passes < 2)

    desk, one = Silent(unwritten()), key("one")
    desk._company = Waits()
    desk._company.was([("one", "turn")] * 9, 0, 0.0, 0.0)
    desk.submit(turn(one, "first"))
    desk.submit(Account(one))
    taken = desk._next()
    assert taken is not None
    assert [type(task) for task in taken] == [Account]
    with ThreadPoolExecutor(1) as pool:
        found: Future[Any] = pool.submit(desk._next)
        desk.submit(turn(one, "second"))
        assert [task.session for task in found.result(20)] == ["first", "second"]


def test_scores_go_before_draws_and_keep_them_once() -> None:
    desk, one = Silent(unwritten()), key("one")

    def went(*tasks: Task) -> list[type[Task]]:
        for task in tasks:
            desk.submit(task)
        return [type(task) for task in desk._next() or []]

    assert went(turn(one, "x"), close(one, "y"), close(one, "z")) == [TakeTurn, Close, Close]
    desk._company.was([], 1, -9.0, -8.0)  # passes are long
    assert went(turn(one, "a"), close(one, "b"), close(one, "c")) == [Close, Close]
    assert went(close(one, "d"), turn(one, "e")) == [TakeTurn, Close, TakeTurn]
    assert went(close(one, "f")) == [Close]
    assert went(close(one, "g"), turn(one, "h")) == [Close]  # nobody waited for that before it
    assert went() == [TakeTurn]


def test_what_is_soon_done_goes_before_draws_that_were_kept() -> None:
    """Who opens a session is not due any more, and will be when he is told."""
    desk, one = Silent(unwritten()), key("one")
    desk._company.was([], 1, -9.0, -8.0)
    desk._company.left = lambda since, now: 5.0  # type: ignore[method-assign]
    for task in (turn(one, "a"), close(one, "b")):
        desk.submit(task)
    assert [type(task) for task in desk._next() or []] == [Close]
    desk.submit(Open(one, session="c", terms={}))
    assert [type(task) for task in desk._next() or []] == [Open]
    assert [type(task) for task in desk._next() or []] == [TakeTurn]


def test_the_same_turn_is_one_and_another_under_its_number_is_not() -> None:
    desk, one = Silent(unwritten()), key("one")
    first = desk.submit(turn(one))
    assert desk.submit(turn(one)) is first
    other = TakeTurn(one, session="s", number=0, messages=[])
    assert desk.submit(other) is not first


@pytest.mark.slow(3)
def test_a_full_queue_is_told_when_to_come_again_and_the_client_comes(tmp_path: Path) -> None:
    """While a pass goes on one request waits, as many as may; the next is sent away, and another key's is
    not. The client comes again when it was told to, and is answered and charged once."""
    family, path = Held().hold(), "/v1/completions"
    with serving(family, [family.problem(id="p0")], tmp_path) as server:
        shared, other = (server.key(n, "root/sample", Budget(rollouts=9), queue=1) for n in "ab")
        client = Post(server.url, shared, patience=30.0)
        with ThreadPoolExecutor(4) as pool:
            passing = pool.submit(client.ask, "POST", path, {"prompt": []})
            assert family.asked.wait(20)
            waiting = pool.submit(client.ask, "POST", path, {"prompt": []})
            while not server.desk.waiting():
                pass
            said = httpx2.post(
                server.url + path,
                json={"prompt": []},
                headers={"Authorization": f"Bearer {shared}"},
                trust_env=False,
            )
            assert (said.status_code, said.headers["retry-after"]) == (429, "1")
            assert said.json()["error"]["code"] == "rate_limit_exceeded"
            again = pool.submit(client.ask, "POST", path, {"prompt": []})
            neighbour = Post(server.url, other, patience=30.0)
            theirs = pool.submit(neighbour.ask, "POST", path, {"prompt": []})
            while server.desk.waiting() < 2:
                pass
            family.may.set()
            answers = [one.result(60) for one in (passing, waiting, again, theirs)]
        assert all(one["usage"]["completion_tokens"] == 4 for one in answers)
        spent = [who.ask("GET", "/v1/account")["spent"]["rollouts"] for who in (client, neighbour)]
        assert spent == [3, 1]
        client.close()
        neighbour.close()
