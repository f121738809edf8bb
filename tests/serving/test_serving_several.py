"""Several servers of one ledger: a session is one, wherever its turns are sent; a database may go away."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import reroot
from postgres_toys import KILL, Postgres
from reroot import Budget, Cost
from reroot.serving.client import Post, Served
from reroot.serving.keys import add_key
from reroot.serving.ledger import Ledger
from serving_toys import serving
from toys import as_learner, problems, search, tree

EVERYTHING = "chosen/full+reward+verifier+demonstration+value"
ASK = {"prefix": [], "n": 1, "length": None, "report": "sample", "forced": None}


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


@pytest.mark.slow(3)
@pytest.mark.xdist_group("postgres")
def test_the_command_line_takes_the_url_of_a_database(running: Postgres, tmp_path: Path) -> None:
    """Two processes; a session that was begun at one is ended at the other, and usage tells what it cost."""
    keys, db = tmp_path / "keys.toml", running.database("command")
    key = add_key(keys, "a", "root/sample", Budget(rollouts=5))
    where = ["--keys", str(keys), "--db", db]

    def reroot_command(*words: str, **more: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "reroot", *words]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **more)

    missing = reroot_command("keys", "usage", *where, stderr=subprocess.PIPE)
    assert "holds no ledger" in missing.communicate()[1]
    serve = ["serve", "--model", "hidden_path:K=3,H=4,p=0.6", *where, "--port", "0"]
    servers = [reroot_command(*serve) for _ in range(2)]
    try:
        urls = [server.stdout.readline().split()[-1] for server in servers if server.stdout]
        one, two = (Post(url, key, 60.0) for url in urls)
        problem = one.ask("GET", "/v1/problems")["problems"][0]["id"]
        path = f"/v1/sessions/{one.ask('POST', '/v1/sessions', {'problem': problem})['session']}"
        for number, post in enumerate((one, two, one)):
            post.ask("POST", f"{path}/turns/{number}", {"messages": [{"ask": [ASK]}]})
        two.ask("POST", f"{path}/close", {"output": None})
    finally:
        for server in servers:
            server.terminate()
            server.wait()
    usage = reroot_command("keys", "usage", *where, "--json").communicate()[0]
    assert json.loads(usage)[0]["rollouts"] == 3
