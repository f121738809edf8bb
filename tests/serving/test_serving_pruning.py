"""Freeing what sessions were told, beside a server that goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from reroot import Budget
from reroot.cli.commands import run
from reroot.generators.base import Request
from reroot.serving.ledger import Ledger
from reroot.serving.pruning import Freed, prune
from reroot.types import Reply
from serving_toys import Server, serving
from toys import problems, tree


class Client:
    """Requests of one key."""

    def __init__(self, server: Server, name: str, budget: Budget) -> None:
        key = server.key(name, "chosen/full+reward", budget)
        headers = {"Authorization": f"Bearer {key}"}
        self.http = httpx2.Client(base_url=server.url, headers=headers, trust_env=False)

    def ask(self, path: str, body: Any = None, once: str | None = None) -> tuple[int, Any]:
        headers = {} if once is None else {"Idempotency-Key": once}
        method = "GET" if body is None else "POST"
        said = self.http.request(method, path, json=body, headers=headers)
        return said.status_code, said.json()

    def code(self, path: str, body: Any = None, once: str | None = None) -> tuple[int, str]:
        status, said = self.ask(path, body, once)
        return status, said["error"]["code"]


QUERY = {"prefix": [], "n": 2, "length": None, "report": "sample", "forced": None}
TURN = {"messages": [{"ask": [QUERY]}]}
ONCE = "the same request"
GONE = (410, "pruned")


@pytest.mark.parametrize("budget", [Budget(), Budget(rollouts=9)], ids=["free", "budgeted"])
def test_what_was_pruned_is_said_to_be_and_is_neither_drawn_nor_charged_again(
    budget: Budget, db: str, tmp_path: Path
) -> None:
    """Whether the server has the session in memory or not; what is new goes on."""
    with serving(tree(), problems(1), tmp_path, db) as server:
        one = Client(server, "a", budget)
        other = Client(server, "b", Budget())
        _, opened = one.ask("/v1/sessions", {"problem": "p0"}, ONCE)
        path = f"/v1/sessions/{opened['session']}"
        assert one.ask(f"{path}/turns/0", TURN)[0] == 200
        assert one.ask("/v1/completions", {"prompt": []}, ONCE)[0] == 200
        _, theirs = other.ask("/v1/sessions", {"problem": "p0"})
        account, ledger = one.ask("/v1/account"), Ledger(db, make=False)
        later = time.time() + 1
        assert prune(ledger, "a", later - 3600) == Freed()
        freed = prune(ledger, "a", later)
        assert (freed.sessions, freed.turns) == (2, 2)
        assert freed.bytes > 500
        assert prune(ledger, "a", later) == Freed()
        assert ledger.turns(opened["session"]) == []
        ledger.close()

        assert one.code(f"{path}/turns/0", TURN) == GONE
        assert one.code(f"{path}/turns/1", TURN) == GONE  # the server has it in memory
        assert one.code(f"{path}/turns/1", TURN) == GONE  # and no more
        assert one.code(path) == GONE
        assert one.code(f"{path}/close", {}) == GONE
        assert one.code("/v1/sessions", {"problem": "p0"}, ONCE) == GONE
        assert one.code("/v1/completions", {"prompt": []}, ONCE) == GONE
        assert one.code("/v1/completions", {"prompt": [], "n": 2}, ONCE) == GONE
        assert other.code(path) == (404, "not_found")
        assert one.ask("/v1/account") == account
        assert other.ask(f"/v1/sessions/{theirs['session']}/turns/0", TURN)[0] == 200
        assert one.ask("/v1/completions", {"prompt": []}, "another request")[0] == 200


def test_a_turn_that_is_under_way_when_its_session_is_pruned_is_neither_told_nor_charged(
    db: str, tmp_path: Path
) -> None:
    class Pruning(type(tree())):  # type: ignore[misc]
        def answer(self, requests: Sequence[Request]) -> list[Reply]:
            ledger = Ledger(db, make=False)
            prune(ledger, "a", time.time() + 1)
            ledger.close()
            return super().answer(requests)

    generator = tree()
    generator.__class__ = Pruning
    with serving(generator, problems(1), tmp_path, db) as server:
        one = Client(server, "a", Budget(rollouts=2))
        assert one.code("/v1/completions", {"prompt": []}, ONCE) == GONE
        _, account = one.ask("/v1/account")
        assert (account["spent"]["rollouts"], account["reserved"]["rollouts"]) == (0, 0)


@pytest.mark.slow(3)
def test_pruning_beside_requests_loses_and_doubles_nothing(db: str, tmp_path: Path) -> None:
    """Clients ask while everything is pruned again and again: each rollout that was told was charged, once."""
    with serving(tree(), problems(1), tmp_path, db) as server:
        one, told = Client(server, "a", Budget(rollouts=200)), list[int]()

        def ask(_: int) -> None:
            _, opened = one.ask("/v1/sessions", {"problem": "p0"})
            turn = f"/v1/sessions/{opened['session']}/turns/0"
            status, _ = one.ask(turn, TURN)
            told.append(status)

        ledger = Ledger(db, make=False)
        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(ask, i) for i in range(100)]
            freed = Freed()
            while not all(future.done() for future in asked):
                freed += prune(ledger, "a", time.time() + 1)
            for future in asked:
                future.result()
        freed += prune(ledger, "a", time.time() + 1)
        assert set(told) <= {200, 410}
        assert freed.sessions == len(told) == 100
        assert freed.turns == told.count(200)
        assert ledger.spent("a").rollouts == 2 * told.count(200)
        assert ledger.reserved("a").rollouts == 0
        ledger.close()


def test_the_command_prunes_the_keys_of_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(tree(), problems(1), tmp_path) as server:
        one, other = Client(server, "a", Budget()), Client(server, "b", Budget())
        for client in (one, one, other):
            client.ask("/v1/completions", {"prompt": []})
        old = "UPDATE reroot_sessions SET at = at - 7200 WHERE id IN (SELECT id FROM reroot_sessions WHERE name = 'a' LIMIT 1)"  # fmt: skip
        ledger = Ledger(server.db, make=False)
        assert ledger.database.change(old) == 1
        ledger.close()
        where = ["--keys", str(server.keys), "--db", str(server.db)]
        found = []
        for older in ("2d", "1h", "1h"):
            assert run(["keys", "prune", *where, "--older", older, "--json"]) == 0
            found.append([row["sessions"] for row in json.loads(capsys.readouterr().out)])
        assert found == [[0, 0], [1, 0], [0, 0]]
        for wrong in (["prune"], ["prune", "--older", "0d"], ["prune", "--older", "3"],
                      ["usage", "--older", "3d"], ["prune", "a", "--older", "3d"]):  # fmt: skip
            assert run(["keys", *wrong, *where]) == 2
            assert "keys" in (said := capsys.readouterr().err) or "--older" in said
