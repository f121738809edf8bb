"""What the service answers, as models from which its description is made (``description``)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Amounts = dict[str, int | float]


class Told(BaseModel):
    """No field but those that are described."""

    model_config = ConfigDict(extra="forbid")


# ---- errors --------------------------------------------------------------------------------------


class SessionError(BaseModel):
    """An error as a learner sees it; its other fields are those of its type."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="AccessDenied, BudgetExceeded, InvalidInput, BackendError, …")


class ErrorBody(Told):
    """What OpenAI's clients read of an error."""

    message: str
    type: str
    param: None
    code: str
    reroot: SessionError | None = None


class Error(Told):
    """A request that was refused, or failed."""

    error: ErrorBody


# ---- sessions ------------------------------------------------------------------------------------


class Stop(Told):
    """Where outputs end: at tokens, or at texts (base64) that are spelt by a table of pieces."""

    tokens: list[int]
    texts: list[str]
    closing: list[int]
    table: list[str] | None
    gap: str


class Facts(Told):
    """What a learner may know before it asks."""

    prompt: list[int]
    vocab_size: int
    horizon: int
    stop: Stop
    contract: str
    budget: Amounts
    rng_key: list[str]
    equality: str | None
    prices: Amounts | None


class Opened(Told):
    """A session."""

    session: str
    facts: Facts
    head: dict[str, Any]
    turns: int


class Line(Told):
    """A line of a transcript."""

    i: int = Field(description="which of the session's messages it answers, counted from 0")
    after: int
    message: dict[str, Any]
    error: dict[str, Any] | None
    value: Any


class Answered(Told):
    """An answer to a message."""

    line: Line
    error: SessionError | None
    spent: Amounts = Field(description="by the session so far")


class Answers(Told):
    """What a turn was told."""

    answers: list[Answered]
    open: int = Field(description="messages that are answered in a later turn")


class Attempt(Told):
    """What became of an attempt."""

    key: str
    problem: str
    learner: str
    contract: str
    text: str
    stopped: str | None
    seed: int
    output: list[int] | None
    complete: bool
    passed: bool
    accepted: bool | None
    reward: float | None
    surprisal: float | None
    cost: Amounts
    metadata: dict[str, Any]
    error: dict[str, Any] | None


class Closed(Told):
    """A session that has ended."""

    attempt: Attempt


class KeyAccount(Told):
    """What a key has spent, has set aside and has left."""

    key: str
    grants: str
    spent: Amounts
    reserved: Amounts
    left: Amounts
    request_tokens: int = Field(description="that one request may take at most")


class SessionAccount(KeyAccount):
    """The same, and a session's own account."""

    session: str
    turns: int
    closed: bool
    session_spent: Amounts


# ---- what is served ------------------------------------------------------------------------------


class Capabilities(Told):
    """What the generator can be asked."""

    control: str
    report: str
    sampling: bool
    forced: bool
    hidden: bool
    prices: Amounts | None


class About(Told):
    """The generator."""

    model: str
    vocab_size: int
    end_token: int | None
    max_length: int | None
    mark: str
    capabilities: Capabilities
    grants: str
    results: bool = Field(description="whether it is told rewards of what its learners return")


class ServedProblem(Told):
    """A problem, without its answer."""

    id: str
    task: str
    horizon: int
    seed: int
    prompt: str | None
    prompt_tokens: list[int]
    max_tokens: int
    size: int
    pass_at: float
    unique: bool
    group: str
    cluster: str
    stop: Stop
    equality: str | None
    oracles: list[str]


class Problems(Told):
    """All that is served."""

    about: About
    problems: list[ServedProblem]


class Texts(Told):
    """Tokens as text."""

    texts: list[str]


# ---- OpenAI's clients ------------------------------------------------------------------------------


class Model(Told):
    """The model, as OpenAI lists it."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class Models(Told):
    """The list of it."""

    object: Literal["list"]
    data: list[Model]


class Usage(Told):
    """Tokens, as OpenAI counts them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Logprobs(Told):
    """Log-probabilities beside the tokens of a completion, in nats."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None


class Choice(Told):
    """One completion."""

    index: int
    text: str
    logprobs: Logprobs | None
    finish_reason: Literal["stop", "length"]


class TextCompletion(Told):
    """``/v1/completions``."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage


class TopToken(Told):
    """A likely token."""

    token: str
    logprob: float
    bytes: list[int]


class ChatToken(TopToken):
    """A token of a message, and the likely ones in its place."""

    top_logprobs: list[TopToken]


class ChatLogprobs(Told):
    """Log-probabilities beside the tokens of a message, in nats."""

    content: list[ChatToken]


class Said(Told):
    """A message."""

    role: Literal["assistant"]
    content: str


class ChatChoice(Told):
    """One message that was drawn."""

    index: int
    message: Said
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length"]


class Chat(Told):
    """``/v1/chat/completions``."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class Part(Told):
    """A piece of one completion."""

    index: int
    text: str
    logprobs: Logprobs | None
    finish_reason: Literal["stop", "length"] | None


class TextChunk(Told):
    """An event of a streamed ``/v1/completions``; the last one is the text [DONE]."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[Part]
    usage: Usage | None = None


class Delta(Told):
    """A piece of a message."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChatPart(Told):
    """A piece of one message that was drawn."""

    index: int
    delta: Delta
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length"] | None


class ChatChunk(Told):
    """An event of a streamed ``/v1/chat/completions``; the last one is the text [DONE]."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChatPart]
    usage: Usage | None = None


# ---- for whoever runs it ---------------------------------------------------------------------------


class Health(Told):
    """It is there."""

    service: Literal["reroot"]


class Ready(Told):
    """Whether requests are taken."""

    ready: bool
