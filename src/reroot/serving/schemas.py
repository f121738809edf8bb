"""What clients may send, checked at the border; and the OpenAPI description of it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from .._version import __version__

Tokens = list[int]


class Strict(BaseModel):
    """No field but those that are described."""

    model_config = ConfigDict(extra="forbid", strict=True)


class OpenSession(Strict):
    """Open a session on a problem."""

    problem: str = Field(max_length=4096, description="id of a problem that is served")
    contract: str | None = Field(None, max_length=256, description="default: what the key grants")
    budget: dict[str, int | float] = Field(default={}, description="of this session")
    seed: int = Field(0, ge=-(2**63), lt=2**63, description="every draw is keyed by it")
    learner: str = Field("client", max_length=4096, description="what the transcript says")
    key: str | None = Field(None, max_length=8192, description="name of the attempt")


class Turn(Strict):
    """What a learner has sent in one turn, as messages of a transcript."""

    messages: list[dict[str, Any]] = Field(max_length=65536)


class CloseSession(Strict):
    """How a learner has ended."""

    output: Tokens | None = None
    metadata: dict[str, Any] = {}
    error: dict[str, Any] | None = None
    out_of_budget: bool = False


class Decode(Strict):
    """Tokens to be shown as text."""

    sequences: list[Tokens] = Field(max_length=65536)


class StreamOptions(BaseModel):
    include_usage: bool = False


class Common(BaseModel):
    """What both faces for OpenAI's clients take. Other fields are refused where they ask for something
    else than what they ask for by default."""

    model_config = ConfigDict(extra="allow")

    model: str = ""
    n: int = Field(1, ge=1, le=4096)
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: str | list[str] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str | None = None


class Completion(Common):
    """``/v1/completions``."""

    prompt: str | Tokens | list[str] | list[Tokens]
    max_tokens: int | None = Field(None, ge=1)
    logprobs: int | None = Field(None, ge=0)


class ChatMessage(BaseModel):
    role: str
    content: str


class ChatCompletion(Common):
    """``/v1/chat/completions``."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0)


PATHS: dict[str, tuple[str, type[BaseModel] | None, str]] = {
    "/v1/sessions": ("post", OpenSession, "open a session"),
    "/v1/sessions/{session}": ("get", None, "the account of a session"),
    "/v1/sessions/{session}/turns/{number}": ("post", Turn, "ask, and be answered"),
    "/v1/sessions/{session}/close": ("post", CloseSession, "end a session"),
    "/v1/account": ("get", None, "what the key has spent and has left"),
    "/v1/problems": ("get", None, "what is served"),
    "/v1/decode": ("post", Decode, "the text of tokens"),
    "/v1/models": ("get", None, "the model, as OpenAI lists it"),
    "/v1/completions": ("post", Completion, "as OpenAI's"),
    "/v1/chat/completions": ("post", ChatCompletion, "as OpenAI's"),
}


def openapi() -> dict[str, Any]:
    """The description of the service in OpenAPI 3.1."""
    schemas: dict[str, Any] = {}
    paths: dict[str, Any] = {}
    for path, (method, model, summary) in PATHS.items():
        names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
        kinds = {"number": {"type": "integer", "minimum": 0}}
        told: dict[str, Any] = {
            "summary": summary,
            "security": [{"key": []}],
            "parameters": [
                {
                    "name": n,
                    "in": "path",
                    "required": True,
                    "schema": kinds.get(n, {"type": "string"}),
                }
                for n in names
            ],
            "responses": {
                "200": {"description": "it is done"},
                "default": {"description": "an error"},
            },
        }
        if model is not None:
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= schema.pop("$defs", {})
            schemas[model.__name__] = schema
            ref = {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}
            told["requestBody"] = {"required": True, "content": {"application/json": ref}}
        paths[path] = {method: told}
    return {
        "openapi": "3.1.0",
        "info": {"title": "reroot serve", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }
