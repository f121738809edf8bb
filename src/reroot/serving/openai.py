"""The face for OpenAI's clients: a completion is one query in a session of its own.

It grants what the key's contract grants. The prompt is that of a problem which is served; what follows
it is a prefix, which only chosen control may pass, as it may any other prompt. Log-probabilities are
reports. The sampling law is the contract's.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from ..access.episode import Episode, bind
from ..access.transcript import replies_from_json
from ..contract import Control, Report
from ..errors import AccessDenied, InvalidInput
from ..generators.base import Generator
from ..tasks.base import Problem
from ..types import Chat, Output, Prefix, Query, Reply
from .catalogue import Catalogue
from .keys import Key
from .schemas import ChatCompletion, ChatMessage, Common, Completion
from .sizes import MOST_SHOWN, TooLarge
from .wire import error_from_json

_MOST = 256  # tokens of an answer to a prompt of the client's own, where it names no number
_NEVER = -9999.0  # nats; OpenAI's word for log 0, which JSON has none for
_NEUTRAL: dict[str, Any] = {
    **dict.fromkeys(("frequency_penalty", "presence_penalty"), 0),
    **dict.fromkeys(("best_of",), 1),
    **dict.fromkeys(("suffix", "logit_bias", "tools", "functions", "response_format"), None),
    "echo": False,
}
_FREE = frozenset({"store", "metadata", "service_tier", "parallel_tool_calls", "stream_options"})
"""Fields of OpenAI's interface that change nothing of what is asked of a model."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for.

    Attributes:
        kind: ``"text_completion"`` or ``"chat.completion"``.
        episode: the problem.
        own: whether it is the client's own, not one that is served.
        query: at which prefix, how many, with which report.
        top: how many likely tokens are shown beside each; ``None``: no log-probabilities.
        seed: of the draws, if it is given.
        stream, usage: whether it comes in chunks, and whether the last one tells the usage.
    """

    kind: str
    episode: Episode
    own: bool
    query: Query
    top: int | None
    seed: int | None
    stream: bool
    usage: bool


def completion_request(body: Completion, catalogue: Catalogue, key: Key) -> Asked:
    """What a request to ``/v1/completions`` asks for (``InvalidInput``, ``AccessDenied``)."""
    given = _one_prompt(body.prompt)
    found = _find(catalogue, given)
    return _asked(
        "text_completion", body, catalogue, key, given, found, body.max_tokens, body.logprobs
    )


def _one_prompt(prompt: str | list[int] | list[str] | list[list[int]]) -> str | tuple[int, ...]:
    """Text or tokens (``InvalidInput`` for several of them)."""
    if isinstance(prompt, str):
        return prompt
    tokens = [token for token in prompt if isinstance(token, int)]
    if len(tokens) == len(prompt):
        return tuple(tokens)
    if len(prompt) != 1:
        raise InvalidInput(f"a request has one prompt, got {len(prompt)}")
    first = prompt[0]
    return (
        first if isinstance(first, str) else _one_prompt(first if isinstance(first, list) else [])
    )


def chat_request(body: ChatCompletion, catalogue: Catalogue, key: Key) -> Asked:
    """What a request to ``/v1/chat/completions`` asks for (``InvalidInput``, ``AccessDenied``)."""
    chat = Chat.of([_message(message) for message in body.messages])
    if body.top_logprobs and not body.logprobs:
        raise InvalidInput("top_logprobs needs logprobs: true")
    top = body.top_logprobs if body.logprobs else None
    most = body.max_completion_tokens or body.max_tokens
    return _asked(
        "chat.completion", body, catalogue, key, chat, _find_chat(catalogue, chat), most, top
    )


def _message(message: ChatMessage) -> dict[str, str]:
    for name, value in (message.model_extra or {}).items():
        if value:
            raise InvalidInput(f"a message's {name:.80} is not served, got {value!r:.80}")
    said = message.content
    text = said if isinstance(said, str) else "".join(part.text for part in said)
    return {"role": message.role, "content": text}


_Found = tuple[Episode, tuple[int, ...]] | None


def _find(catalogue: Catalogue, prompt: str | tuple[int, ...]) -> _Found:
    """The problem with the longest prompt that this one begins with, and the prefix that follows."""
    best: _Found = None
    length = -1
    for offer in catalogue.offers.values():
        episode = offer.episode
        asked = episode.problem.prompt if isinstance(prompt, str) else episode.prompt
        if isinstance(prompt, str):
            fits = isinstance(asked, str) and prompt.startswith(asked)
        else:
            fits = isinstance(asked, tuple) and prompt[: len(asked)] == asked
        if fits and len(asked) > length:  # type: ignore[arg-type]
            length = len(asked)  # type: ignore[arg-type]
            rest = prompt[length:]
            if isinstance(rest, str):
                rest = catalogue.generator.encode_continuation(rest) if rest else ()
            best = episode, rest
    return best


def _find_chat(catalogue: Catalogue, chat: Chat) -> _Found:
    for offer in catalogue.offers.values():
        asked = offer.episode.problem.prompt
        if not isinstance(asked, Chat):
            continue
        if asked.messages == chat.messages:
            return offer.episode, ()
        if chat.continued and asked.messages == chat.messages[:-1]:
            rest = catalogue.generator.encode_continuation(chat.messages[-1][1])
            return offer.episode, rest
    return None


def _asked(
    kind: str,
    body: Common,
    catalogue: Catalogue,
    key: Key,
    prompt: str | tuple[int, ...] | Chat,
    found: _Found,
    most: int | None,
    top: int | None,
) -> Asked:
    _check(body, key)
    own = found is None
    if found is None:
        if not key.grants.control >= Control.CHOSEN:
            raise AccessDenied(
                "a prompt that is no problem's",
                f"{key.grants.control} control permits the prompts of the problems that are served",
                f"chosen/{key.grants.report}",
            )
        found = _own(catalogue.generator, prompt, body.stop, most), ()
    elif body.stop:
        raise InvalidInput("the stop texts of a problem are its own: leave out 'stop'")
    episode, prefix = found
    granted = key.grants.report
    report = Report.SAMPLE if granted.draws else granted
    if top is not None:
        report = Report.TOPK(top) if top else Report.LOGPROB
    query = Query(Prefix.of(prefix), body.n, most, report)
    if top is not None:
        told = body.n * min(episode.horizon, most or episode.horizon) * (1 + top)
        if told > MOST_SHOWN:
            raise TooLarge(
                f"{told:,} log-probabilities may be shown, and one answer shows at most {MOST_SHOWN:,}; "
                "ask for fewer"
            )
    usage = body.stream_options is not None and body.stream_options.include_usage
    return Asked(kind, episode, own, query, top, body.seed, body.stream, usage)


def _own(
    generator: Generator,
    prompt: str | tuple[int, ...] | Chat,
    stop: str | list[str] | None,
    most: int | None,
) -> Episode:
    told = prompt.messages if isinstance(prompt, Chat) else prompt
    stops = (stop,) if isinstance(stop, str) else tuple(stop or ())
    asked = json.dumps([told, stops, most]).encode()
    mark = hashlib.blake2b(asked, digest_size=16).hexdigest()
    problem = Problem(f"own/{mark}", prompt, most or 1, _unjudged, stop=stops)
    episode, limit = bind(problem, generator), generator.max_length()
    if most is not None:
        return episode
    room = _MOST if limit is None else min(_MOST, limit - len(episode.prompt))
    return bind(replace(problem, max_tokens=room), generator)


def _unjudged(output: Output) -> None:
    """A prompt of a client's own has no judge."""


