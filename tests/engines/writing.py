"""From what the engine answered to a reply as each dialect spells it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .behaviour import Behaviour
from .engine import Answered, Asked, Choice, Token
from .language import K, decode, encode, token_bytes
from .reading import Body

_FINISH = {"length": "length", "eos": "stop", "stop": "stop", "word": "stop"}


def _ids(ids: Sequence[int], does: Behaviour) -> list[int]:
    return [(i + 1) % K for i in ids] if does.other_ids else list(ids)


def _usage(done: Sequence[Answered], does: Behaviour) -> dict[str, Any]:
    drawn = [len(c.tokens) for a in done for c in a.choices]
    generated = drawn[0] if does.counts_one and drawn else sum(drawn)
    prompt = len(done[0].prompt) if does.counts_one else sum(len(a.prompt) for a in done)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": prompt + generated,
        "prompt_tokens_details": {"cached_tokens": sum(a.cached for a in done)},
    }


def _finish(choice: Choice, does: Behaviour) -> str:
    return does.finish or _FINISH[choice.finish]


def _content(tokens: Sequence[Token], tops: bool = True) -> list[dict[str, Any]]:
    """The shape of chat log-probabilities, with ids."""

    def one(token: int, logprob: float) -> dict[str, Any]:
        return {
            "id": token,
            "token": decode([token]),
            "bytes": [*token_bytes()[token]],
            "logprob": logprob,
        }

    return [
        {**one(t.id, t.logprob), "top_logprobs": [one(i, lp) for i, lp in t.tops] if tops else []}
        for t in tokens
    ]


# ---- llama.cpp ---------------------------------------------------------------------------------


def llama(body: Body, asked: Asked, done: Sequence[Answered], does: Behaviour) -> Any:
    """``/completion``: one object, or a list for a list of prompts."""
    after = bool(body.get("post_sampling_probs"))
    out: list[dict[str, Any]] = []
    for i, a in enumerate(done):
        (choice,) = a.choices
        reply: dict[str, Any] = {
            "index": i,
            "content": choice.text,
            "tokens": _ids(choice.ids, does) if body.get("return_tokens") else [],
            "stop": True,
            "model": "toy",
            "tokens_predicted": len(choice.ids),
            "tokens_evaluated": len(a.prompt),
            "generation_settings": _settings(asked, does),
            "truncated": False,
            "stop_type": does.finish
            or {"length": "limit", "eos": "eos", "word": "word"}[choice.finish],
            "stopping_word": choice.stopped_by or "",
            "tokens_cached": len(a.prompt) + len(choice.ids) - 1,
            "timings": {
                "cache_n": a.cached,
                "prompt_n": len(a.prompt) - a.cached,
                "predicted_n": len(choice.ids),
            },
        }
        if asked.top:
            listed = _after(choice) if after else _content(choice.tokens)
            if kept := _kept(choice, listed):  # without any, the field is not there
                reply["completion_probabilities"] = kept
        out.append(reply)
    several = isinstance(body["prompt"], list) and not isinstance(body["prompt"][0], int)
    return out if several else out[0]


def _kept(choice: Choice, listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """llama.cpp leaves out tokens that end inside a character, and as many as a stop text has."""
    pieces, whole = token_bytes(), b""
    kept: list[dict[str, Any]] = []
    for token, entry in zip(choice.ids, listed, strict=True):
        whole += pieces[token]
        if not whole.decode("utf-8", "replace").endswith("\ufffd"):
            kept.append(entry)
    if choice.finish == "word":
        kept = kept[: max(0, len(kept) - len(encode(str(choice.stopped_by))))]
    return kept


def _after(choice: Choice) -> list[dict[str, Any]]:
    """Probabilities after the chain: ``prob`` and ``top_probs``."""
    shown = _content([Token(t.id, t.drawn, t.drawn_tops) for t in choice.tokens])
    for token in shown:
        token["top_probs"] = token.pop("top_logprobs")
        for entry in (token, *token["top_probs"]):
            entry["prob"] = 2.718281828459045 ** entry.pop("logprob")
        token["top_probs"] = [e for e in token["top_probs"] if e["prob"] > 0]
    return shown


def _settings(asked: Asked, does: Behaviour) -> dict[str, Any]:
    s = asked.sampler
    return {
        "seed": asked.seed if asked.seed is not None else 2**32 - 1,
        "temperature": s.temperature,
        "top_k": s.top_k,
        "top_p": s.top_p,
        "min_p": s.min_p,
        "repeat_penalty": s.repetition_penalty,
        "presence_penalty": s.presence_penalty,
        "frequency_penalty": s.frequency_penalty,
        "samplers": list(s.order),
        "stop": list(asked.stop_texts),
        "logit_bias": [{"bias": b, "token": t} for t, b in s.bias.items()],
        "grammar": "",
        "n_probs": asked.top,
        "n_predict": asked.length,
        "ignore_eos": asked.ignore_eos,
        **does.forced,
    }


# ---- /v1/completions -----------------------------------------------------------------------------


def completion(body: Body, asked: Asked, done: Sequence[Answered], does: Behaviour) -> Any:
    choices: list[dict[str, Any]] = []
    for a in done:
        for choice in a.choices:
            shown: dict[str, Any] = {
                "index": len(choices),
                "text": (decode(a.prompt) if body.get("echo") else "") + choice.text,
                "logprobs": None,
                "finish_reason": _finish(choice, does),
            }
            echoed = [*a.scores, *choice.tokens] if body.get("echo") and a.scores else choice.tokens
            prompt = a.prompt if body.get("echo") and a.scores else ()
            if body.get("logprobs") is not None and "logprobs" not in does.ignores:
                if does.dialect == "llamacpp":
                    shown["logprobs"] = {"content": _content(choice.tokens)}
                else:
                    shown["logprobs"] = _legacy(echoed, prompt, body, does)
            if does.dialect == "vllm":
                _vllm(shown, body, a, choice, does)
            choices.append(shown)
    return {
        "id": "cmpl-0",
        "object": "text_completion",
        "model": "toy",
        "choices": choices,
        "usage": _usage(done, does),
    }


def _vllm(shown: dict[str, Any], body: Body, a: Answered, choice: Choice, does: Behaviour) -> None:
    shown["stop_reason"] = choice.stopped_by
    if body.get("return_token_ids"):
        shown["token_ids"] = _ids(choice.ids, does)
        shown["prompt_token_ids"] = _ids(a.prompt, does)
    if body.get("prompt_logprobs") is not None and a.scores:
        shown["prompt_logprobs"] = [
            None
            if t is None
            else {
                str(i): {"logprob": lp, "rank": 1 + rank, "decoded_token": decode([i])}
                for rank, (i, lp) in enumerate(dict([*t.tops, (t.id, t.logprob)]).items())
            }
            for t in a.scores
        ]


def _legacy(
    tokens: Sequence[Token | None], prompt: Sequence[int], body: Body, does: Behaviour
) -> dict[str, Any]:
    """OpenAI's legacy shape: lists keyed by text, or by "token_id:5" where asked for and honoured."""
    by_id = body.get("return_tokens_as_token_ids") and does.dialect == "vllm" and not does.text_keys

    def name(token: int) -> str:
        return f"token_id:{token}" if by_id else decode([token], special=True)

    def listed(token: Token) -> dict[str, float]:
        entries = dict([*token.tops, (token.id, token.logprob)])
        out: dict[str, float] = {}
        for i, logprob in entries.items():
            out.setdefault(name(i), logprob)  # of two ids of one text one is lost
        return out

    ids = [prompt[i] if t is None else t.id for i, t in enumerate(tokens)]
    texts = [name(i) for i in ids]
    offsets = [sum(map(len, texts[:i])) for i in range(len(texts))]
    return {
        "tokens": texts,
        "token_logprobs": [None if t is None else t.logprob for t in tokens],
        "top_logprobs": [None if t is None else listed(t) for t in tokens],
        "text_offset": offsets,
    }


