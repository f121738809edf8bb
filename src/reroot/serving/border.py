"""The border: who asks, how often, how much; and how errors are told."""

from __future__ import annotations

import json
import time
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from ..errors import AccessDenied, BudgetExceeded, InvalidInput
from .database import Unavailable
from .desk import Busy, told_error
from .keys import Key, KeyFile
from .live import Conflict
from .sessions import NotFound
from .wire import error_to_json

MOST_BYTES = 8 << 20
"""Bytes of a request."""

_to_json = json.JSONEncoder(separators=(",", ":")).encode
_Model = TypeVar("_Model", bound=BaseModel)


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
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    found = keys.find(given.strip()) if scheme.lower() == "bearer" else None
    if found is None:
        raise Refused(401, "invalid_api_key", "give a valid key: Authorization: Bearer KEY")
    rates.take(found)
    return found


async def read(request: Request, model: type[_Model]) -> _Model:
    """The body of a request, checked (``Refused``)."""
    too_large = Refused(413, "too_large", f"a request has at most {MOST_BYTES:,} bytes")
    said = request.headers.get("content-length", "0")
    if len(said) > 9 or (said.isdecimal() and int(said) > MOST_BYTES):
        raise too_large  # before it is all in memory
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > MOST_BYTES:
                raise too_large
    except ClientDisconnect:
        raise Refused(400, "invalid_request", "the request is cut off") from None
    try:
        return model.model_validate_json(bytes(body))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise Refused(400, "invalid_request", f"{where}: {first['msg']}".strip(": ")) from None


def answer(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON, with numbers to the last digit; infinities as Python writes them."""
    return Response(_to_json(content).encode(), status, headers, "application/json")


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
    elif isinstance(error, Conflict):
        status, code = 409, "conflict"
    elif isinstance(error, BudgetExceeded):
        status, code = 429, "insufficient_quota"
    elif isinstance(error, AccessDenied):
        status, code = 403, "permission_denied"
    elif isinstance(error, InvalidInput):
        status, code = 400, "invalid_request"
    else:
        status, code = 500, "server_error"
    message = str(error)
    if isinstance(error, (BudgetExceeded, AccessDenied, InvalidInput)) or status == 500:
        told = error_to_json(told_error(error))
        message = message if status < 500 else "the server failed"
    body = {
        "message": message,
        "type": _TYPES.get(status, "api_error"),
        "param": None,
        "code": code,
    }
    content = {"error": body | ({} if told is None else {"reroot": told})}
    return answer(content, status, None if wait is None else {"Retry-After": str(wait)})


_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    409: "invalid_request_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
}
