"""Bodies, headers and paths that are nearly right or plainly hostile: refused as the description says,
or answered as it says; never a failure of the server."""

from __future__ import annotations

import json
import os
import random
import socket
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from jsonschema import Draft202012Validator

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

INTEGERS: tuple[Any, ...] = (
    *(0, 1, 1, 2, 2, 3, 4, 5, 6, -1, 2**31, 2**62, 2**63, 2**64, 10**30, -(2**70)),
    *(True, 1.0, 1.5, float("nan"), float("inf"), -float("inf"), None, "1", [], {}, 10**4000),
)
REPORTS = ("sample", "sample", "logprob", "full", "argmax", "argmax(2)", "topk(2)", "topk(1)", "topk(0)",
           "topk(-1)", "none", "", "topk(9999999999999999999999)", "topk(٢)", "Sample", "sample\x00",
           f"topk({'9' * 5000})", "topk(1)(2)", 3, None)  # fmt: skip
TEXTS = (
    "",
    "p0",
    "p1",
    "x" * 5000,
    "\x00",
    "\ud800",
    "é",
    "e\u0301",
    "𝕡0",
    "p0\u200b",
    "../../x",
    "own/1",
    "\x1f",
    3,
    None,
)
LAWS = ("root/sample", "chosen/full", "reset/topk(2)", "visited/logprob", "root/sample@T=0.5", "root/sample@T=nan",
        "root/sample@T=1e999", "root/sample@top_k=99999999999999999999", "chosen/full+reward+reward", "Root/Sample",
        "ｒｏｏｔ/ｓａｍｐｌｅ", "chosen/topk(2)@T=0", None, "", "/", 5)  # fmt: skip

METADATA = ("{}", '{"a": NaN}', '{"\\ud800": -Infinity}', '{"a": %s}' % ("[" * 99 + "]" * 99), "[]", "", "{", {}, None,
            '{"a": %s}' % ("[" * 100 + "]" * 100), '{"a":' * 5000, '{"a": %s}' % ("9" * 5000), '{"\\u0000": 1}')  # fmt: skip

Draw = random.Random


def tokens(rng: Draw) -> Any:
    if rng.random() < 0.1:
        return rng.choice(INTEGERS)
    odd = rng.random() < 0.2
    return [rng.choice(INTEGERS) if odd else rng.randrange(4) for _ in range(rng.randrange(7))]


def prefixes(rng: Draw) -> Any:
    return (
        [tokens(rng) for _ in range(rng.randrange(4))]
        if rng.random() < 0.9
        else rng.choice(INTEGERS)
    )


def integer(rng: Draw) -> Any:
    return rng.choice(INTEGERS) if rng.random() < 0.4 else rng.choice((1, 1, 2, 3, None))


def query(rng: Draw) -> Any:
    made = {
        "prefix": tokens(rng) if rng.random() < 0.7 else [],
        "n": integer(rng) or 1,
        "length": integer(rng),
        "report": rng.choice(REPORTS),
        "forced": tokens(rng) if rng.random() < 0.2 else None,
    }
    if rng.random() < 0.05:
        made.pop(rng.choice([*made]))
    if rng.random() < 0.05:
        made["more"] = 1
    return made


def message(rng: Draw) -> Any:
    return rng.choice((
        lambda: {"ask": [query(rng) for _ in range(rng.randrange(4))]},
        lambda: {"ask": [query(rng)]},
        lambda: {rng.choice(("reward", "verifier", "value")): prefixes(rng)},
        lambda: {"demonstration": integer(rng)},
        lambda: {"hidden": prefixes(rng), "layers": integer(rng)},
        lambda: {"text": tokens(rng)},
        lambda: rng.choice((None, 3, [], {}, {"ask": None}, {"ask": [None]}, {"ask": [], "text": []})),
    ))()  # fmt: skip


def turn(rng: Draw) -> Any:
    return {"messages": [message(rng) for _ in range(rng.randrange(3))]}


CURRENCIES = (*Budget.__dataclass_fields__, "token", "")


