"""Queues: no key waits for another's, passes wait a little for company, a full queue says when to come again."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from reroot import Budget, Contract
from reroot.access.session import Ask
from reroot.families import HiddenPath
from reroot.generators.base import Request
from reroot.serving.client import Post
from reroot.serving.desk import MOST, Company, Desk
from reroot.serving.keys import Key
from reroot.serving.tasks import Account, TakeTurn
from reroot.types import Reply
from serving_toys import serving, unwritten

GRANTS = Contract.parse("root/sample")


class Silent(Desk):
    """Nobody works, so that queues can be looked at."""

    def _work(self) -> None:
        pass


def turn(key: Key, session: str = "s") -> TakeTurn:
    return TakeTurn(key, session=session, number=0, messages=[Ask(())])


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


def test_a_pass_waits_for_company_a_tenth_of_the_last_one() -> None:
    company = Company()
    assert company.hold(1, 5.0, 5.0) == 0.0
    company.was(32, 10.0, 12.0)
    assert company.hold(3, 11.0, 12.05) == pytest.approx(0.15)
    assert company.hold(32, 11.0, 12.05) == company.hold(3, 11.0, 12.2) == 0.0
    company.was(1, 12.1, 12.11)  # a short one changes nothing
    assert company.hold(3, 12.0, 12.15) == pytest.approx(0.05)
    assert company.hold(1, 20.0, 20.05) == pytest.approx(0.15)  # the first of others like them
    company.was(8, 20.0, 30.0)
    assert company.hold(1, 29.0, 30.0) == pytest.approx(0.5)


def test_what_needs_no_pass_goes_while_passes_wait() -> None:
    """The requests of one key: its turns are held for company, its account is told at once."""

    class Waits(Company):
        held = True

        def hold(self, waiting: int, since: float, now: float) -> float:
            return 5.0 * (self.held and waiting < 2)

    desk, one = Silent(unwritten()), key("one")
    desk._company = Waits()
    desk.submit(turn(one, "first"))
    desk.submit(Account(one))
    taken = desk._next()
    assert taken is not None
    assert [type(task) for task in taken] == [Account]
    with ThreadPoolExecutor(1) as pool:
        found: Future[Any] = pool.submit(desk._next)
        desk.submit(turn(one, "second"))
        assert [task.session for task in found.result(20)] == ["first", "second"]


def test_the_same_turn_is_one_and_another_under_its_number_is_not() -> None:
    desk, one = Silent(unwritten()), key("one")
    first = desk.submit(turn(one))
    assert desk.submit(turn(one)) is first
    other = TakeTurn(one, session="s", number=0, messages=[])
    assert desk.submit(other) is not first


class Held(HiddenPath):
    """A family that answers when it may.

    Attributes:
        asked: somebody has asked.
        may: it answers.
    """

    def __init__(self) -> None:
        super().__init__(3, 4, 0.6, seed=1)
        self.asked, self.may = threading.Event(), threading.Event()

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        self.asked.set()
        assert self.may.wait(30)
        return super().answer(requests)


@pytest.mark.slow(3)
def test_a_full_queue_is_told_when_to_come_again_and_the_client_comes(tmp_path: Path) -> None:
    """While a pass goes on one request waits, as many as may; the next is sent away, and another key's is
    not. The client comes again when it was told to, and is answered and charged once."""
    family, path = Held(), "/v1/completions"
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
