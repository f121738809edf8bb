"""The description of the service in OpenAPI 3.1: every path, what it takes, and all that it may answer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel

from .._version import __version__
from . import responses, schemas

_JSON, _TEXT, _EVENTS = "application/json", "text/plain; charset=utf-8", "text/event-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Path:
    """A path.

    Attributes:
        does: in words.
        method: of HTTP.
        body: what it takes.
        answer: what it says when it is done.
        status: then.
        events: of which it says it as server-sent events, where they are asked for.
        text: says it as plain text.
        once: whether an idempotency key makes it one.
        keyed: whether it needs a key.
        refused: other statuses than those of every path.
    """

    does: str
    method: str = "get"
    body: type[BaseModel] | None = None
    answer: type[BaseModel] | None = None
    status: int = 200
    events: type[BaseModel] | None = None
    text: bool = False
    once: bool = False
    keyed: bool = True
    refused: tuple[int, ...] = ()


PATHS: dict[str, _Path] = {
    "/v1/sessions": _Path(
        does="open a session",
        method="post",
        body=schemas.OpenSession,
        answer=responses.Opened,
        status=201,
        once=True,
        refused=(403, 409, 410),
    ),
    "/v1/sessions/{session}": _Path(
        does="the account of a session", answer=responses.SessionAccount, refused=(404, 410)
    ),
    "/v1/sessions/{session}/turns/{number}": _Path(
        does="ask, and be answered",
        method="post",
        body=schemas.Turn,
        answer=responses.Answers,
        refused=(404, 409, 410),
    ),
    "/v1/sessions/{session}/close": _Path(
        does="end a session",
        method="post",
        body=schemas.CloseSession,
        answer=responses.Closed,
        refused=(404, 409, 410),
    ),
    "/v1/account": _Path(does="what the key has spent and has left", answer=responses.KeyAccount),
    "/v1/problems": _Path(does="what is served", answer=responses.Problems),
    "/v1/decode": _Path(
        does="the text of tokens", method="post", body=schemas.Decode, answer=responses.Texts
    ),
    "/v1/models": _Path(does="the model, as OpenAI lists it", answer=responses.Models),
    "/v1/models/{model}": _Path(
        does="the model, as OpenAI tells of one", answer=responses.Model, refused=(404,)
    ),
    "/v1/completions": _Path(
        does="a completion, as OpenAI's",
        method="post",
        body=schemas.Completion,
        answer=responses.TextCompletion,
        events=responses.TextChunk,
        once=True,
        refused=(403, 404, 409, 410),
    ),
    "/v1/chat/completions": _Path(
        does="a message, as OpenAI's",
        method="post",
        body=schemas.ChatCompletion,
        answer=responses.Chat,
        events=responses.ChatChunk,
        once=True,
        refused=(403, 404, 409, 410),
    ),
    "/openapi.json": _Path(does="this description", keyed=False),
    "/health": _Path(does="whether it is there", answer=responses.Health, keyed=False),
    "/ready": _Path(
        does="whether it takes requests", answer=responses.Ready, keyed=False, refused=(503,)
    ),
    "/metrics": _Path(does="counters and gauges of Prometheus", text=True, keyed=False),
}

_REFUSED = {
    400: "the request is malformed, or asks for what there is not",
    401: "no valid key is given",
    403: "the contract does not grant it",
    404: "there is no such thing for this key",
    408: "the request took too long to arrive",
    409: "something else was asked before under the same name, or it is not due",
    410: "it was pruned: what it was told is no longer kept, and is not drawn again",
    413: "the request is too large, or may cost more than one request of the key may",
    415: "the body is not application/json",
    429: "the budget, the rate or the queue has no place",
    500: "the server failed",
    503: "the server is going down",
}
_KEYED, _WITH_BODY = (400, 401, 429, 500, 503), (408, 413, 415)

_PARAMETERS: dict[str, dict[str, Any]] = {
    "session": {"type": "string", "pattern": f"^{schemas.SESSION}$"},
    "number": {"type": "integer", "minimum": 0, "maximum": schemas.MOST_TURNS},
    "model": {"type": "string", "minLength": 1},
}
_ONCE: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "the request is done once under it, and answered the same again",
    "schema": {"type": "string", "pattern": r"^[ -~]{8,256}$"},
}


@cache
def openapi() -> dict[str, Any]:
    """The description of the service."""
    known: dict[str, Any] = {}
    paths = {path: {about.method: _operation(path, about, known)} for path, about in PATHS.items()}
    refused = {str(code): _refused(code, known) for code in _REFUSED}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "reroot serve",
            "version": __version__,
            "description": "Sessions with a generator, by keys that each have a contract. Numbers that are "
            "not finite are written as Python's json writes them: Infinity, -Infinity, NaN.",
        },
        "paths": paths,
        "components": {
            "schemas": known,
            "responses": refused,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(path: str, about: _Path, known: dict[str, Any]) -> dict[str, Any]:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    within = [
        {"name": name, "in": "path", "required": True, "schema": _PARAMETERS[name]}
        for name in names
    ]
    codes = {*about.refused, *(_KEYED if about.keyed else ())}
    told: dict[str, Any] = {
        "summary": about.does,
        "operationId": f"{about.method}_{path.strip('/').replace('/', '_')}",
        "parameters": within + ([_ONCE] if about.once else []),
        "security": [{"key": []}] if about.keyed else [],
    }
    if about.body is not None:
        told["requestBody"] = {
            "required": True,
            "content": {_JSON: {"schema": _schema(about.body, known)}},
        }
        codes |= set(_WITH_BODY)
    content: dict[str, Any] = {}
    if about.text:
        content[_TEXT] = {"schema": {"type": "string"}}
    elif about.answer is None:
        content[_JSON] = {"schema": {"type": "object"}}
    else:
        content[_JSON] = {"schema": _schema(about.answer, known)}
    if about.events is not None:
        content[_EVENTS] = {"schema": _event(about.events, known)}
    told["responses"] = {str(about.status): {"description": "it is done", "content": content}}
    for code in sorted(codes):
        told["responses"][str(code)] = {"$ref": f"#/components/responses/{code}"}
    if path == "/ready":  # it says the same in other words
        told["responses"]["503"] = {"description": "it does not", "content": content}
    return told


def _event(model: type[BaseModel], known: dict[str, Any]) -> dict[str, Any]:
    """One server-sent event."""
    told = {"type": "string", "contentMediaType": _JSON, "contentSchema": _schema(model, known)}
    late = {**told, "contentSchema": _schema(responses.Error, known)}
    data = {"anyOf": [told, {"const": "[DONE]"}, late]}
    return {"type": "object", "properties": {"data": data}, "required": ["data"]}


def _refused(code: int, known: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "description": _REFUSED[code],
        "content": {_JSON: {"schema": _schema(responses.Error, known)}},
    }
    if code == 429:
        about = "seconds after which to try again; not where the budget is spent"
        told["headers"] = {
            "Retry-After": {
                "description": about,
                "schema": {"type": "string", "pattern": "^[0-9]+$"},
            }
        }
    return told


def _schema(model: type[BaseModel], known: dict[str, Any]) -> dict[str, str]:
    """A reference to a model, which is then known."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    known |= schema.pop("$defs", {})
    known[model.__name__] = schema
    return {"$ref": f"#/components/schemas/{model.__name__}"}
