"""How servers are asked: one table per dialect. What they answer is read in ``replies``.

Nothing here says what a server may be trusted with: a dialect is a spelling, a contract comes from probes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ...contract import Sampling
from ...errors import InvalidInput, nearest
from ...types import Chat

WHOLE = -1
"""Length of a list that is the whole law."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request over the wire, whatever the dialect.

    Attributes:
        prompt: all tokens before the first new one.
        said: what a server that takes no ids is given: a text, or messages.
        n, length: continuations, and most tokens of each.
        top: length of the lists: ``None`` no log-probabilities, 0 those of the tokens alone, or ``WHOLE``.
        seed: of the first continuation.
        stop_tokens, stop_texts: where the server may end, besides its own end tokens.
        goes_on: whether its own end tokens end nothing.
        force: the one token that must come.
        scored: the last so many tokens of the prompt are reported on too.
    """

    prompt: tuple[int, ...]
    said: str | Chat | None = None
    n: int = 1
    length: int = 1
    sampling: Sampling = Sampling()
    top: int | None = None
    seed: int | None = None
    stop_tokens: tuple[int, ...] = ()
    stop_texts: tuple[str, ...] = ()
    goes_on: bool = False
    force: int | None = None
    scored: int = 0


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one kind of server is asked.

    Attributes:
        name: of the dialect.
        path: where continuations are asked for.
        reader: which function of ``replies`` reads the answer.
        fields: what → the field that says it, dotted where it is nested. What a dialect has no field
            for, it cannot do.
        always: fields that are sent with every call: neutral values of all other sampling settings, and
            what makes the answer complete.
        shown: what is sent besides where log-probabilities are wanted.
        whole: how the whole law is asked for; ``None``: it cannot be.
        no_top_k: how "no top-k" is spelt.
        ids: whether tokens go in and come out as ids.
        scores: how given tokens are scored: "prompt" in one call, "steps" one by one, or not ("").
        longest: the longest list by documentation; ``None``: no limit.
        choices: most continuations per call.
        consecutive: whether the seed of continuation i is seed + i.
        seed_bits: of the largest seed.
        leaves_out: whether log-probabilities of some tokens may be missing; they are asked for apart.
        window: calls in flight at first.
        health: a path that answers 200 when the server is up.
    """

    name: str
    path: str
    reader: str
    fields: Mapping[str, str]
    always: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    shown: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    whole: int | None = None
    no_top_k: int = 0
    ids: bool = True
    scores: str = ""
    longest: int | None = None
    choices: int = 1
    consecutive: bool = False
    seed_bits: int = 31
    leaves_out: bool = False
    window: int = 32
    health: str = "/health"


_OPENAI = {
    "prompt": "prompt",
    "n": "n",
    "length": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "seed": "seed",
    "stop_texts": "stop",
    "model": "model",
}
_NO_PENALTIES = {"presence_penalty": 0.0, "frequency_penalty": 0.0}

VLLM = Dialect(
    name="vllm",
    path="/v1/completions",
    reader="vllm",
    fields={
        **_OPENAI,
        "top_k": "top_k",
        "top": "logprobs",
        "stop_tokens": "stop_token_ids",
        "goes_on": "ignore_eos",
        "scored": "prompt_logprobs",
    },
    always={
        **_NO_PENALTIES,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "min_tokens": 0,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
        "stream": False,
    },
    whole=-1,
    scores="prompt",
    choices=256,
    consecutive=True,
    seed_bits=62,
)

LLAMACPP = Dialect(
    name="llamacpp",
    path="/completion",
    reader="llamacpp",
    fields={
        "prompt": "prompt",
        "length": "n_predict",
        "temperature": "temperature",
        "top_p": "top_p",
        "top_k": "top_k",
        "seed": "seed",
        "stop_texts": "stop",
        "top": "n_probs",
        "force": "logit_bias",
    },
    always={
        **_NO_PENALTIES,
        "min_p": 0.0,
        "typical_p": 1.0,
        "repeat_penalty": 1.0,
        "xtc_probability": 0.0,
        "dry_multiplier": 0.0,
        "mirostat": 0,
        "dynatemp_range": 0.0,
        "samplers": ["temperature", "top_k", "top_p"],
        "min_keep": 0,
        "logit_bias": [],  # else the server's own
        "backend_sampling": False,
        "n_cache_reuse": 0,  # keys and values of another context are not those of this one
        "post_sampling_probs": False,
        "cache_prompt": True,
        "return_tokens": True,
        "ignore_eos": False,
        "stream": False,
    },
    whole=1 << 30,
    scores="steps",
    seed_bits=31,  # 2^32 − 1 stands for "any"
    leaves_out=True,  # of tokens that end inside a character, and of stop texts
    window=4,
)

