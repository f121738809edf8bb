"""How requests are counted, and in which words they are refused."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from starlette.requests import Request

from reroot import Contract
from reroot.errors import AccessDenied, BackendError, BudgetExceeded, InvalidInput, RerootError
from reroot.serving import border
from reroot.serving.border import MOST_BYTES, Rates, Refused, read, refusal
from reroot.serving.database import Unavailable
from reroot.serving.desk import Busy
from reroot.serving.keys import Key
from reroot.serving.live import Conflict
from reroot.serving.schemas import Decode
from reroot.serving.sessions import NotFound, Pruned
from reroot.serving.sizes import TooLarge

GRANTS = Contract.parse("root/sample")


class Clock:
    """Seconds, as a test has them go."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


def test_a_minute_brings_what_may_be_asked_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it at once, then evenly; what is not used does not pile up; keys are counted apart."""
    clock, rates = Clock(), Rates()
    monkeypatch.setattr(border, "time", clock)
    one, two = (Key(name, "0" * 64, GRANTS, per_minute=6) for name in "ab")

    def taken(key: Key, most: int = 20) -> int:
        refused: Refused | None = None
        count = 0
        while refused is None and count < most:
            try:
                rates.take(key)
                count += 1
            except Refused as error:
                refused = error
        if refused is not None:
            assert (refused.status, refused.code) == (429, "rate_limit_exceeded")
            assert "6 requests per minute" in str(refused)
            waits.append(refused.wait)
        return count

    waits: list[int | None] = []
    assert (taken(one), taken(two)) == (6, 6)
    clock.now += 8.5
    assert taken(one) == 0
    assert waits == [11, 11, 2]
    clock.now += 2.0
    assert taken(one) == 1
    clock.now += 1000.0
    assert taken(one) == 6
    assert taken(Key("c", "0" * 64, GRANTS)) == 20  # no limit


@pytest.mark.parametrize(
    ("error", "status", "code", "wait", "kind"),
    [
        (Refused(413, "too_large", "x"), 413, "too_large", None, "invalid_request_error"),
        (Busy("x"), 429, "rate_limit_exceeded", "1", "rate_limit_error"),
        (Unavailable("x"), 503, "unavailable", "1", "api_error"),
        (NotFound("x"), 404, "not_found", None, "invalid_request_error"),
        (Pruned("x"), 410, "pruned", None, "invalid_request_error"),
        (Conflict("x"), 409, "conflict", None, "invalid_request_error"),
        (BudgetExceeded("tokens", 3, 2), 429, "insufficient_quota", None, "rate_limit_error"),
        (AccessDenied("q", "r", "w"), 403, "permission_denied", None, "permission_error"),
        (TooLarge("x"), 413, "too_large", None, "invalid_request_error"),
        (InvalidInput("x"), 400, "invalid_request", None, "invalid_request_error"),
        (BackendError("a law"), 500, "server_error", None, "api_error"),
        (RuntimeError("a law"), 500, "server_error", None, "api_error"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_each_refusal_has_its_status_and_its_words(
    error: Exception, status: int, code: str, wait: str | None, kind: str
) -> None:
    """What failed behind the door is said in a fixed sentence; when to come again only where that helps."""
    said = refusal(error)
    told = json.loads(bytes(said.body))["error"]
    assert (said.status_code, told["code"], told["type"]) == (status, code, kind)
    assert said.headers.get("retry-after") == wait
    assert "a law" not in bytes(said.body).decode()
    learners = (BudgetExceeded, AccessDenied, InvalidInput)
    shown = isinstance(error, learners) or status == 500
    assert ("reroot" in told) == shown
    if isinstance(error, TooLarge):
        assert told["reroot"]["type"] == "InvalidInput"
    if isinstance(error, RerootError) and status < 500:
        assert told["message"] == str(error)


def test_a_missing_key_is_told_how_to_be_given_and_long_words_are_cut() -> None:
    assert refusal(Refused(401, "x", "x")).headers["www-authenticate"] == "Bearer"
    assert "www-authenticate" not in refusal(Refused(400, "x", "x")).headers
    for length, shown in ((4000, 4000), (4001, 4000)):
        message = json.loads(bytes(refusal(InvalidInput("x" * length)).body))["error"]["message"]
        assert (len(message), message.endswith("…")) == (shown, length > 4000)


def request(parts: list[bytes], headers: dict[str, str]) -> Request:
    sent = iter(parts)

    async def receive() -> dict[str, Any]:
        part = next(sent, None)
        if part is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": part, "more_body": part != parts[-1]}

    told = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "headers": told, "path": "/"}, receive)


BODY = b'{"sequences": []}'


@pytest.mark.parametrize(
    ("parts", "headers", "status"),
    [
        ([BODY + b" " * (MOST_BYTES - len(BODY))], {}, None),
        ([BODY, b" " * (MOST_BYTES - len(BODY) + 1)], {}, 413),  # whatever length it says
        ([BODY], {"Content-Length": str(MOST_BYTES)}, None),
        ([BODY], {"Content-Length": str(MOST_BYTES + 1)}, 413),
        ([BODY], {"Content-Length": "9" * 10}, 413),
        ([BODY], {"Content-Type": "APPLICATION/JSON ; charset=utf-8"}, None),
        ([BODY], {"Content-Type": "application/jsonl"}, 415),
        ([b'{"sequences": [[1], [2], [1.5]]}'], {}, 400),
        ([b'{"sequences": [], "sequences": []}'], {}, 400),
        ([b""], {}, 400),
    ],
    ids=range(10),
)  # fmt: skip
def test_bodies_are_taken_up_to_their_limit(
    parts: list[bytes], headers: dict[str, str], status: int | None
) -> None:
    given = request(parts, headers)
    if status is None:
        assert asyncio.run(read(given, Decode)).sequences == []
        return
    with pytest.raises(Refused) as error:
        asyncio.run(read(given, Decode))
    assert error.value.status == status


def test_a_body_that_is_cut_off_is_refused() -> None:
    with pytest.raises(Refused, match="cut off"):
        asyncio.run(read(request([], {}), Decode))