def opening(rng: Draw) -> Any:
    fields = {
        "problem": lambda: rng.choice(TEXTS) if rng.random() < 0.3 else "p0",
        "contract": lambda: rng.choice(LAWS),
        "budget": lambda: {
            rng.choice(CURRENCIES): rng.choice(INTEGERS) for _ in range(rng.randrange(3))
        },
        "seed": lambda: rng.choice(INTEGERS),
        "learner": lambda: rng.choice(TEXTS),
        "key": lambda: rng.choice(TEXTS),
    }
    chosen = {name: make() for name, make in fields.items() if rng.random() < 0.3}
    return {"problem": "p0", **chosen}


def closing(rng: Draw) -> Any:
    fields = {
        "output": lambda: tokens(rng),
        "metadata": lambda: rng.choice(METADATA),
        "error": lambda: rng.choice((
            None, {}, {"kind": "E", "message": "m"}, {"kind": "x" * 5000, "message": ""}, {"kind": 1, "message": 2},
            {"kind": "", "message": "x" * 9000, "who": "generator", "file": "/etc/passwd", "line": rng.choice(INTEGERS)},
            {"kind": "\x00", "message": "\ud800"}, {"kind": "E", "message": "m", "more": 1},
        )),
        "out_of_budget": lambda: rng.choice((True, False, 1, None)),
    }  # fmt: skip
    return {name: make() for name, make in fields.items() if rng.random() < 0.6}


def asking(rng: Draw) -> Any:
    fields = {
        "n": lambda: integer(rng),
        "max_tokens": lambda: integer(rng),
        "seed": lambda: rng.choice(INTEGERS),
        "stop": lambda: rng.choice(("", "\n", [], ["a"] * 9, [""], ["\x00"], 3, None, "\ud800")),
        "stream": lambda: rng.choice((True, False, 1)),
        "stream_options": lambda: rng.choice(
            (None, {}, {"include_usage": True}, {"include_usage": 1})
        ),
        "temperature": lambda: rng.choice((1, 1.0, 0, float("nan"), -1, "1", 10**400)),
        "top_p": lambda: rng.choice((1, 0.5, float("inf"))),
        "user": lambda: rng.choice(TEXTS),
        "model": lambda: rng.choice(("toy", "", "other", "\x00", 3)),
        "logit_bias": lambda: rng.choice(({}, {"1": 5}, None)),
        "best_of": lambda: rng.choice(INTEGERS),
        "echo": lambda: rng.choice((True, False, 0)),
        "suffix": lambda: rng.choice(TEXTS),
    }
    return {name: make() for name, make in fields.items() if rng.random() < 0.15}


def completing(rng: Draw) -> Any:
    prompt = rng.choice(
        (
            tokens(rng),
            tokens(rng),
            [tokens(rng)],
            [tokens(rng)] * 2,
            rng.choice(TEXTS),
            [],
            ["a"],
            [[]],
        )
    )
    more = {"logprobs": integer(rng)} if rng.random() < 0.4 else {}
    return {"prompt": prompt, **asking(rng), **more}


def chatting(rng: Draw) -> Any:
    said = rng.choice(
        (
            "hi",
            "",
            "\x00",
            "\ud800",
            [{"type": "text", "text": "a"}],
            [{"type": "image_url"}],
            None,
            3,
            [],
        )
    )
    one = {"role": rng.choice(("user", "assistant", "system", "", "x" * 300, 3)), "content": said}
    more = {"logprobs": True, "top_logprobs": rng.choice(INTEGERS)} if rng.random() < 0.4 else {}
    return {"messages": rng.choice(([one], [one], [one] * 3, [], None)), **asking(rng), **more}


@pytest.mark.slow(12)
def test_what_is_nearly_right_is_answered_or_refused(client: Client) -> None:
    """The accounts never exceed the keys', and no session is lost by what was refused in it."""
    rng, before = random.Random(SEED), len(client.statuses)
    kinds: tuple[tuple[str, Callable[[Draw], Any]], ...] = (
        ("/v1/sessions", opening),
        ("/v1/sessions/{}/turns/{}", turn),
        ("/v1/sessions/{}/close", closing),
        ("/v1/completions", completing),
        ("/v1/chat/completions", chatting),
        ("/v1/decode", lambda rng: {"sequences": prefixes(rng)}),
    )
    open_: dict[str, tuple[str, int]] = {}
    for _ in range(CASES):
        path, make = kinds[rng.choice((0, 1, 1, 1, 2, 3, 3, 4, 5))]
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
        *((m, "/v1/sessions", 405) for m in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")),
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
