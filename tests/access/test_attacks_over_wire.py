"""The attacks of the other files once more: every message that one of them sent is sent again, as raw
JSON, to a session of a server under the same contract. It is answered the same and charged the same.

What a learner's own side refuses never becomes a message; ``tests/serving/test_attacks_served.py`` sends
it past that side.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
from pathlib import Path
from typing import Any

import httpx2
import pytest
from test_attacks_door import (  # noqa: F401
    test_forged_replies_build_no_prefix,
    test_nothing_hides_beside_or_beyond_the_tokens,
    test_replies_carry_what_the_report_names,
    test_writing_into_replies_changes_nothing,
)
from test_attacks_messages import *  # noqa: F403
from test_attacks_requests import *  # noqa: F403

from reroot import Budget
from reroot.access.runner import Attempt, Job
from reroot.access.wire import message_from_json
from reroot.errors import InvalidInput
from reroot.runs import attempts as running
from reroot.serving.app import application
from reroot.serving.desk import Desk
from reroot.serving.keys import KeyFile, add_key
from reroot.serving.ledger import Ledger
from reroot.serving.sessions import Sessions
from serving_toys import catalogue

pytestmark = pytest.mark.slow(1)
TOLD = ("AccessDenied", "BudgetExceeded", "InvalidInput")
"""Errors whose text clients get; of others they get the kind."""


class Lines:
    """What is written down of attempts, by their keys."""

    def __init__(self) -> None:
        self.kept: dict[str, list[Any]] = {}

    def recorded(self, key: str) -> list[Any]:
        return []

    def append(self, key: str, line: Any) -> None:
        self.kept.setdefault(key, []).append(line)

    def finish(self, key: str) -> None:
        pass


async def replay(client: httpx2.AsyncClient, job: Job, lines: list[Any]) -> Any:
    """Send what a session was sent, turn by turn; what was spent at the end."""
    terms = {"problem": job.episode.problem.id, "seed": job.seed, "contract": str(job.contract)}
    said = await client.post("/v1/sessions", json={**terms, "budget": job.budget.to_dict()})
    assert said.status_code == 201, said.text
    path, told, spent = f"/v1/sessions/{said.json()['session']}", dict[int, Any](), 0
    waiting, number = sorted(lines, key=lambda line: line["i"]), itertools.count()
    while waiting or len(told) < len(lines):
        due = [line for line in waiting if line["after"] <= len(told)]
        waiting = waiting[len(due) :]
        if any(not crosses(line) for line in due):
            refused = await client.post(f"{path}/turns/0", json={"messages": [due[0]["message"]]})
            assert refused.status_code == 400, refused.text
            return (await client.get(path)).json()["session_spent"]
        body = {"messages": [line["message"] for line in due]}
        said = await client.post(f"{path}/turns/{next(number)}", json=body)
        if said.status_code == 413:  # what fits no memory is more than one request may take, too
            assert any("smaller pieces" in (line["error"] or {}).get("message", "") for line in due)
            return (await client.get(path)).json()["session_spent"]
        assert said.status_code == 200, said.text
        for answer in said.json()["answers"]:
            told[answer["line"]["i"]], spent = answer, answer["spent"]
    for line in lines:
        check(line, told[line["i"]])
    return spent


def crosses(line: Any) -> bool:
    """Whether a message is one that can be written down; in process any object may be tried."""
    try:
        message_from_json(line["message"])
    except InvalidInput:
        assert line["error"]["kind"] == "InvalidInput"
        return False
    return True


def check(line: dict[str, Any], answer: dict[str, Any]) -> None:
    """An answer over the wire is that of the transcript; of a failure it tells no more than its kind."""
    shown, error = answer["line"], answer["error"]
    assert {**shown, "error": None} == {**line, "error": None}
    assert (error is None) == (line["error"] is None)
    if error is not None:
        assert error["type"] == shown["error"]["kind"] == line["error"]["kind"]
        if error["type"] in TOLD:
            assert shown["error"]["message"] == line["error"]["message"]
        else:
            assert line["error"]["message"] not in str(answer)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A file of keys, and contract → key."""
    return tmp_path_factory.mktemp("keys") / "keys.toml", {}


@pytest.fixture(autouse=True)
def again_over_the_wire(monkeypatch: pytest.MonkeyPatch, keys: tuple[Path, dict[str, str]]) -> None:
    """After each run of a test, what its sessions were sent goes over the wire."""
    execute = running.execute

    def twice(jobs: Any, generator: Any, *, on_attempt: Any, log: Any, **settings: Any) -> None:
        log, jobs, found = Lines(), list[Job](jobs), dict[str, Attempt]()
        fresh = copy.deepcopy(generator)

        def note(attempt: Attempt) -> None:
            found[attempt.key] = attempt
            on_attempt(attempt)

        execute(iter(jobs), generator, on_attempt=note, log=log, **settings)
        asyncio.run(over_the_wire(fresh, jobs, found, log, keys))

    monkeypatch.setattr(running, "execute", twice)


async def over_the_wire(
    generator: Any,
    jobs: list[Job],
    found: dict[str, Attempt],
    log: Lines,
    keys: tuple[Path, dict[str, str]],
) -> None:
    file, known = keys
    contract = str(jobs[0].contract)
    if contract not in known:
        known[contract] = add_key(file, f"k{len(known)}", contract, Budget())
    desk = Desk(
        Sessions(catalogue(generator, [j.episode.problem for j in jobs]), Ledger(":memory:"))
    )
    transport = httpx2.ASGITransport(application(desk, KeyFile(file)))
    headers = {"Authorization": f"Bearer {known[contract]}"}
    try:
        async with httpx2.AsyncClient(
            transport=transport, base_url="http://a", headers=headers
        ) as client:
            for job in jobs:
                _, *lines = log.kept.get(job.key, [{}])
                if lines:
                    assert await replay(client, job, lines) == found[job.key].cost.to_dict()
    finally:
        desk.drain()
