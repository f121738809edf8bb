"""From the body of a request, as each dialect spells it, to what is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .behaviour import Behaviour
from .engine import Asked
from .language import BOS, K, chat, encode
from .sampling import Sampler

Body = Mapping[str, Any]

_OPENAI = [
    "model",
    "prompt",
    "max_tokens",
    "n",
    "temperature",
    "top_p",
    "seed",
    "logprobs",
    "echo",
    "stop",
    "logit_bias",
    "presence_penalty",
    "frequency_penalty",
    "stream",
    "user",
    "suffix",
    "best_of",
    "stream_options",
]
_CHAT = [
    "model",
    "messages",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "temperature",
    "top_p",
    "seed",
    "logprobs",
    "top_logprobs",
    "stop",
    "logit_bias",
    "presence_penalty",
    "frequency_penalty",
    "stream",
    "user",
    "store",
]
_RESPONSES = [
    "model",
    "input",
    "max_output_tokens",
    "temperature",
    "top_p",
    "top_logprobs",
    "include",
    "stream",
    "store",
    "instructions",
]
KNOWN = {"completions": {*_OPENAI}, "chat": {*_CHAT}, "responses": {*_RESPONSES}}
"""Endpoint → the fields that OpenAI's own have."""


class Refused(Exception):
    """An answer of 400."""


def sampler(body: Body, does: Behaviour) -> Sampler:
    """The chain that a request gets: what it says, the server's defaults, and what nobody can change."""
    said = {k: v for k, v in body.items() if v is not None and k not in does.ignores}
    if "repeat_penalty" in said:
        said["repetition_penalty"] = said["repeat_penalty"]
    names = (
        "temperature",
        "top_k",
        "top_p",
        "min_p",
        "repetition_penalty",
        "presence_penalty",
        "frequency_penalty",
    )
    values = {
        n: v for n in names if (v := {**does.defaults, **said, **does.forced}.get(n)) is not None
    }
    values["top_k"] = max(0, int(values.get("top_k", 0)))
    _check(values)
    order = tuple(said.get("samplers", does.order))
    order += tuple(
        n for n in does.forced if n in ("temperature", "top_k", "top_p", "min_p") and n not in order
    )
    allowed = said.get("allowed_token_ids")
    return Sampler(
        **values,
        order=tuple(n for n in order if n in ("temperature", "top_k", "top_p", "min_p")),
        bias=_bias(said.get("logit_bias", does.bias)) if does.biases else {},
        allowed=None if allowed is None else frozenset(allowed),
    )


def _check(values: Mapping[str, Any]) -> None:
    if not values.get("temperature", 1.0) >= 0:
        raise Refused("temperature must be non-negative")
    if not 0 < values.get("top_p", 1.0) <= 1:
        raise Refused("top_p must be in (0, 1]")


def _bias(said: Any) -> dict[int, float]:
    pairs = said.items() if isinstance(said, Mapping) else said or ()
    return {int(token): float("-inf") if value is False else float(value) for token, value in pairs}


def prompts(said: Any, does: Behaviour) -> list[tuple[int, ...]]:
    """One text, some texts, one list of ids, or some lists of ids → lists of ids."""
    if isinstance(said, str):
        return [(BOS,) * does.bos + encode(said)]
    if not isinstance(said, Sequence) or not said:
        raise Refused("prompt must be a string or a list")
    if isinstance(said[0], int):
        said = [said]
    out: list[tuple[int, ...]] = []
    for one in said:
        if isinstance(one, str):
            out += prompts(one, does)
        elif not does.ids:
            raise Refused("prompt must be a string.")
        else:
            if not all(isinstance(t, int) and 0 <= t < K for t in one):
                raise Refused(f"token ids must be in 0..{K - 1}")
            out.append((BOS,) * does.bos_on_ids + tuple(one))
    return out


def completion(body: Body, does: Behaviour) -> Asked:
    """``/v1/completions`` of vLLM, llama.cpp and OpenAI."""
    body = _without(body, does)
    n, top = body.get("n") or 1, body.get("logprobs")
    if n > does.most_n:
        raise Refused(f"Field 'n': Value must be between 1 <= value <= {does.most_n}")
    scores = body.get("prompt_logprobs") if does.dialect == "vllm" else None
    if does.scores and body.get("echo") and top is not None:
        scores = top
    return Asked(
        _fitting(prompts(body.get("prompt"), does), body.get("max_tokens", 16), does),
        sampler(body, does),
        n,
        body.get("max_tokens", 16),
        body.get("seed"),
        frozenset(body.get("stop_token_ids") or ()) if does.dialect == "vllm" else frozenset(),
        _texts(body.get("stop")),
        bool(body.get("ignore_eos")),
        _top(top, does.lists),
        None if scores is None or not does.scores else _top(scores, does.lists),
    )


