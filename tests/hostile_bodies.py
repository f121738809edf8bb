"""Bodies of requests that are nearly right: most fields as they should be, some as they should not."""

from __future__ import annotations

import random
from typing import Any

from reroot import Budget

INTEGERS: tuple[Any, ...] = (
    *(0, 1, 1, 2, 2, 3, 4, 5, 6, -1, 2**31, 2**62, 2**63, 2**64, 10**30, -(2**70)),
    *(True, 1.0, 1.5, float("nan"), float("inf"), -float("inf"), None, "1", [], {}, 10**4000),
)
REPORTS = ("sample", "sample", "logprob", "full", "argmax", "argmax(2)", "topk(2)", "topk(1)", "topk(0)",
           "topk(-1)", "none", "", "topk(9999999999999999999999)", "topk(٢)", "Sample", "sample\x00",
           f"topk({'9' * 5000})", "topk(1)(2)", 3, None)  # fmt: skip
TEXTS = (
    "",
    "p0",
    "p1",
    "x" * 5000,
    "\x00",
    "\ud800",
    "é",
    "e\u0301",
    "𝕡0",
    "p0\u200b",
    "../../x",
    "own/1",
    "\x1f",
    3,
    None,
)
LAWS = ("root/sample", "chosen/full", "reset/topk(2)", "visited/logprob", "root/sample@T=0.5", "root/sample@T=nan",
        "root/sample@T=1e999", "root/sample@top_k=99999999999999999999", "chosen/full+reward+reward", "Root/Sample",
        "ｒｏｏｔ/ｓａｍｐｌｅ", "chosen/topk(2)@T=0", None, "", "/", 5)  # fmt: skip

METADATA = ("{}", '{"a": NaN}', '{"\\ud800": -Infinity}', '{"a": %s}' % ("[" * 99 + "]" * 99), "[]", "", "{", {}, None,
            '{"a": %s}' % ("[" * 100 + "]" * 100), '{"a":' * 5000, '{"a": %s}' % ("9" * 5000), '{"\\u0000": 1}')  # fmt: skip

Draw = random.Random


def tokens(rng: Draw) -> Any:
    if rng.random() < 0.1:
        return rng.choice(INTEGERS)
    odd = rng.random() < 0.2
    return [rng.choice(INTEGERS) if odd else rng.randrange(4) for _ in range(rng.randrange(7))]


def prefixes(rng: Draw) -> Any:
    return (
        [tokens(rng) for _ in range(rng.randrange(4))]
        if rng.random() < 0.9
        else rng.choice(INTEGERS)
    )


def integer(rng: Draw) -> Any:
    return rng.choice(INTEGERS) if rng.random() < 0.4 else rng.choice((1, 1, 2, 3, None))


def query(rng: Draw) -> Any:
    made = {
        "prefix": tokens(rng) if rng.random() < 0.7 else [],
        "n": integer(rng) or 1,
        "length": integer(rng),
        "report": rng.choice(REPORTS),
        "forced": tokens(rng) if rng.random() < 0.2 else None,
    }
    if rng.random() < 0.05:
        made.pop(rng.choice([*made]))
    if rng.random() < 0.05:
        made["more"] = 1
    return made


def message(rng: Draw) -> Any:
    return rng.choice((
        lambda: {"ask": [query(rng) for _ in range(rng.randrange(4))]},
        lambda: {"ask": [query(rng)]},
        lambda: {rng.choice(("reward", "verifier", "value")): prefixes(rng)},
        lambda: {"demonstration": integer(rng)},
        lambda: {"hidden": prefixes(rng), "layers": integer(rng)},
        lambda: {"text": tokens(rng)},
        lambda: rng.choice((None, 3, [], {}, {"ask": None}, {"ask": [None]}, {"ask": [], "text": []})),
    ))()  # fmt: skip


def turn(rng: Draw) -> Any:
    return {"messages": [message(rng) for _ in range(rng.randrange(3))]}


CURRENCIES = (*Budget.__dataclass_fields__, "token", "")


