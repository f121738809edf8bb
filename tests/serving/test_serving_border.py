"""The border: keys, contracts, OpenAI's clients, queues, bodies; and the command line."""

from __future__ import annotations

import datetime
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest

import reroot
from reroot import Budget, InvalidInput
from reroot.serving.keys import KeyFile, add_key, read_keys, revoke_key
from serving_toys import Server, serving, unwritten
from toys import END, K, problems, tree

COMMAND = [sys.executable, "-m", "reroot"]


def test_a_key_is_found_by_its_hash_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    key = add_key(path, "a", "root/sample", Budget(tokens=5), ends=datetime.date(2030, 1, 1))
    other = add_key(path, "b", "chosen/full", Budget())
    text = path.read_text()
    assert key not in text
    assert other not in text
    keys = KeyFile(path)
    day = datetime.date(2029, 12, 31)
    found = keys.find(key, day)
    assert found is not None
    assert (found.name, found.budget) == ("a", Budget(tokens=5))
    assert keys.find(key, datetime.date(2030, 1, 1)) is None
    assert keys.find("rr-wrong", day) is None
    revoke_key(path, "a")
    assert keys.find(key, day) is None
    assert keys.find(other, day) is not None


@pytest.mark.parametrize(
    "line", ["sha256 = 'x'", "grants = 'root'", "budget = {token = 3}", "queue = 0", "granst = 1"]
)
def test_what_is_no_key_is_refused(line: str) -> None:
    good = {"sha256": f"sha256 = '{'0' * 64}'", "grants": "grants = 'root/sample'"}
    good[line.partition(" ")[0]] = line
    with pytest.raises(InvalidInput, match=r"keys|report|contract"):
        read_keys("[keys.a]\n" + "\n".join(good.values()), "keys.toml")


@pytest.mark.parametrize(
    ("more", "state"),
    [
        ({}, ""),
        ({"ends": "2020-01-01"}, "ended 2020-01-01"),
        ({"ends": "9020-01-01"}, "until 9020-01-01"),
    ],
)
def test_keys_tell_how_they_stand(more: dict[str, str], state: str, tmp_path: Path) -> None:
    ends = {name: datetime.date.fromisoformat(day) for name, day in more.items()}
    add_key(tmp_path / "keys.toml", "a", "root/sample", Budget(), **ends)
    assert KeyFile(tmp_path / "keys.toml").named("a").state() == state
    revoke_key(tmp_path / "keys.toml", "a")
    assert KeyFile(tmp_path / "keys.toml").named("a").state() == "revoked"


@pytest.mark.parametrize("name", ["bob b", "a.b", "", "x]\nresults = true", "é", "a" * 65])
def test_a_name_that_is_none_is_refused_in_words(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="a key's name is of letters"):
        add_key(tmp_path / "keys.toml", name, "root/sample", Budget())
    assert not (tmp_path / "keys.toml").exists()


def ask(server: Server, key: str, path: str, body: Any, **headers: str) -> httpx2.Response:
    return httpx2.post(
        f"{server.url}{path}",
        json=body,
        headers={"Authorization": f"Bearer {key}", **headers},
        trust_env=False,
    )


@pytest.mark.slow(1)
def test_openai_clients_get_what_the_contract_grants(tmp_path: Path) -> None:
    path = "/v1/completions"
    with serving(tree(), problems(1), tmp_path) as server:
        root = server.key("root", "root/sample", Budget(rollouts=4))
        full = server.key("full", "chosen/topk(2)")
        good = ask(server, root, path, {"prompt": [], "n": 2, "seed": 1})
        assert good.status_code == 200, good.text
        body = good.json()
        assert [c["finish_reason"] in ("stop", "length") for c in body["choices"]] == [True] * 2
        assert body["usage"]["completion_tokens"] > 0

        def refused(key: str, status: int, code: str, **asked: Any) -> None:
            said = ask(server, key, path, {"prompt": [], **asked})
            assert (said.status_code, said.json()["error"]["code"]) == (status, code), said.text

        refused(root, 403, "permission_denied", prompt=[1])  # a prefix
        refused(root, 403, "permission_denied", max_tokens=1)  # not a whole rollout
        refused(root, 403, "permission_denied", logprobs=2)
        refused(root, 403, "permission_denied", temperature=0.5)
        refused(root, 400, "invalid_request", logit_bias={"1": 5})
        refused(root, 429, "insufficient_quota", n=3)
        refused(full, 403, "permission_denied", logprobs=3)
        refused(full, 404, "not_found", model="other")
        refused("rr-none", 401, "invalid_api_key")
        shown = ask(server, full, path, {"prompt": [1], "max_tokens": 2, "logprobs": 2})
        tops = shown.json()["choices"][0]["logprobs"]["top_logprobs"]
        assert all(len(top) == 2 for top in tops)
        account = {"Authorization": f"Bearer {root}"}
        spent = httpx2.get(server.url + "/v1/account", headers=account, trust_env=False).json()
        assert spent["spent"]["rollouts"] == 2  # what was refused cost nothing


def test_completions_stream_and_are_given_again(tmp_path: Path) -> None:
    with serving(tree(), problems(1), tmp_path) as server:
        key = server.key("a", "root/sample", Budget(rollouts=2))
        asked = {"prompt": []}
        once = {"Idempotency-Key": "12345678"}
        first, second = (ask(server, key, "/v1/completions", asked, **once) for _ in range(2))
        assert first.json()["choices"] == second.json()["choices"]
        streamed = ask(server, key, "/v1/completions", {**asked, "stream": True})
        events = [line[6:] for line in streamed.text.splitlines() if line.startswith("data: ")]
        assert events[-1] == "[DONE]"
        assert json.loads(events[-2])["choices"][0]["finish_reason"] in ("stop", "length")
        assert ask(server, key, "/v1/completions", asked).status_code == 429


