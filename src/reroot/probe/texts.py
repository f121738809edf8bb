"""Claims about texts: where they are cut, begin tokens, chat templates, turns that are continued."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import BackendError, InvalidInput
from ..generators.remote.dialects import Call
from ..generators.remote.wire import Fault
from ..types import Chat
from .asking import Fails, NotAsked, lies_fail
from .site import Site

_PIECE = "1 + 1 =\n"
"""A text that two of which are the tokens of both: nothing joins a line break and a digit."""
_CUTS = (("My favourite anim", "al"), ("t", "he"), ("I do", "n't"), ("thr", "ee"))
"""Texts cut inside a word, which most tokenizers have a token for."""
_ANSWER = "The answer is"


def count(site: Site, text: str) -> int:
    """Tokens that the server reads a text as, by its own count (``NotAsked``: it takes no texts)."""
    name = site.table.name
    body: dict[str, Any] = {"seed": 1, "model": site.asker.model}
    if name == "llamacpp":
        path, body = "/completion", {"prompt": text, "n_predict": 1, "seed": 1}
    elif name == "sglang":
        path, body = "/generate", {"text": text, "sampling_params": {"max_new_tokens": 1}}
    elif site.table.path == "/v1/completions":
        path, body = "/v1/completions", {**body, "prompt": text, "max_tokens": 1}
    else:
        return _chat_count(site, [("user", text)])
    answer = _posted(site, path, body, len(text.encode()) + 17, name)
    return _prompt_tokens(answer, name)


def _posted(site: Site, path: str, body: Mapping[str, Any], worst: int, name: str) -> Any:
    def cost(answer: Any) -> int:
        return _prompt_tokens(answer, name) + _generated(answer)

    with lies_fail():
        return site.asker.post(path, body, worst, cost)


def _prompt_tokens(answer: Any, name: str) -> int:
    if name == "llamacpp":
        return int(answer["tokens_evaluated"])
    if name == "sglang":
        return int(answer["meta_info"]["prompt_tokens"])
    usage = answer["usage"]
    return int(usage.get("prompt_tokens", usage.get("input_tokens")))


def _generated(answer: Any) -> int:
    """Tokens that came; the responses dialect writes 16 at least."""
    usage = answer.get("usage") or {}
    return int(usage.get("completion_tokens", usage.get("output_tokens", 1)))


def _chat_count(site: Site, messages: Sequence[tuple[str, str]], **more: Any) -> int:
    """Prompt tokens of a chat, by the server's count."""
    said = [{"role": role, "content": text} for role, text in messages]
    if more.pop("prefix", False):
        said[-1] = {**said[-1], "prefix": True}  # type: ignore[dict-item]
    worst = sum(len(text.encode()) for _, text in messages) + 512 + 16
    if site.table.name == "responses":
        path, body = "/v1/responses", {"input": said, "max_output_tokens": 16}
    else:
        path, body = "/v1/chat/completions", {"messages": said, "max_tokens": 1, "seed": 1}
    answer = _posted(site, path, {**body, "model": site.asker.model, **more}, worst, "chat")
    return _prompt_tokens(answer, "chat")


def text_boundaries(site: Site) -> str:
    """Does a text that is cut inside a word keep its tokens when it is continued?"""
    if site.table.ids:
        speech = site.speech
        if speech is None:
            raise NotAsked("no tokenizer is known; name one with --tokenizer")
        for cut, rest in _CUTS:
            apart = speech.encode_continuation(cut) + speech.encode_continuation(rest)
            if apart != speech.encode_continuation(cut + rest):
                site.asker.ask([Call(apart, seed=1)])
                return (
                    f"prompts are ids: {cut!r} + {rest!r} is read as {len(apart)} tokens, as sent"
                )
        return "prompts are ids; of the words tried none is spelt otherwise in two parts"
    for cut, rest in _CUTS:
        apart, joined = count(site, cut), count(site, cut + rest)
        if joined <= apart:
            raise Fails(
                f"{cut!r} is {apart} tokens, and {cut + rest!r} is {joined}: a text that is continued is "
                f"read anew, and what was drawn cannot be given back"
            )
    return "of the words tried none is read as fewer tokens when it is continued"


