"""Bodies, headers and paths that are nearly right or plainly hostile: refused as the description says,
or answered as it says; never a failure of the server."""

from __future__ import annotations

import json
import os
import random
import socket
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from jsonschema import Draft202012Validator

from hostile_bodies import KINDS
from reroot import Budget
from reroot.serving import description
from serving_toys import Server, serving
from toys import layered, problems

CASES = int(os.environ.get("REROOT_HOSTILE_CASES", "300"))
SEED = int(os.environ.get("REROOT_HOSTILE_SEED", "11"))
CONTRACTS = (
    "root/sample",
    "visited/topk(2)+reward",
    "reset/argmax(2)+verifier+value",
    "chosen/full+reward+verifier+demonstration+value+hidden",
)


class Client:
    """Sends to a server, and checks each answer against the description.

    Attributes:
        statuses: of all answers.
        keys: contract → key.
    """

    def __init__(self, server: Server) -> None:
        self.keys = {
            g: server.key(f"k{i}", g, Budget(tokens=10**5, prefill=10**5))
            for i, g in enumerate(CONTRACTS)
        }
        self.http = httpx2.Client(base_url=server.url, trust_env=False, timeout=60.0)
        self.server = server
        self.statuses: dict[int, int] = {}
        self._checks: dict[tuple[str, str], Draft202012Validator] = {}

    def send(self, method: str, path: str, key: str, content: Any = None, **headers: str) -> Any:
        """The answer to a request; ``content`` as bytes, or as Python writes JSON."""
        sent = content if isinstance(content, bytes | None) else json.dumps(content).encode()
        headers = {"Authorization": f"Bearer {key}", **headers}
        said = self.http.request(method, path, content=sent, headers=headers)
        self.statuses[said.status_code] = self.statuses.get(said.status_code, 0) + 1
        self.check(method, path, said)
        return said

    def check(self, method: str, path: str, said: Any) -> None:
        assert said.status_code < 500, (path, said.text)
        place = next((p for p in description.PATHS if _fits(p, path)), None)
        if place is None or said.status_code == 405:
            return
        told = description.openapi()
        answers = told["paths"][place][method.lower()]["responses"]
        assert str(said.status_code) in answers, (path, said.status_code, said.text)
        kind = said.headers["content-type"]
        if kind != "application/json":
            assert kind.partition(";")[0] in {
                k.partition(";")[0] for k in answers[str(said.status_code)]["content"]
            }
            return
        check = self._checks.get((place, str(said.status_code)))
        if check is None:
            answer = answers[str(said.status_code)]
            answer = (
                told["components"]["responses"][str(said.status_code)]
                if "$ref" in answer
                else answer
            )
            schema = answer["content"]["application/json"]["schema"]
            check = Draft202012Validator({**schema, "components": told["components"]})
            self._checks[place, str(said.status_code)] = check
        problems = [error.message[:300] for error in check.iter_errors(said.json())]
        assert not problems, (path, problems)

    def session(self, key: str, **terms: Any) -> str:
        said = self.send("POST", "/v1/sessions", key, {"problem": "p0", **terms})
        assert said.status_code == 201, said.text
        return said.json()["session"]


def _fits(place: str, path: str) -> bool:
    parts, given = place.split("/"), path.split("/")
    same = len(parts) == len(given) or (
        place.startswith("/v1/models/{") and path.startswith("/v1/models/")
    )
    return same and all(a == b or a.startswith("{") for a, b in zip(parts, given, strict=False))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with serving(layered(), problems(2), tmp_path_factory.mktemp("served")) as server:
        made = Client(server)
        yield made
        made.http.close()


# ---- nearly right --------------------------------------------------------------------------------


@pytest.mark.slow(3)
def test_what_is_nearly_right_is_answered_or_refused(client: Client) -> None:
    """The accounts never exceed the keys', and no session is lost by what was refused in it."""
    rng, before = random.Random(SEED), len(client.statuses)
    open_: dict[str, tuple[str, int]] = {}
    for _ in range(CASES):
        path, make = KINDS[rng.choice((0, 1, 1, 1, 2, 3, 3, 4, 5))]
        key = client.keys[rng.choice(CONTRACTS)]
        if "{}" in path and (key not in open_ or "close" in path):
            open_[key] = client.session(key, seed=rng.randrange(9)), 0
        session, number = open_.get(key, ("", 0))
        said = client.send("POST", path.format(session, number), key, make(rng))
        if path.endswith("{}") and said.status_code == 200:
            open_[key] = session, number + 1
        if path.endswith("close"):
            del open_[key]
    for key in client.keys.values():
        account = client.send("GET", "/v1/account", key).json()
        assert all(value >= 0 for value in account["left"].values())
    assert len(client.statuses) > before
    print(sum(client.statuses.values()), "requests:", client.statuses)
    assert {200, 201, 400, 403} <= client.statuses.keys()


# ---- plainly hostile -------------------------------------------------------------------------------