def _check(body: Common, key: Key) -> None:
    """Refuse what would change the law, or is not there (``InvalidInput``, ``AccessDenied``)."""
    for name, value in (body.model_extra or {}).items():
        neutral = value is None or (name in _NEUTRAL and value == _NEUTRAL[name])
        if not neutral and name not in _FREE:
            raise InvalidInput(f"{name:.80} is not served, got {value!r:.80}")
    law = key.grants.sampling
    assert law is not None
    for name, value in (("temperature", body.temperature), ("top_p", body.top_p)):
        if value is not None and value != getattr(law, name):
            raise AccessDenied(
                f"{name} = {value}",
                f"the sampling law of the contract is {law}; leave it out",
                f"{key.grants.control}/{key.grants.report}@another law",
            )


# ---- answers ---------------------------------------------------------------------------------------


def completion_of(
    asked: Asked, told: dict[str, Any], catalogue: Catalogue, id: str
) -> dict[str, Any]:
    """The body of an answer.

    Raises:
        RerootError: what was asked was refused, or failed.
    """
    (error,), (line,) = told["errors"], told["lines"]
    if error is not None:
        raise error_from_json(error)
    (reply,) = replies_from_json(line["value"])
    choices = [_choice(asked, reply, i, catalogue) for i in range(reply.n)]
    prompt = len(asked.episode.prompt) + len(asked.query.prefix)
    generated = int(reply.lengths.sum())
    return {
        "id": id,
        "object": asked.kind,
        "created": int(time.time()),
        "model": catalogue.model,
        "choices": choices,
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": generated,
            "total_tokens": prompt + generated,
        },
    }