def begin_token(site: Site) -> str:
    """Is a begin token put before a text, once?"""
    if site.table.path not in ("/v1/completions", "/completion", "/generate"):
        raise NotAsked("the dialect takes chats; see 'chat template'")
    one, two = count(site, _PIECE), count(site, _PIECE * 2)
    added = 2 * one - two
    if added > 1:
        raise Fails(f"{added} tokens are put before a text ({one} tokens once, {two} twice)")
    first = _begin(site)
    if first is None:
        return f"{added} tokens are put before a text ({one} tokens once, {two} twice)"
    again = count(site, first + _PIECE)
    if added and again > one:
        raise Fails(
            f"a text that begins with {first} gets it again: {again} tokens instead of {one}"
        )
    return (
        f"{added} tokens are put before a text, {again - one + added} where it begins with {first}"
    )


def _begin(site: Site) -> str | None:
    """The text of the begin token, where the tokenizer or the server tells it."""
    if site.table.name == "llamacpp":
        props = site.asker.wire.wait(site.asker.wire.get("/props"))
        said = props.get("bos_token") if isinstance(props, Mapping) else None
        return said if isinstance(said, str) and said else None
    if site.speech is None:
        return None
    plain, told = site.speech.encode_continuation("a"), site.speech.encode("a")
    return None if plain == told else site.speech.decode(told[:1]) or None


def chat_template(site: Site) -> str:
    """What does a chat endpoint put around a message?"""
    try:
        one, two = (_chat_count(site, [("user", _PIECE * n)]) for n in (1, 2))
    except Fault:
        raise
    except (BackendError, InvalidInput, Fails) as error:
        raise NotAsked(f"no chat endpoint answers ({error})") from None
    around = 2 * one - two
    seen = f"{around} tokens are put around one user message"
    known = _template(site, _PIECE)
    if known is None:
        return f"{seen}; no template is known to compare with"
    if known != one:
        raise Fails(f"{seen}: {one} prompt tokens, where the template that is known gives {known}")
    return f"{seen}, as the template that is known does"


def _template(site: Site, text: str) -> int | None:
    """Tokens of one user message by the template that the tokenizer, or the server, tells."""
    if site.speech is None:
        return None
    try:
        return len(site.speech.encode_chat(Chat((("user", text),))))
    except Fault:
        raise
    except Exception:  # a template of anybody's making, or none
        return None


def last_turn(site: Site) -> str:
    """Is a last message of the assistant continued?"""
    if site.table.name == "responses":
        raise NotAsked("the dialect has no field for it")
    try:
        around = 2 * _chat_count(site, [("user", _PIECE)]) - _chat_count(
            site, [("user", _PIECE * 2)]
        )
        base = _chat_count(site, [("user", _PIECE)])
    except Fault:
        raise
    except (BackendError, InvalidInput, Fails) as error:
        raise NotAsked(f"no chat endpoint answers ({error})") from None
    going = base + _chat_count(site, [("user", _ANSWER)]) - around
    messages = (("user", _PIECE), ("assistant", _ANSWER))
    flags = {"add_generation_prompt": False, "continue_final_message": True}
    ways: tuple[tuple[str, dict[str, Any]], ...] = (
        ("by itself", {}),
        ("with continue_final_message", flags),
        ("with prefix", {"prefix": True}),
    )
    seen: list[str] = []
    for name, more in ways:
        try:
            found = _chat_count(site, messages, **more)
        except (InvalidInput, Fails) as error:
            seen.append(f"{name} it is refused ({error})")
            continue
        if found == going:
            return f"{name} it is continued: {found} prompt tokens"
        seen.append(f"{name} {found} prompt tokens")
    raise Fails(
        f"a turn that is continued has {going} prompt tokens; {'; '.join(seen)}: it is closed"
    )