def llama(body: Body, does: Behaviour) -> Asked:
    """llama.cpp's ``/completion``."""
    body = _without(body, does)
    length = body.get("n_predict", -1)
    length = does.positions if length < 0 else max(1, length)  # 0 still gives one token
    seed = body.get("seed", -1)
    return Asked(
        _fitting(prompts(body.get("prompt"), does), 1, does),
        sampler(body, does),
        1,
        min(length, does.positions),
        None if seed in (-1, 2**32 - 1) else seed % 2**32,
        stop_texts=_texts(body.get("stop")) or does.stops,
        ignore_eos=bool(body.get("ignore_eos")),
        top=min(body.get("n_probs", 0), K)
        if does.lists is None
        else min(body.get("n_probs", 0), does.lists),
    )


def sglang(body: Body, does: Behaviour) -> Asked:
    """SGLang's ``/generate``."""
    body = _without(body, does)
    params = _without(body.get("sampling_params") or {}, does)
    asked = prompts(body.get("input_ids") or body.get("text"), does)
    length = params.get("max_new_tokens", 128)
    wants = bool(body.get("return_logprob"))
    start = body.get("logprob_start_len", -1)
    top = body.get("top_logprobs_num", 0) if wants else 0
    return Asked(
        _fitting(asked, length, does),
        sampler(params, does),
        params.get("n", 1),
        length,
        params.get("sampling_seed"),
        frozenset(params.get("stop_token_ids") or ()),
        _texts(params.get("stop")),
        bool(params.get("ignore_eos")),
        _top(top, does.lists),
        _top(top, does.lists) if wants and does.scores and 0 <= start < len(asked[0]) - 1 else None,
        max(0, start),
    )


def chatting(body: Body, does: Behaviour) -> Asked:
    """``/v1/chat/completions``."""
    body = _without(body, does)
    messages = body.get("messages") or []
    if not messages:
        raise Refused("messages must not be empty")
    trailing = messages[-1]["role"] == "assistant"
    wanted = {
        "always": trailing,
        "flag": bool(body.get("continue_final_message"))
        and not body.get("add_generation_prompt", True),
        "prefix": trailing and bool(messages[-1].get("prefix")),
        "never": False,
    }[does.continues]
    prompt = chat(
        messages, bool(body.get("add_generation_prompt", True)), wanted and not does.closes
    )
    prompt = (*prompt[:1], *does.template_adds, *prompt[1:])
    n = body.get("n") or 1
    if n > does.most_n:
        raise Refused(f"Field 'n': Value must be between 1 <= value <= {does.most_n}")
    top = body.get("top_logprobs", 0) if body.get("logprobs") else 0
    if does.strict and top > 20:
        raise Refused("top_logprobs must be at most 20")
    length = body.get("max_completion_tokens") or body.get("max_tokens") or 64
    return Asked(
        _fitting([prompt], length, does),
        sampler(body, does),
        n,
        length,
        body.get("seed"),
        stop_texts=_texts(body.get("stop")),
        top=_top(top, does.chat_lists),
    )


def responding(body: Body, does: Behaviour) -> Asked:
    """``/v1/responses``: no seed, one choice."""
    said = body.get("input")
    messages = [{"role": "user", "content": said}] if isinstance(said, str) else said
    plain = {k: v for k, v in body.items() if k in ("temperature", "top_p", "top_logprobs")}
    return chatting(
        {
            **plain,
            "messages": messages,
            "max_tokens": body.get("max_output_tokens"),
            "logprobs": True,
        },
        does,
    )


def unknown(body: Body, endpoint: str, does: Behaviour) -> None:
    """Refuse fields that are not the endpoint's, where the server is strict."""
    for name in body:
        if does.strict and name not in KNOWN[endpoint]:
            raise Refused(f"Unrecognized request argument supplied: {name}")


def _without(body: Body, does: Behaviour) -> Body:
    return {k: v for k, v in body.items() if k not in does.ignores}


def _texts(said: Any) -> tuple[str, ...]:
    return (said,) if isinstance(said, str) else tuple(said or ())


def _top(said: Any, most: int | None) -> int:
    top = int(said or 0)
    if most is None:
        return top
    if not 0 <= top <= most:
        raise Refused(f"logprobs must be between 0 and {most}")
    return top


def _fitting(asked: list[tuple[int, ...]], length: int, does: Behaviour) -> list[tuple[int, ...]]:
    for prompt in asked:
        if len(prompt) + length > does.positions:
            raise Refused(
                f"This model's maximum context length is {does.positions} tokens. However, you requested "
                f"{length} output tokens and your prompt contains {len(prompt)} input tokens"
            )
    return asked
