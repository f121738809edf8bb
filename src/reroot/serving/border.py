"""The border: who asks, how often, how much; and how errors are told."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import AccessDenied, BudgetExceeded, InvalidInput
from .database import Unavailable
from .desk import Busy, told_error
from .jsontext import json_of
from .keys import Key, KeyFile
from .live import Conflict
from .sessions import NotFound, Pruned
from .sizes import TooLarge
from .wire import error_to_json

MOST_BYTES = 8 << 20
"""Bytes of a request."""

_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True)
class App:
    """An ASGI application that is not seen to be a function: a route would put others around it."""

    handle: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.handle(scope, receive, send)


class Refused(Exception):
    """A request that is not let in.

    Attributes:
        status: of HTTP.
        code: as OpenAI's clients know it.
        wait: seconds after which to try again.
    """

    def __init__(self, status: int, code: str, message: str, wait: int | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.wait = status, code, wait


class Rates:
    """Requests per minute, key by key: a bucket that fills evenly and holds what a minute brings."""

    def __init__(self) -> None:
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, key: Key) -> None:
        """Count a request (``Refused``: there were too many)."""
        if key.per_minute is None:
            return
        now, rate = time.monotonic(), key.per_minute / 60.0
        left, at = self._left.get(key.name, (float(key.per_minute), now))
        left = min(float(key.per_minute), left + (now - at) * rate)
        if left < 1.0:
            self._left[key.name] = (left, now)
            wait = int((1.0 - left) / rate) + 1
            message = f"this key may make {key.per_minute} requests per minute"
            raise Refused(429, "rate_limit_exceeded", message, wait)
        self._left[key.name] = (left - 1.0, now)


def key_of(request: Request, keys: KeyFile, rates: Rates) -> Key:
    """Whose request it is (``Refused``)."""
    names = {name for name, _ in request.scope["headers"]}
    if b"transfer-encoding" in names and b"content-length" in names:
        message = "a request has a length or comes in chunks, not both"
        raise Refused(400, "invalid_request", message)
    scheme, _, given = (_header(request, "authorization") or "").partition(" ")
    found = keys.find(given.strip(" ")) if scheme.lower() == "bearer" else None
    if found is None:
        raise Refused(401, "invalid_api_key", "give a valid key: Authorization: Bearer KEY")
    rates.take(found)
    return found


def _header(request: Request, name: str) -> str | None:
    """A header that may stand once: of two, others on the way may have seen another than this does."""
    wanted = name.encode()
    given = [value for other, value in request.scope["headers"] if other == wanted]
    if len(given) > 1:
        raise Refused(400, "invalid_request", f"the header {name} stands there {len(given)} times")
    return given[0].decode("latin-1") if given else None


def idempotency_key(request: Request) -> str | None:
    """Under what name a request is to be done once (``Refused``)."""
    given = _header(request, "idempotency-key")
    if given is not None and not _ONCE.fullmatch(given):
        message = "an idempotency key has 8 to 256 printable characters of ASCII"
        raise Refused(400, "invalid_request", message)
    return given


_TOO_LARGE = f"a request has at most {MOST_BYTES:,} bytes"


async def read(request: Request, model: type[_Model]) -> _Model:
    """The body of a request, checked (``Refused``)."""
    kind = (_header(request, "content-type") or "application/json").partition(";")[0].strip()
    if kind.lower() != "application/json":
        raise Refused(
            415, "unsupported_media_type", f"a body is application/json, not {kind!r:.80}"
        )
    too_large = Refused(413, "too_large", _TOO_LARGE)
    said = _header(request, "content-length") or "0"
    if len(said) > 9 or (said.isdecimal() and int(said) > MOST_BYTES):
        raise too_large  # before it is all in memory
    parts, length, more = [], 0, True
    while more:
        message = await request.receive()
        if message["type"] != "http.request":
            raise Refused(400, "invalid_request", "the request is cut off")
        parts.append(message.get("body", b""))
        length, more = length + len(parts[-1]), message.get("more_body", False)
        if length > MOST_BYTES:
            raise too_large
    try:
        body = b"".join(parts)
        checked = model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise Refused(400, "invalid_request", f"{where}: {first['msg']}".strip(": ")) from None
    try:
        json.loads(body, object_pairs_hook=_distinct)
    except (ValueError, RecursionError) as error:  # numbers without end among them
        raise Refused(400, "invalid_request", f"the body is no JSON: {error}") from None
    return checked


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object in which no name stands twice: of two, others on the way may have seen the other one."""
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = counts.most_common(1)[0][0]
        raise Refused(400, "invalid_request", f"{twice!r:.80} stands twice in one object")
    return found


def answer(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON, with numbers to the last digit; infinities as Python writes them."""
    return Response(json_of(content), status, headers, "application/json")


def told_answer(content: bytes, status: int = 200) -> Response:
    """What is JSON already."""
    return _Json(content, status)


class _Json(Response):
    """JSON, with no other headers than it needs."""

    def __init__(self, content: bytes, status: int) -> None:
        self.body, self.status_code, self.background = content, status, None
        length = (b"content-length", b"%d" % len(content))
        self.raw_headers = [length, (b"content-type", b"application/json")]


def refusal(error: BaseException) -> Response:
    """An error as OpenAI's clients expect it; ``reroot`` holds it as sessions do."""
    told: dict[str, Any] | None = None
    wait: int | None = None
    if isinstance(error, Refused):
        status, code, wait = error.status, error.code, error.wait
    elif isinstance(error, Busy):
        status, code, wait = 429, "rate_limit_exceeded", 1
    elif isinstance(error, Unavailable):
        status, code, wait = 503, "unavailable", 1
    elif isinstance(error, NotFound):
        status, code = 404, "not_found"
    elif isinstance(error, Pruned):
        status, code = 410, "pruned"
    elif isinstance(error, Conflict):
        status, code = 409, "conflict"
    elif isinstance(error, BudgetExceeded):
        status, code = 429, "insufficient_quota"
    elif isinstance(error, AccessDenied):
        status, code = 403, "permission_denied"
    elif isinstance(error, TooLarge):
        status, code = 413, "too_large"
    elif isinstance(error, InvalidInput):
        status, code = 400, "invalid_request"
    else:
        status, code = 500, "server_error"
    message = str(error)
    if isinstance(error, (BudgetExceeded, AccessDenied, InvalidInput)) or status == 500:
        told = error_to_json(told_error(error))
        message = message if status < 500 else "the server failed"
    if len(message) > _MOST_TEXT:
        message = message[: _MOST_TEXT - 1] + "…"
    body = {
        "message": message,
        "type": _TYPES.get(status, "api_error"),
        "param": None,
        "code": code,
    }
    content = {"error": body | ({} if told is None else {"reroot": told})}
    headers = {} if wait is None else {"Retry-After": str(wait)}
    headers |= {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    return answer(content, status, headers)


async def refused_by_router(request: Request, error: Exception) -> Response:
    """A path that there is not, or not for this method, in the words of other refusals."""
    assert isinstance(error, HTTPException)
    code = "method_not_allowed" if error.status_code == 405 else "not_found"
    where = f"{request.method} {request.url.path}"
    response = refusal(Refused(error.status_code, code, f"there is no {where:.200}"))
    response.headers.update(error.headers or {})
    return response


_MOST_TEXT = 4000  # characters of a message: it may hold what was asked
_ONCE = re.compile(r"[ -~]{8,256}")
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    409: "invalid_request_error",
    405: "invalid_request_error",
    410: "invalid_request_error",
    408: "invalid_request_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    429: "rate_limit_error",
}