SGLANG = Dialect(
    name="sglang",
    path="/generate",
    reader="sglang",
    fields={
        "prompt": "input_ids",
        "n": "sampling_params.n",
        "length": "sampling_params.max_new_tokens",
        "temperature": "sampling_params.temperature",
        "top_p": "sampling_params.top_p",
        "top_k": "sampling_params.top_k",
        "seed": "sampling_params.sampling_seed",
        "stop_texts": "sampling_params.stop",
        "stop_tokens": "sampling_params.stop_token_ids",
        "goes_on": "sampling_params.ignore_eos",
        "top": "top_logprobs_num",
        "scored": "logprob_start_len",
    },
    always={
        "sampling_params.min_p": 0.0,
        "sampling_params.repetition_penalty": 1.0,
        "sampling_params.presence_penalty": 0.0,
        "sampling_params.frequency_penalty": 0.0,
        "sampling_params.min_new_tokens": 0,
        "stream": False,
    },
    shown={"return_logprob": True, "return_text_in_logprobs": False},
    whole=1 << 20,
    no_top_k=-1,
    scores="prompt",
    choices=128,
)

COMPLETIONS = Dialect(
    name="completions",
    path="/v1/completions",
    reader="text",
    fields=_OPENAI,
    always={**_NO_PENALTIES, "stream": False},
    ids=False,
    longest=5,
    choices=128,
    window=16,
    health="/v1/models",
)

CHAT = Dialect(
    name="chat",
    path="/v1/chat/completions",
    reader="chat",
    fields={**_OPENAI, "prompt": "messages", "length": "max_completion_tokens"},
    always={**_NO_PENALTIES, "stream": False},
    ids=False,
    longest=20,
    choices=128,
    window=16,
    health="/v1/models",
)

RESPONSES = Dialect(
    name="responses",
    path="/v1/responses",
    reader="responses",
    fields={
        "prompt": "input",
        "length": "max_output_tokens",
        "temperature": "temperature",
        "top_p": "top_p",
        "model": "model",
    },
    always={"stream": False, "store": False},
    ids=False,
    longest=20,
    window=16,
    health="/v1/models",
)

DIALECTS: Mapping[str, Dialect] = {
    d.name: d for d in (VLLM, LLAMACPP, SGLANG, COMPLETIONS, CHAT, RESPONSES)
}


def dialect(name: str) -> Dialect:
    """The dialect of a name (``InvalidInput`` with the nearest)."""
    if name not in DIALECTS:
        raise InvalidInput(f"unknown dialect {name!r}.{nearest(name, DIALECTS)}")
    return DIALECTS[name]


def spelt(table: Dialect, call: Call, model: str) -> dict[str, Any]:
    """The body of a call: every field of the dialect that decides the law, always.

    Raises:
        InvalidInput: the dialect has no field for something that is asked.
    """
    sampling, top = call.sampling, call.top
    said: dict[str, Any] = {
        "prompt": _prompt(table, call),
        "n": call.n,
        "length": call.length,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k or table.no_top_k,
        "seed": call.seed,
        "model": model,
        "stop_texts": list(call.stop_texts) or None,
        "stop_tokens": list(call.stop_tokens),
        "goes_on": call.goes_on,
        "force": None if call.force is None else [[call.force, 1000.0]],
        "top": None if top is None else table.whole if top == WHOLE else top,
        "scored": None,
    }
    if table.name == "llamacpp" and top == 0:
        said["top"] = 1  # with n_probs = 0 nothing is stated
    if call.scored:
        vllm = table.name == "vllm"
        said["scored"] = said["top"] if vllm else len(call.prompt) - call.scored - 1
    body: dict[str, Any] = {}
    for path, value in (*table.always.items(), *(table.shown.items() if top is not None else ())):
        _put(body, path, value)
    for what, value in said.items():
        if what in table.fields:
            if value is not None:
                _put(body, table.fields[what], value)
        elif missing := _missing(what, value, table):
            raise InvalidInput(f"servers of the dialect {table.name!r} cannot be told {missing}")
    return body


def _missing(what: str, value: Any, table: Dialect) -> str:
    """What is asked though there is no field for it, in words."""
    asked = {
        "n": value != 1,
        "top_k": value != table.no_top_k,
        "goes_on": bool(value),
        "force": value is not None,
        "top": value is not None,
        "scored": value is not None,
        "temperature": value != 1.0,
        "top_p": value != 1.0,
    }
    return f"{what}={value}" if asked.get(what) else ""


def _prompt(table: Dialect, call: Call) -> Any:
    if table.ids:
        return list(call.prompt)
    if table.path == "/v1/completions":
        return str(call.said)
    if isinstance(call.said, Chat):
        return [{"role": role, "content": text} for role, text in call.said.messages]
    return [{"role": "user", "content": call.said}]


def _put(body: dict[str, Any], path: str, value: Any) -> None:
    *outer, name = path.split(".")
    for part in outer:
        body = body.setdefault(part, {})
    body[name] = value
