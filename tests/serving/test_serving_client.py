"""The client at servers that say odd things: what is tried again, for how long, and what is an error of which kind."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from reroot.errors import AccessDenied, BackendError, InvalidInput, RerootError
from reroot.serving.client import Post, connect

Said = tuple[int, dict[str, str], Any]


class Scripted(ThreadingHTTPServer):
    """Says what it is told to say, one after the other; then the last again.

    Attributes:
        says: (status, headers, content) of each answer.
        asked: (path, idempotency key, body) of each request.
    """

    daemon_threads = True

    def __init__(self) -> None:
        self.says: list[Said] = []
        self.asked: list[tuple[str, str | None, bytes]] = []
        super().__init__(("127.0.0.1", 0), Answers)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Scripted)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        server.asked.append((self.path, self.headers.get("Idempotency-Key"), body))
        status, headers, content = server.says.pop(0) if server.says[1:] else server.says[0]
        sent = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(sent))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(sent)

    do_GET = do_POST

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def running() -> Iterator[Scripted]:
    server = Scripted()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def server(running: Scripted) -> Scripted:
    running.asked = []
    return running


def refused(code: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": "no", "type": "x", "param": None, "code": code, **more}}


GOOD: Said = (200, {}, {"a": 1})
AGAIN: dict[str, str] = {"Retry-After": "0"}


def ask(server: Scripted, *says: Said, patience: float = 5.0, **more: Any) -> Any:
    server.says = list(says)
    post = Post(server.url + "/", "rr-key", patience)
    try:
        return post.ask("POST", "/v1/x", **more)
    finally:
        post.close()


@pytest.mark.parametrize(
    "before",
    [(429, AGAIN, refused("rate_limit_exceeded")), (503, AGAIN, refused("unavailable")), (502, {}, b"gateway")],
    ids=str,
)  # fmt: skip
def test_no_place_is_asked_again_under_the_same_name(before: Said, server: Scripted) -> None:
    body = {"n": float("inf"), "text": "\ud800"}
    assert ask(server, before, GOOD, body=body, once="a name") == {"a": 1}
    assert len(server.asked) == 2
    assert server.asked[0] == server.asked[1]
    assert server.asked[0] == ("/v1/x", "a name", b'{"n":Infinity,"text":"\\ud800"}')


def test_patience_ends(server: Scripted) -> None:
    with pytest.raises(BackendError, match=f"{server.url} cannot be reached: it says: 504"):
        ask(server, (504, {}, b""), patience=0.4)
    assert len(server.asked) == 1
    with pytest.raises(BackendError, match="cannot be reached: it says: 429"):
        ask(server, (429, {"Retry-After": "9"}, b""), patience=2.0)
    with pytest.raises(BackendError, match="cannot be reached: Connect"):
        Post("http://127.0.0.1:1", "rr-key", 0.01).ask("GET", "/v1/x")


@pytest.mark.parametrize(
    ("said", "kind", "match"),
    [
        *(((status, {}, refused("x")), InvalidInput, "says: no") for status in (400, 401, 404, 410)),
        *(((status, {}, refused("x")), BackendError, "says: no") for status in (403, 409, 429, 500)),
        ((429, {"Retry-After": "soon"}, refused("x")), BackendError, "says: no"),
        ((403, {}, refused("x", reroot={"type": "AccessDenied", "query": "q", "rule": "r", "weakest": "w"})),
         AccessDenied, "q"),
        ((413, {}, refused("x", reroot={"type": "InvalidInput", "message": "too large"})), InvalidInput, "too large"),
        ((400, {}, refused("x", reroot={"type": "Unheard", "message": "of"})), BackendError, "of"),
        ((200, {}, b"<html>"), BackendError, "is no 'reroot serve': it answers 200 to /v1/x"),
        ((404, {}, {"detail": "nothing"}), BackendError, "is no 'reroot serve': it answers 404"),
        ((404, {}, []), BackendError, "is no 'reroot serve'"),
    ],
    ids=lambda value: str(value)[:60],
)  # fmt: skip
def test_errors_are_of_the_kind_that_they_say(
    said: Said, kind: type[RerootError], match: str, server: Scripted
) -> None:
    with pytest.raises(kind, match=match) as error:
        ask(server, said)
    assert type(error.value) is kind
    assert len(server.asked) == 1


def test_what_is_no_server_is_named(server: Scripted) -> None:
    with pytest.raises(InvalidInput, match="a server is named http://HOST:PORT, got 'ftp://x'"):
        connect("ftp://x", "rr-key")
    for content in ({}, [], {"about": {}, "problems": []}, {"about": None, "problems": None}):
        server.says = [(200, {}, content)]
        with pytest.raises(BackendError, match="is no 'reroot serve'"):
            connect(server.url, "rr-key")
