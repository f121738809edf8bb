"""The endpoints of one engine, and what goes wrong on the way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from . import reading, writing
from .engine import Abandoned, Asked, Engine
from .language import BOS, EOS, K, chat, decode, encode

Body = dict[str, Any]
MODEL = "toy"
_MOST_KEPT = 20_000

_PATHS = {
    "/completion": ("llamacpp", reading.llama, writing.llama, ""),
    "/generate": ("sglang", reading.sglang, writing.sglang, ""),
    "/v1/completions": ("", reading.completion, writing.completion, "completions"),
    "/v1/chat/completions": ("", reading.chatting, writing.chatting, "chat"),
    "/v1/responses": ("openai", reading.responding, writing.responding, "responses"),
}
"""Path → (the only dialect that has it, reading, writing, its fields)."""


def application(engine: Engine) -> Starlette:
    """The ASGI application of ``engine``."""
    does = engine.behaviour
    routes = [
        Route(path, _generating(engine, path), methods=["POST"])
        for path, (only, *_) in _PATHS.items()
        if only in ("", does.dialect)
    ]
    routes += [
        Route("/health", lambda _: _json({"status": "ok"})),
        Route("/v1/models", _models(engine)),
    ]
    routes += [Route(path, get) for path, get in _about(engine).items()]
    if does.dialect == "llamacpp":
        routes.append(Route("/apply-template", _posting(engine, _template), methods=["POST"]))
    if does.dialect in ("llamacpp", "vllm"):
        routes += [
            Route("/tokenize", _posting(engine, _tokenize), methods=["POST"]),
            Route("/detokenize", _posting(engine, _detokenize), methods=["POST"]),
        ]
    return Starlette(routes=routes)


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps(value), status, headers, "application/json")


def _error(status: int, message: str, kind: str, headers: dict[str, str] | None = None) -> Response:
    return _json({"error": {"message": message, "type": kind, "code": status}}, status, headers)


def _models(engine: Engine) -> Callable[[Request], Response]:
    does = engine.behaviour
    about: Body = {"id": MODEL, "object": "model", "owned_by": does.dialect}
    if does.dialect == "vllm":
        about |= {"max_model_len": does.positions, "root": "/models/toy"}
    if does.dialect == "llamacpp":
        about["meta"] = {"n_vocab": K, "n_ctx_train": does.positions}
    return lambda _: _json({"object": "list", "data": [about]})


def _about(engine: Engine) -> dict[str, Callable[[Request], Response]]:
    """What each server tells of itself."""
    does = engine.behaviour
    props = {
        "default_generation_settings": {"n_ctx": does.positions, "params": dict(does.defaults)},
        "total_slots": does.slots,
        "model_path": "toy.gguf",
        "bos_token": decode([BOS], special=True),
        "eos_token": decode([EOS], special=True),
        "build_info": "b0-toy",
    }
    info = {"model_path": "toy", "tokenizer_path": "toy", "is_generation": True, "vocab_size": K}
    return {
        "llamacpp": {"/props": lambda _: _json(props)},
        "vllm": {"/version": lambda _: _json({"version": "0.0.toy"})},
        "sglang": {
            "/get_model_info": lambda _: _json(info),
            "/get_server_info": lambda _: _json(
                {"version": "0.0.toy", "context_length": does.positions}
            ),
        },
        "openai": {},
    }[does.dialect]


def _posting(engine: Engine, answer: Callable[[Engine, Body], Any]) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        return _json(answer(engine, await request.json()))

    return endpoint


def _tokenize(engine: Engine, body: Body) -> Any:
    does = engine.behaviour
    tokens = list(encode(body["content"] if does.dialect == "llamacpp" else body["prompt"]))
    begins = (
        body.get("add_special", False)
        if does.dialect == "llamacpp"
        else body.get("add_special_tokens", True)
    )
    tokens = [BOS] * (does.bos if begins else 0) + tokens
    if does.dialect == "llamacpp":
        return {"tokens": tokens}
    return {"tokens": tokens, "count": len(tokens), "max_model_len": does.positions}


def _template(engine: Engine, body: Body) -> Any:
    messages = body["messages"]
    continues = engine.behaviour.continues == "always" and messages[-1]["role"] == "assistant"
    return {"prompt": decode(chat(messages, continues=continues), special=True)}


def _detokenize(engine: Engine, body: Body) -> Any:
    key = "content" if engine.behaviour.dialect == "llamacpp" else "prompt"
    special = engine.behaviour.dialect == "llamacpp"
    return {key: decode(body["tokens"], special=special)}


def _generating(engine: Engine, path: str) -> Callable[[Request], Any]:
    _, read, write, endpoint = _PATHS[path]

    async def answer(request: Request) -> Response:
        does = engine.behaviour
        try:
            body: Body = await request.json()
        except ValueError:
            return _error(400, "the body is no JSON", "invalid_request_error")
        if len(engine.asked) < _MOST_KEPT:
            engine.asked.append((path, body))
            engine.headers.append(dict(request.headers))
        engine.counts.requests += 1
        if refusal := _refusal(engine):
            engine.counts.errors += 1
            return refusal
        try:
            if endpoint:
                reading.unknown(body, endpoint, does)
            asked: Asked = read(body, does)
            done = await engine.answer(asked, request.is_disconnected)
        except reading.Refused as error:
            return _error(400, str(error), "BadRequestError")
        except (Abandoned, asyncio.CancelledError):
            return Response(status_code=499)
        return _sent(engine, write(body, asked, done, does))

    return answer


def _refusal(engine: Engine) -> Response | None:
    """429 or 500 instead of an answer."""
    does, count = engine.behaviour, engine.counts.requests
    full = does.most_at_once is not None and engine.running >= does.most_at_once
    if full or (does.busy and count % does.busy == 0):
        headers = {} if does.retry_after is None else {"Retry-After": f"{does.retry_after:g}"}
        return _error(429, "Rate limit reached", "rate_limit_error", headers)
    if does.quotes:
        key = engine.headers[-1].get("authorization", "").removeprefix("Bearer ")
        return _error(401, f"Incorrect API key provided: {key}", "invalid_request_error")
    if does.fails and count % does.fails == 0:
        return _error(500, "the engine stumbled", "InternalServerError")
    return None


def _sent(engine: Engine, reply: Any) -> Response:
    """A reply, or what becomes of it on the way."""
    does, count = engine.behaviour, engine.counts.requests
    if does.padding:
        first = reply[0] if isinstance(reply, list) else reply
        first["padding"] = "x" * does.padding
    if does.garbles and count % does.garbles == 0:
        return _json({"choices": "none", "tokens": None})
    if does.html and count % does.html == 0:
        return Response("<html>502 Bad Gateway</html>", 200, media_type="text/html")
    text = json.dumps(reply)
    if does.cuts and count % does.cuts == 0:
        text = text[: len(text) // 2]
    return Response(text, media_type="application/json")