# ---- SGLang's /generate ---------------------------------------------------------------------------


def sglang(body: Body, asked: Asked, done: Sequence[Answered], does: Behaviour) -> Any:
    out: list[dict[str, Any]] = []
    for a in done:
        for choice in a.choices:
            reason: dict[str, Any] = {"type": does.finish or _FINISH[choice.finish]}
            if choice.finish == "length":
                reason["length"] = len(choice.ids)
            else:
                reason["matched"] = choice.stopped_by or choice.ids[-1]
            meta: dict[str, Any] = {
                "id": f"toy-{len(out)}",
                "finish_reason": reason,
                "prompt_tokens": len(a.prompt),
                "completion_tokens": len(choice.ids),
                "cached_tokens": a.cached,
            }
            if body.get("return_logprob") and "return_logprob" not in does.ignores:
                meta["output_token_logprobs"] = [[t.logprob, t.id, None] for t in choice.tokens]
                if asked.top:
                    meta["output_top_logprobs"] = [_triples(t) for t in choice.tokens]
                if asked.scores is not None:
                    start = asked.score_from
                    scores = [*zip(a.scores, a.prompt, strict=True)][start:]
                    meta["input_token_logprobs"] = [
                        [None if t is None else t.logprob, i, None] for t, i in scores
                    ]
                    meta["input_top_logprobs"] = [
                        None if t is None else _triples(t) for t, _ in scores
                    ]
            out.append(
                {"text": choice.text, "output_ids": _ids(choice.ids, does), "meta_info": meta}
            )
    several = asked.n > 1 or len(asked.prompts) > 1
    return out if several else out[0]


