"""What clients may send, checked at the border; ``description`` says the same in OpenAPI."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

SESSION = r"[0-9a-f]{32}"
"""What sessions are called."""

MOST_TURNS = 2**31 - 1
"""The largest number of a turn that is looked for."""

_TOKENS: dict[str, Any] = {"type": "array", "items": {"type": "integer"}}
_PREFIXES: dict[str, Any] = {"type": "array", "items": _TOKENS}
_MAYBE: dict[str, Any] = {"type": ["integer", "null"]}


def _record(**fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }


_REPORT: dict[str, Any] = {"type": "string", "examples": ["sample", "topk(2)"]}
_FORCED: dict[str, Any] = {"anyOf": [_TOKENS, {"type": "null"}]}
_QUERY = _record(
    prefix=_TOKENS, n={"type": "integer"}, length=_MAYBE, report=_REPORT, forced=_FORCED
)
MESSAGE: dict[str, Any] = {
    "description": "a message of a session; access.wire reads it",
    "anyOf": [
        _record(ask={"type": "array", "items": _QUERY}),
        *(_record(**{name: _PREFIXES}) for name in ("reward", "verifier", "value")),
        _record(demonstration=_MAYBE),
        _record(hidden=_PREFIXES, layers=_MAYBE),
        _record(text=_TOKENS),
    ],
}
"""JSON Schema of a message."""

Tokens = list[int]
Stop = Annotated[str, Field(max_length=512)]
Message = Annotated[Any, WithJsonSchema(MESSAGE)]


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

    messages: list[Message] = Field(max_length=65536)


class LearnerError(Strict):
    """What a learner has raised."""

    kind: str = Field(max_length=4096)
    message: str
    who: str = Field("learner", max_length=64, description="not believed: it is the learner")
    file: str | None = Field(None, max_length=4096)
    line: int | None = Field(None, ge=0, lt=2**63)


class CloseSession(Strict):
    """How a learner has ended."""

    output: Tokens | None = None
    metadata: str = Field("{}", description="a JSON object, as text", examples=['{"votes": 3}'])
    error: LearnerError | None = None
    out_of_budget: bool = False


class Decode(Strict):
    """Tokens to be shown as text."""

    sequences: list[Tokens] = Field(max_length=65536)


class StreamOptions(BaseModel):
    """How a streamed answer is told."""

    model_config = ConfigDict(extra="allow", strict=True)

    include_usage: bool = False


class Common(BaseModel):
    """What both faces for OpenAI's clients take. Other fields are refused where they ask for something
    else than what they ask for by default."""

    model_config = ConfigDict(extra="allow", strict=True)

    model: str = ""
    n: int = Field(1, ge=1, le=4096)
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str | None = None


class Completion(Common):
    """``/v1/completions``."""

    prompt: str | Tokens | list[str] | list[Tokens]
    max_tokens: int | None = Field(None, ge=1)
    logprobs: int | None = Field(None, ge=0)


class TextPart(Strict):
    """A part of a message that is text, the only kind that there is."""

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """A message of a chat. Of other fields none may say anything."""

    model_config = ConfigDict(extra="allow", strict=True)

    role: str = Field(max_length=256)
    content: str | list[TextPart]


class ChatCompletion(Common):
    """``/v1/chat/completions``."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0)