DEEP = b"[" * 50_000


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"", {}, 400),
        (b"\xff\xfe", {}, 400),
        (b'{"problem": "p0"}\x00', {}, 400),
        (b'{"problem": "\\ud800"}', {}, 400),
        (b'{"problem": "p0", "seed": NaN}', {}, 400),
        (b'{"problem": "p0", "seed": ' + b"9" * 9999 + b"}", {}, 400),
        (b'{"problem": "p0", "problem": ' + DEEP, {}, 400),
        (b'{"problem": "p0", "budget": {"tokens": 1.5}}', {}, 400),
        (b'{"problem": "p0", "budget": {"tokens": true}}', {}, 400),
        (b'{"problem": "p0", "budget": {"tokens": -1}}', {}, 400),
        (b'{"problem": "p0", "budget": {"usd": NaN}}', {}, 400),
        (b'{"problem": "p0", "budget": {"token": 1}}', {}, 400),
        (b'{"problem": "p0", "more": 1}', {}, 400),
        (b'{"problem": "p0"}', {"Content-Type": "text/plain"}, 415),
        (b"problem=p0", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        (b'{"problem": "p0"}', {"Content-Type": "Application/JSON; charset=utf-8"}, 201),
        (b'{"problem": "p0"}', {"Idempotency-Key": "short"}, 400),
        (b'{"problem": "p0"}', {"Idempotency-Key": "x" * 257}, 400),
        (b'{"problem": "p0"}', {"Idempotency-Key": "na\u00efve-key"}, 400),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_hostile_bodies(content: bytes, headers: Any, status: int, client: Client) -> None:
    key = client.keys["root/sample"]
    headers = {k: v.encode("latin-1") for k, v in headers.items()}
    assert client.send("POST", "/v1/sessions", key, content, **headers).status_code == status


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        *(("GET", path, 404) for path in ("/", "/v1", "/v1/sessions/", "//v1/account", "/v1/nothing")),
        *(("GET", f"/v1/sessions/{s}", 404) for s in ("x", "%00", "..%2f", "0" * 31, "F" * 32, "x" * 9000)),
        *(("POST", f"/v1/sessions/{'0' * 32}/turns/{n}", 404) for n in ("x", "-1", "1.0", "٣", "9" * 5000, 2**31)),
        *(("GET", f"/v1/models/{m}", 404) for m in ("other", "%00", "a/b", "x" * 9000)),
        *((m, "/v1/sessions", 405) for m in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")),
        ("POST", "/v1/account", 405),
        ("POST", "/health", 405),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_hostile_paths(method: str, path: str, status: int, client: Client) -> None:
    content = b'{"messages": []}' if method == "POST" else None
    said = client.send(method, path, client.keys["root/sample"], content)
    assert said.status_code == status
    assert said.json()["error"]["code"] == {404: "not_found", 405: "method_not_allowed"}[status]
    assert status != 405 or said.headers["allow"]


def raw(client: Client, request: bytes) -> bytes:
    """The head of the answer to bytes that are sent as they are."""
    host, _, port = client.server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as line:
        line.sendall(request)
        return line.recv(1 << 16)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ("Authorization: Bearer {key}", b"201"),
        ("Authorization:   bearer   {key}  ", b"201"),
        ("Authorization: Bearer {key}\r\nAuthorization: Bearer {other}", b"400"),
        ("Authorization: Bearer {other}\r\nauthorization: Bearer {key}", b"400"),
        ("Authorization: Bearer {key}, Bearer {other}", b"401"),
        ("Authorization: Basic {key}", b"401"),
        ("Authorization: {key}", b"401"),
        ("X-Api-Key: {key}", b"401"),
        ("Authorization: Bearer {key}\xa0", b"401"),
        ("Authorization: Bearer {key}\r\nIdempotency-Key: 12345678\r\nIdempotency-Key: 87654321", b"400"),
        ("Authorization: Bearer {key}\r\nContent-Type: text/plain\r\nContent-Type: application/json", b"400"),
        ("Authorization: Bearer {key}\r\nTransfer-Encoding: chunked", b"400"),
        ("Authorization: Bearer {key}\r\nContent-Length: 3", b"400"),
    ],
)  # fmt: skip
def test_headers_that_say_two_things(headers: str, status: bytes, client: Client) -> None:
    """Of two keys, names, types or lengths neither is chosen: the request is refused."""
    key, other = client.keys["root/sample"], client.keys["visited/topk(2)+reward"]
    body = b'{"problem": "p0"}'
    told = headers.format(key=key, other=other).encode("latin-1")
    head = b"POST /v1/sessions HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + told
    said = raw(client, head + b"\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    assert said.split(b" ")[1] == status, said


def test_a_method_that_is_none(client: Client) -> None:
    """The parser of HTTP refuses it, before anybody asks for the key."""
    said = raw(client, b"BREW /v1/sessions HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert said.split(b" ")[1] == b"400", said