def opening(rng: Draw) -> Any:
    fields = {
        "problem": lambda: rng.choice(TEXTS) if rng.random() < 0.3 else "p0",
        "contract": lambda: rng.choice(LAWS),
        "budget": lambda: {
            rng.choice(CURRENCIES): rng.choice(INTEGERS) for _ in range(rng.randrange(3))
        },
        "seed": lambda: rng.choice(INTEGERS),
        "learner": lambda: rng.choice(TEXTS),
        "key": lambda: rng.choice(TEXTS),
    }
    chosen = {name: make() for name, make in fields.items() if rng.random() < 0.3}
    return {"problem": "p0", **chosen}


def closing(rng: Draw) -> Any:
    fields = {
        "output": lambda: tokens(rng),
        "metadata": lambda: rng.choice(METADATA),
        "error": lambda: rng.choice((
            None, {}, {"kind": "E", "message": "m"}, {"kind": "x" * 5000, "message": ""}, {"kind": 1, "message": 2},
            {"kind": "", "message": "x" * 9000, "who": "generator", "file": "/etc/passwd", "line": rng.choice(INTEGERS)},
            {"kind": "\x00", "message": "\ud800"}, {"kind": "E", "message": "m", "more": 1},
        )),
        "out_of_budget": lambda: rng.choice((True, False, 1, None)),
    }  # fmt: skip
    return {name: make() for name, make in fields.items() if rng.random() < 0.6}


def asking(rng: Draw) -> Any:
    fields = {
        "n": lambda: integer(rng),
        "max_tokens": lambda: integer(rng),
        "seed": lambda: rng.choice(INTEGERS),
        "stop": lambda: rng.choice(("", "\n", [], ["a"] * 9, [""], ["\x00"], 3, None, "\ud800")),
        "stream": lambda: rng.choice((True, False, 1)),
        "stream_options": lambda: rng.choice(
            (None, {}, {"include_usage": True}, {"include_usage": 1})
        ),
        "temperature": lambda: rng.choice((1, 1.0, 0, float("nan"), -1, "1", 10**400)),
        "top_p": lambda: rng.choice((1, 0.5, float("inf"))),
        "user": lambda: rng.choice(TEXTS),
        "model": lambda: rng.choice(("toy", "", "other", "\x00", 3)),
        "logit_bias": lambda: rng.choice(({}, {"1": 5}, None)),
        "best_of": lambda: rng.choice(INTEGERS),
        "echo": lambda: rng.choice((True, False, 0)),
        "suffix": lambda: rng.choice(TEXTS),
    }
    return {name: make() for name, make in fields.items() if rng.random() < 0.15}


def completing(rng: Draw) -> Any:
    prompt = rng.choice(
        (
            tokens(rng),
            tokens(rng),
            [tokens(rng)],
            [tokens(rng)] * 2,
            rng.choice(TEXTS),
            [],
            ["a"],
            [[]],
        )
    )
    more = {"logprobs": integer(rng)} if rng.random() < 0.4 else {}
    return {"prompt": prompt, **asking(rng), **more}


def chatting(rng: Draw) -> Any:
    said = rng.choice(
        (
            "hi",
            "",
            "\x00",
            "\ud800",
            [{"type": "text", "text": "a"}],
            [{"type": "image_url"}],
            None,
            3,
            [],
        )
    )
    one = {"role": rng.choice(("user", "assistant", "system", "", "x" * 300, 3)), "content": said}
    more = {"logprobs": True, "top_logprobs": rng.choice(INTEGERS)} if rng.random() < 0.4 else {}
    return {"messages": rng.choice(([one], [one], [one] * 3, [], None)), **asking(rng), **more}


KINDS = (
    ("/v1/sessions", opening),
    ("/v1/sessions/{}/turns/{}", turn),
    ("/v1/sessions/{}/close", closing),
    ("/v1/completions", completing),
    ("/v1/chat/completions", chatting),
    ("/v1/decode", lambda rng: {"sequences": prefixes(rng)}),
)
"""(path, what makes a body for it)."""
