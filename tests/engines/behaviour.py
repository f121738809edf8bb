"""One honest profile per dialect, and what a server can be told to do wrong, as one flat table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from .language import EOS

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Behaviour:
    """What a server does. The first block is honest: what engines differ in; the second is not.

    Attributes:
        dialect: "llamacpp", "vllm", "sglang" or "openai".
        defaults: sampling fields where a request does not name them; honest as long as it may.
        order: steps of sampling, where a request does not name them.
        lists: longest list of likely tokens; ``None``: the whole law.
        chat_lists: the same of chat endpoints.
        slots: requests served at once; others wait.
        cache: "slots" (one kept sequence per slot), "blocks" (all prefixes of whole blocks) or "none".
        block: tokens per block.
        most_n: most choices per prompt; more are refused.
        positions: most prompt and generated tokens.
        ids: whether prompts may be token ids.
        scores: whether given tokens are scored (``prompt_logprobs``, ``echo``, ``logprob_start_len``).
        biases: whether ``logit_bias`` works.
        bos: begin tokens put before a text prompt.
        continues: how a chat goes on inside a last assistant message: "always" (llama.cpp), "flag"
            (vLLM), "prefix" (DeepSeek, Mistral) or "never".
        counts_one: usage counts one choice only, as llama.cpp's does.
        strict: unknown fields are refused instead of ignored.
        ends: tokens at which it ends outputs; a llama.cpp server tells one of them.
        stops, bias: texts at which it stops and biases that it adds, where a request names none (llama.cpp's
            command line).

        ignores: fields that are ignored in silence.
        forced: sampling fields that hold whatever a request says.
        processed: stated log-probabilities are those after temperature and truncation.
        text_keys: lists keyed by text, though ids were asked for.
        bos_on_ids: begin tokens put before a prompt of ids.
        silent_n: at most so many choices come back, in silence.
        copies: all choices of a request are one and the same draw.
        retokenizes: a prompt of ids is turned into text and back.
        seeds: "honoured", "serial" (only when nothing else runs), "ignored".
        other_ids: the prompt that is echoed, and token ids, are shifted by one.
        nan, mass: a stated log-probability is NaN; what a law sums to.
        shift: nats added to stated log-probabilities of lists.
        noise: standard deviation, in nats, of what each stated log-probability is off.
        clips: lists have at most so many entries, in silence.
        cache_drift: by how much laws of prompts that the cache has are sharper.
        template_adds: tokens that the chat template adds before the messages.
        closes: a last assistant turn is closed though its continuation was asked for.
        longer: one token more than asked comes back.
        finish: what the reason to stop is always said to be.
        padding: bytes of nonsense added to each reply.

        delay, per_token, per_prompt: seconds per request, generated token, computed prompt token.
        busy: every so many-th request is answered 429; ``retry_after`` seconds are named.
        fails: every so many-th request is answered 500.
        cuts: every so many-th reply is cut in the middle.
        garbles: every so many-th reply is JSON of another shape.
        html: every so many-th reply is a page of a proxy.
        quotes: every request is answered 401, with the key that came with it.
        most_at_once: 429 when more requests than that are in flight.
    """

    dialect: str
    defaults: Settings = field(default_factory=dict)
    order: tuple[str, ...] = ("temperature", "min_p", "top_k", "top_p")
    lists: int | None = None
    chat_lists: int | None = 20
    slots: int = 256
    cache: str = "blocks"
    block: int = 4
    most_n: int = 16384
    positions: int = 2048
    ids: bool = True
    scores: bool = True
    biases: bool = True
    bos: int = 0
    continues: str = "never"
    counts_one: bool = False
    strict: bool = False
    ends: frozenset[int] = frozenset({EOS})
    stops: tuple[str, ...] = ()
    bias: Mapping[int, float] = field(default_factory=dict)

    ignores: frozenset[str] = frozenset()
    forced: Settings = field(default_factory=dict)
    processed: bool = False
    text_keys: bool = False
    bos_on_ids: int = 0
    silent_n: int | None = None
    copies: bool = False
    retokenizes: bool = False
    seeds: str = "honoured"
    other_ids: bool = False
    nan: bool = False
    mass: float = 1.0
    shift: float = 0.0
    noise: float = 0.0
    clips: int | None = None
    cache_drift: float = 0.0
    template_adds: tuple[int, ...] = ()
    closes: bool = False
    longer: bool = False
    finish: str | None = None
    padding: int = 0

    delay: float = 0.0
    per_token: float = 0.0
    per_prompt: float = 0.0
    busy: int = 0
    retry_after: float | None = None
    fails: int = 0
    cuts: int = 0
    garbles: int = 0
    html: int = 0
    quotes: bool = False
    most_at_once: int | None = None
    language: Settings = field(default_factory=dict)


LLAMA_DEFAULTS: Settings = MappingProxyType(
    {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05}
)

HONEST: Mapping[str, Behaviour] = {
    "llamacpp": Behaviour(
        "llamacpp",
        defaults=LLAMA_DEFAULTS,
        order=("top_k", "top_p", "min_p", "temperature"),
        chat_lists=None,
        slots=4,
        cache="slots",
        most_n=4,
        scores=False,
        continues="always",
        counts_one=True,
    ),
    "vllm": Behaviour("vllm", continues="flag"),
    "sglang": Behaviour("sglang", seeds="ignored"),
    "openai": Behaviour("openai", lists=5, most_n=128, strict=True, seeds="serial", cache="none"),
}
"""Dialect → an engine that keeps its word."""

MISBEHAVIOURS: Mapping[str, Settings] = {
    "default_temperature": {"forced": {"temperature": 0.8}},
    "default_top_k": {"forced": {"top_k": 40}},
    "default_top_p": {"forced": {"top_p": 0.9}},
    "default_min_p": {"forced": {"min_p": 0.05}},
    "default_repetition_penalty": {"forced": {"repetition_penalty": 1.3}},
    "default_presence_penalty": {"forced": {"presence_penalty": 1.5}},
    "default_frequency_penalty": {"forced": {"frequency_penalty": 1.5}},
    "llama_defaults_when_silent": {"defaults": LLAMA_DEFAULTS},
    "greedy": {"forced": {"temperature": 0.0}},
    "ignored_logprobs": {"ignores": frozenset({"logprobs", "n_probs", "return_logprob"})},
    "ignored_bias": {"ignores": frozenset({"logit_bias"}), "biases": False},
    "ignored_n": {"silent_n": 1},
    "ignored_top_k": {"ignores": frozenset({"top_k"})},
    "clipped_lists": {"clips": 20},
    "noise": {"noise": 0.03},
    "cache_changes_laws": {"cache_drift": 0.1},
    "text_keys": {"text_keys": True},
    "bos_twice": {"bos": 2},
    "bos_on_ids": {"bos_on_ids": 1},
    "copied_choices": {"copies": True},
    "retokenized": {"retokenizes": True},
    "seeds_ignored": {"seeds": "ignored"},
    "seeds_serial": {"seeds": "serial"},
    "other_ids": {"other_ids": True},
    "nan": {"nan": True},
    "mass_below_one": {"mass": 0.97},
    "shifted_lists": {"shift": 0.1},
    "processed": {"processed": True},
    "template_adds": {"template_adds": (10, 11)},
    "closed_turn": {"closes": True},
    "longer": {"longer": True},
    "wrong_finish": {"finish": "stop"},
    "large_replies": {"padding": 10_000_000},
    "busy": {"busy": 3, "retry_after": 0.05},
    "fails": {"fails": 4},
    "cuts": {"cuts": 4},
    "garbles": {"garbles": 4},
}
"""Name → what to change in an honest profile; they compose."""


def behaviour(dialect: str, *names: str, **changes: Any) -> Behaviour:
    """The honest profile with named misbehaviours and further changes."""
    settings: dict[str, Any] = {}
    for name in names:
        settings |= MISBEHAVIOURS[name]
    return replace(HONEST[dialect], **(settings | changes))