@pytest.mark.slow(1)
def test_bad_bodies_are_refused_and_nothing_breaks(tmp_path: Path) -> None:
    with serving(tree(), problems(1), tmp_path) as server:
        key = server.key("a", "root/sample", per_minute=1000)
        url, auth = f"{server.url}/v1/sessions", {"Authorization": f"Bearer {key}"}
        for content, status in (
            (b"{", 400),
            (b"[]", 400),
            (b'{"problem": 3}', 400),
            (b'{"problem": "none"}', 400),
            (b'{"problem": "p0", "contract": "chosen/full"}', 403),
            (b'{"problem": "p0", "budget": {"tokens": -1}}', 400),
            (b" " * (9 << 20), 413),
        ):
            said = httpx2.post(url, content=content, headers=auth, trust_env=False)
            assert said.status_code == status, said.text
        session = ask(server, key, "/v1/sessions", {"problem": "p0"}).json()["session"]
        other = server.key("b", "root/sample")
        assert (
            ask(server, other, f"/v1/sessions/{session}/turns/0", {"messages": []}).status_code
            == 404
        )
        for message in (
            {"ask": [{}]},
            {"ask": 3},
            {"text": [K]},
            {"nosuch": 1},
            {"ask": [], "text": []},
        ):
            said = ask(server, key, f"/v1/sessions/{session}/turns/0", {"messages": [message]})
            assert said.status_code < 500, said.text
        for path in ("/health", "/ready", "/metrics", "/openapi.json"):
            assert httpx2.get(server.url + path, trust_env=False).status_code == 200


def test_too_many_requests_are_told_when_to_come_again(tmp_path: Path) -> None:
    with serving(tree(), problems(1), tmp_path) as server:
        key = server.key("a", "root/sample", per_minute=2)
        said = [ask(server, key, "/v1/decode", {"sequences": [[END]]}) for _ in range(3)]
        assert [one.status_code for one in said] == [200, 200, 429]
        assert int(said[-1].headers["retry-after"]) >= 1


def test_rounds_take_one_request_of_each_key_in_turn(tmp_path: Path) -> None:
    from reroot.serving.desk import Busy, Desk
    from reroot.serving.keys import Key
    from reroot.serving.tasks import Account

    class Silent(Desk):
        def _work(self) -> None:
            """Nobody works, so that queues can be looked at."""

    desk = Silent(unwritten())
    grants = reroot.Contract.parse("root/sample")
    keys = [Key(name, "0" * 64, grants, queue=3) for name in ("many", "few")]
    for _ in range(3):
        desk.submit(Account(keys[0]))
    with pytest.raises(Busy):
        desk.submit(Account(keys[0]))
    last: Future[dict[str, Any]] = desk.submit(Account(keys[1]))
    order = desk._next()
    assert order is not None
    assert [task.key.name for task in order] == ["many", "few", "many", "many"]
    assert order[1].future is last


@pytest.mark.slow(20)
def test_compare_over_http_with_kills_is_compare_in_process(tmp_path: Path) -> None:
    """The command line throughout; the server is killed while the comparison runs, and started again."""
    from transcripts import left_in

    environment = {**os.environ, "REROOT_API_KEY": ""}
    keys, db, model = tmp_path / "keys.toml", tmp_path / "db", "hidden_path:K=3,H=4,p=0.6"
    add = [
        *COMMAND,
        "keys",
        "add",
        "a",
        "--keys",
        str(keys),
        "--grants",
        "chosen/full+reward+verifier+demonstration",
    ]
    added = subprocess.run([*add, "--results"], capture_output=True, text=True, check=True)
    environment["REROOT_API_KEY"] = added.stdout.strip()

    def start(port: int) -> tuple[subprocess.Popen[str], int]:
        where = ["--keys", str(keys), "--db", str(db), "--port", str(port), "--problems", "2"]
        server = subprocess.Popen(
            [*COMMAND, "serve", "--model", model, *where, "--seeds", "1"],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert server.stdout is not None
        line = server.stdout.readline()
        return server, int(line.rsplit(":", 1)[1])

    server, port = start(0)
    common = ["--budget-tokens", "400", "--transcripts"]  # seeds and problems are those it serves
    common += ["--learner", "best_of_n:n=6", "--learner", "plurality_walk:draws_per_token=4"]
    try:
        there = subprocess.Popen(
            [
                *COMMAND,
                "compare",
                "--model",
                f"http://127.0.0.1:{port}",
                *common,
                "--out",
                str(tmp_path / "there"),
            ],
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        for _ in range(2):
            with suppress(subprocess.TimeoutExpired):
                there.wait(1.5)
            server.send_signal(signal.SIGKILL)
            server.wait()
            server, _ = start(port)
        assert there.wait(60) == 0
    finally:
        server.terminate()
        server.wait()
    here = [*COMMAND, "compare", "--model", model, *common, "--seeds", "1", "--problems", "2"]
    here += ["--out", str(tmp_path / "here")]
    subprocess.run(here, check=True, stdout=subprocess.DEVNULL)
    mine, theirs = left_in(tmp_path / "here"), left_in(tmp_path / "there")
    del mine["results.parquet"], theirs["results.parquet"]
    assert mine == theirs
    assert len(mine) > 2
