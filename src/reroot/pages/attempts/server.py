"""The page served on this machine alone."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ...errors import InvalidInput, RunFolderError, visible
from .page import Pages

HOST = "127.0.0.1"
_PATHS = "there is /, /tree?attempt=N and /new?generation=N&seen=N&problems=N"
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@contextlib.contextmanager
def serving(pages: Pages, port: int = 0) -> Iterator[str]:
    """Serve the page, and what comes, on 127.0.0.1 until the context is left; its address.

    Args:
        pages: the attempts.
        port: to listen at; 0: a free one.

    Raises:
        InvalidInput: the port is none, or it is taken.
    """
    if not 0 <= port < 1 << 16:
        raise InvalidInput(f"a port is an integer in 0…65535, got {port}")
    try:
        server = ThreadingHTTPServer((HOST, port), _handler(pages))
    except OSError as error:
        raise InvalidInput(f"can't listen at port {port}: {error.strerror}") from None
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(pages: Pages) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host, port = HOST, self.server.server_address[1]  # type: ignore[index]
            # a page elsewhere may point its own name at this machine, and read what it is given
            if self.headers.get("Host") not in (f"{host}:{port}", f"localhost:{port}"):
                self._say(
                    HTTPStatus.MISDIRECTED_REQUEST, b"served to this machine alone", "text/plain"
                )
                return
            asked = urlsplit(self.path)
            try:
                if asked.path == "/":
                    pages.look()
                    page = pages.html().encode("utf-8")
                    self._say(HTTPStatus.OK, page, "text/html; charset=utf-8")
                elif asked.path == "/tree":
                    self._tree(parse_qs(asked.query))
                elif asked.path == "/new":
                    self._new(parse_qs(asked.query))
                else:
                    self._say(HTTPStatus.NOT_FOUND, _PATHS.encode(), "text/plain")
            except RunFolderError as error:
                self._json(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": visible(str(error))})

        def _tree(self, asked: Mapping[str, Sequence[str]]) -> None:
            place = _number(asked, "attempt")
            if place is None or place >= len(pages.records):
                said = {"error": f"there are {len(pages.records)} attempts, from 0"}
                self._json(HTTPStatus.NOT_FOUND, said)
                return
            self._json(HTTPStatus.OK, pages.tree(place))

        def _new(self, asked: Mapping[str, Sequence[str]]) -> None:
            known = [_number(asked, name) for name in ("generation", "seen", "problems")]
            if None in known:
                self._json(HTTPStatus.NOT_FOUND, {"error": _PATHS})
                return
            self._json(HTTPStatus.OK, pages.since(*(n or 0 for n in known)))

        def _json(self, status: HTTPStatus, said: Any) -> None:
            self._say(status, json.dumps(said).encode("ascii"), "application/json")

        def _say(self, status: HTTPStatus, body: bytes, kind: str) -> None:
            self.send_response(status)
            for name, value in _HEADERS.items():
                self.send_header(name, value)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: the terminal is for the address."""

    return Handler


def _number(asked: Mapping[str, Sequence[str]], name: str) -> int | None:
    """An integer from 0 of what was asked; ``None``: it is none."""
    text = asked.get(name, [""])[0]
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else None