def _triples(token: Token) -> list[list[Any]]:
    return [[logprob, i, None] for i, logprob in token.tops]


# ---- chat and responses ------------------------------------------------------------------------------


def chatting(body: Body, asked: Asked, done: Sequence[Answered], does: Behaviour) -> Any:
    (a,) = done
    last = body["messages"][-1]
    again = last["content"] if does.continues == "always" and last["role"] == "assistant" else ""
    wants = body.get("logprobs") and "logprobs" not in does.ignores
    choices = [
        {
            "index": i,
            "message": {"role": "assistant", "content": again + choice.text},
            "logprobs": {"content": _content(choice.tokens, asked.top > 0)} if wants else None,
            "finish_reason": _finish(choice, does),
        }
        for i, choice in enumerate(a.choices)
    ]
    if does.dialect != "llamacpp":
        for choice in choices:
            for entry in (choice["logprobs"] or {"content": []})["content"]:
                for one in (entry, *entry["top_logprobs"]):
                    del one["id"]
    return {
        "id": "chatcmpl-0",
        "object": "chat.completion",
        "model": "toy",
        "choices": choices,
        "usage": _usage(done, does),
    }


def responding(body: Body, asked: Asked, done: Sequence[Answered], does: Behaviour) -> Any:
    (a,) = done
    (choice,) = a.choices
    usage = _usage(done, does)
    part: dict[str, Any] = {"type": "output_text", "text": choice.text, "annotations": []}
    if "message.output_text.logprobs" in (body.get("include") or ()):
        part["logprobs"] = _content(choice.tokens)
        for entry in part["logprobs"]:
            for one in (entry, *entry["top_logprobs"]):
                del one["id"]
    ended = _finish(choice, does) == "stop"
    return {
        "id": "resp_0",
        "object": "response",
        "status": "completed" if ended else "incomplete",
        "incomplete_details": None if ended else {"reason": "max_output_tokens"},
        "output": [{"type": "message", "role": "assistant", "content": [part]}],
        "usage": {
            "input_tokens": usage["prompt_tokens"],
            "input_tokens_details": usage["prompt_tokens_details"],
            "output_tokens": usage["completion_tokens"],
            "total_tokens": usage["total_tokens"],
        },
    }