def _choice(asked: Asked, reply: Reply, i: int, catalogue: Catalogue) -> dict[str, Any]:
    episode, prefix = asked.episode, asked.query.prefix.tokens
    tokens = reply.continuation(i)
    whole, before = episode.output((*prefix, *tokens)).text, ""
    if prefix:
        before = episode.output(prefix).text
    text = whole.removeprefix(before)
    ended = "stop" if episode.stop.ends((*prefix, *tokens)) else "length"
    chat = asked.kind == "chat.completion"
    shown = None if asked.top is None else _logprobs(asked, reply, i, catalogue.generator, chat)
    said = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
    return {"index": i, **said, "logprobs": shown, "finish_reason": ended}


def _logprobs(
    asked: Asked, reply: Reply, i: int, generator: Generator, chat: bool
) -> dict[str, Any]:
    tokens = reply.continuation(i)
    assert reply.logprobs is not None
    values = np.maximum(reply.logprobs[i, : len(tokens)], _NEVER).tolist()
    text = cache(lambda token: generator.decode([token]))
    texts = [text(token) for token in tokens]
    tops: list[list[tuple[str, float]]] = [[] for _ in tokens]
    if reply.top_tokens is not None and reply.top_logprobs is not None:
        for t in range(len(tokens)):
            shown = np.maximum(reply.top_logprobs[i, t], _NEVER).tolist()
            pairs = zip(reply.top_tokens[i, t].tolist(), shown, strict=True)
            tops[t] = [(text(token), value) for token, value in pairs]
    if not chat:
        return {
            "tokens": texts,
            "token_logprobs": values,
            "top_logprobs": [dict(top) for top in tops] if asked.top else None,
        }
    content = [
        {
            **_token(said, value),
            "top_logprobs": [_token(*pair) for pair in top],
        }
        for said, value, top in zip(texts, values, tops, strict=True)
    ]
    return {"content": content}


def _token(text: str, value: float) -> dict[str, Any]:
    return {"token": text, "logprob": value, "bytes": list(text.encode("utf-8", "replace"))}


def chunks_of(asked: Asked, body: dict[str, Any]) -> Iterator[str]:
    """The answer as server-sent events. It is charged as a whole, so it is whole before the first."""
    chat = asked.kind == "chat.completion"
    head = {name: body[name] for name in ("id", "created", "model")}
    head["object"] = "chat.completion.chunk" if chat else "text_completion"
    head |= {"usage": None} if asked.usage else {}
    for choice in body["choices"]:
        text = choice["message"]["content"] if chat else choice["text"]
        said = {"delta": {"role": "assistant", "content": text}} if chat else {"text": text}
        part = {"index": choice["index"], **said, "logprobs": choice["logprobs"]}
        yield _event({**head, "choices": [{**part, "finish_reason": None}]})
        last = {"delta": {}} if chat else {"text": ""}
        end = {"index": choice["index"], **last, "logprobs": None}
        yield _event({**head, "choices": [{**end, "finish_reason": choice["finish_reason"]}]})
    if asked.usage:
        yield _event({**head, "choices": [], "usage": body["usage"]})
    yield "data: [DONE]\n\n"


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, separators=(',', ':'))}\n\n"


def models_list(catalogue: Catalogue) -> dict[str, Any]:
    """The body of ``/v1/models``."""
    model = {"id": catalogue.model, "object": "model", "created": 0, "owned_by": "reroot"}
    return {"object": "list", "data": [model]}
