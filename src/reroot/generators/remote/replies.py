"""What servers answer, read and checked: nothing is taken on trust that can be seen in the answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...errors import BackendError
from ...types import FloatArray, IntArray
from .dialects import LLAMACPP, WHOLE, Call, Dialect

Ranked = tuple[IntArray, FloatArray]
"""(ids, nats), most likely first, ties by id."""
_IMPOSSIBLE = -9000.0
"""What is below is −inf as JSON has it: vLLM writes −9999."""
_ROUNDING = 1e-3
"""Nats by which equal log-probabilities may differ in one answer, and be above 0."""


class NoReply(BackendError):
    """An answer that has not the shape of its dialect."""


@dataclass(slots=True, eq=False)
class Row:
    """One continuation as a server states it.

    Attributes:
        ids: new tokens; of a text server none.
        text: what a text server wrote.
        logprobs: one per token, in nats.
        lists: of each token, where asked for.
        ended: the server says that it ended by itself, not for its length.
        scores: (token, nats, list) of each scored token of the prompt.
    """

    ids: list[int]
    text: str = ""
    logprobs: list[float] = field(default_factory=list[float])
    lists: list[Ranked] = field(default_factory=list[Ranked])
    ended: bool = False
    scores: list[tuple[int, float, Ranked]] = field(default_factory=list[tuple[int, float, Ranked]])


@dataclass(slots=True, eq=False)
class Read:
    """An answer: its continuations, and what was computed for them.

    Attributes:
        prompt: tokens of the prompt by the server's count.
        cached: those of them that its cache had.
        generated: tokens of all continuations by the server's count.
    """

    rows: list[Row]
    prompt: int
    cached: int
    generated: int


def read(table: Dialect, call: Call, answer: Any) -> Read:
    """The answer to ``call``, checked against it.

    Raises:
        BackendError: it has another shape (``NoReply``), is about other tokens or settings, or states
            impossible numbers; says which.
    """
    try:
        found = _READERS[table.reader](answer, call)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise NoReply(
            f"the server's answer is no {table.name} reply ({type(error).__name__}: {error}): "
            f"{shortened(answer)}"
        ) from None
    _check(table, call, found)
    return found


def shortened(answer: Any, most: int = 200) -> str:
    """The beginning of an answer, for messages."""
    text = str(answer)
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"


def _check(table: Dialect, call: Call, found: Read) -> None:
    if len(found.rows) != call.n:
        raise BackendError(f"{call.n} continuations were asked for, {len(found.rows)} came back")
    if table.ids and found.prompt != len(call.prompt):
        raise BackendError(
            f"the server read {found.prompt} prompt tokens where {len(call.prompt)} were sent: it "
            f"adds or respells tokens"
        )
    for row in found.rows:
        if table.ids and not 1 <= len(row.ids) <= call.length:
            raise BackendError(
                f"a continuation of {len(row.ids)} tokens came back, 1 to {call.length} were asked for"
            )
        if table.ids and not row.ended and len(row.ids) < call.length:
            raise BackendError(
                f"a continuation of {len(row.ids)} of {call.length} tokens is said to have ended for its length"
            )
        if row.ids and min(row.ids) < 0:
            raise BackendError(f"the server answered the token {min(row.ids)}")
        missing = table.leaves_out and len(row.logprobs) < len(row.ids)
        if call.top is not None and not missing:
            _check_numbers(call, row)


def _check_numbers(call: Call, row: Row) -> None:
    """As many numbers as tokens, log-probabilities all of them, and not two for one token."""
    if len(row.logprobs) != len(row.ids):
        raise BackendError(
            f"{len(row.ids)} tokens came with {len(row.logprobs)} log-probabilities: the server "
            f"ignores that they were asked for"
        )
    if call.top and len(row.lists) != len(row.ids):
        raise BackendError(f"{len(row.ids)} tokens came with {len(row.lists)} lists")
    stated = (
        [*zip(row.ids, row.logprobs, row.lists, strict=True)]
        if call.top
        else [(i, lp, None) for i, lp in zip(row.ids, row.logprobs, strict=True)]
    )
    for token, logprob, ranked in (*stated, *row.scores):
        if math.isnan(logprob) or logprob > _ROUNDING:
            raise BackendError(
                f"the server states a log-probability of {logprob} for token {token}"
            )
        if ranked is None:
            continue
        ids, logs = ranked
        if np.isnan(logs).any() or (len(logs) and logs[0] > _ROUNDING):
            raise BackendError(f"the server lists log-probabilities that are none: {logs[:5]}")
        if call.top and call.top != WHOLE and len(ids) < call.top:
            raise BackendError(f"lists of {call.top} tokens were asked for, one has {len(ids)}")
        at = np.flatnonzero(ids == token)
        if len(at) and not abs(float(logs[at[0]]) - logprob) <= _ROUNDING and logprob > -math.inf:
            raise BackendError(
                f"the server states {logprob:.4f} nats for token {token}, and lists it with "
                f"{logs[at[0]]:.4f}"
            )


def _nats(value: Any) -> float:
    number = float(value)
    return -math.inf if number <= _IMPOSSIBLE else number


def ranked(ids: Sequence[int], logprobs: Sequence[float]) -> Ranked:
    """Most likely first; ties go to the smaller id."""
    tokens = np.array(ids, dtype=np.int64)
    logs = np.array([_nats(value) for value in logprobs])
    order = np.lexsort((tokens, -logs))
    return tokens[order], logs[order]


# ---- vLLM ----------------------------------------------------------------------------------------


def _vllm(answer: Any, call: Call) -> Read:
    rows: list[Row] = []
    prompt = call.prompt
    for choice in sorted(answer["choices"], key=lambda c: c["index"]):
        asked = choice["prompt_token_ids"]
        if asked is not None:
            prompt = tuple(asked)
        if prompt != call.prompt and len(prompt) == len(call.prompt):
            raise BackendError(_others(prompt, call.prompt))
        row = Row(
            list(choice["token_ids"]), choice["text"], ended=choice["finish_reason"] == "stop"
        )
        if call.top is not None and (stated := choice["logprobs"]):
            if (names := [_named(t) for t in stated["tokens"]]) != row.ids:
                raise BackendError(_others(names, row.ids))
            row.logprobs = [_nats(value) for value in stated["token_logprobs"]]
            row.lists = [_keyed(entries) for entries in stated["top_logprobs"] or ()]
        if call.scored:
            stated = choice["prompt_logprobs"][-call.scored :]
            for token, entries in zip(call.prompt[-call.scored :], stated, strict=True):
                own = _nats(entries[str(token)]["logprob"])
                values = [entry["logprob"] for entry in entries.values()]
                row.scores.append((token, own, ranked([int(t) for t in entries], values)))
        rows.append(row)
    usage = answer["usage"]
    return Read(rows, len(prompt), _cached(usage), usage["completion_tokens"])


def _others(seen: Sequence[int], known: Sequence[int]) -> str:
    return f"the server speaks of other tokens than it was asked: {list(seen)[:8]}, not {list(known)[:8]}"


def _named(name: str) -> int:
    """The id of ``"token_id:5"``."""
    head, _, number = name.partition(":")
    if head != "token_id":
        raise BackendError(
            f"the server names tokens by text ({name!r}) though ids were asked for: of tokens with "
            f"one text all but one would be lost"
        )
    return int(number)


def _keyed(entries: Mapping[str, float]) -> Ranked:
    return ranked([_named(name) for name in entries], list(entries.values()))


def _cached(usage: Mapping[str, Any]) -> int:
    return (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0


# ---- llama.cpp -----------------------------------------------------------------------------------


def _llamacpp(answer: Any, call: Call) -> Read:
    _check_settings(answer["generation_settings"], call)
    row = Row(
        list(answer["tokens"]), answer["content"], ended=answer["stop_type"] in ("eos", "word")
    )
    if call.top is not None:
        entries = answer.get("completion_probabilities") or ()  # not there where all are left out
        for entry in entries if _begin(entries, row.ids) else ():
            row.logprobs.append(_nats(entry["logprob"]))
            listed = entry["top_logprobs"]
            row.lists.append(ranked([e["id"] for e in listed], [e["logprob"] for e in listed]))
    timings = answer["timings"]
    return Read([row], answer["tokens_evaluated"], timings["cache_n"], len(row.ids))


def _begin(entries: Sequence[Mapping[str, Any]], ids: Sequence[int]) -> bool:
    """Whether entries belong to the first tokens. Some are left out: of tokens that end inside a character,
    where the next one begins with the rest of it; and the last ones, of a stop text."""
    known = [entry["id"] for entry in entries]
    if len(known) == len(ids):
        if known != list(ids):
            raise BackendError(_others(known, ids))
        return True
    rest = any(
        bytes(e["bytes"])[:1] >= b"\x80" and bytes(e["bytes"])[:1] < b"\xc0" for e in entries
    )
    return not rest and known == list(ids[: len(known)])


def _check_settings(shown: Mapping[str, Any], call: Call) -> None:
    """The server shows the law that it draws from, and where it ends."""
    sampling = call.sampling
    wanted: dict[str, Any] = {
        **LLAMACPP.always,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "grammar": "",
        "stop": list(call.stop_texts),  # where it is told none, it has those of its command line
    }
    if call.force is not None:  # whether it came is seen
        del wanted["logit_bias"]
    for name, value in wanted.items():
        seen = shown.get(name, value)
        alike = (
            math.isclose(seen, value, abs_tol=1e-6) if isinstance(value, float) else seen == value
        )
        if not alike:
            raise BackendError(f"the server was told {name}={value} and runs with {seen}")


# ---- SGLang --------------------------------------------------------------------------------------


def _sglang(answer: Any, call: Call) -> Read:
    rows: list[Row] = []
    answers = answer if isinstance(answer, list) else [answer]
    metas = [one["meta_info"] for one in answers]
    for one, meta in zip(answers, metas, strict=True):
        row = Row(
            list(one["output_ids"]), one["text"], ended=meta["finish_reason"]["type"] == "stop"
        )
        if call.top is not None:
            stated = meta.get("output_token_logprobs") or []
            if stated and [entry[1] for entry in stated] != row.ids:
                raise BackendError(_others([entry[1] for entry in stated], row.ids))
            row.logprobs = [_nats(entry[0]) for entry in stated]
            row.lists = [_triples(listed) for listed in meta.get("output_top_logprobs") or ()]
        if call.scored:
            row.scores = _sglang_scores(meta, call)
        rows.append(row)
    generated = sum(meta["completion_tokens"] for meta in metas)
    cached = max(meta.get("cached_tokens") or 0 for meta in metas)
    return Read(rows, metas[0]["prompt_tokens"], cached, generated)


def _sglang_scores(meta: Mapping[str, Any], call: Call) -> list[tuple[int, float, Ranked]]:
    stated = meta["input_token_logprobs"][-call.scored :]
    wanted = call.prompt[-call.scored :]
    if tuple(entry[1] for entry in stated) != wanted:
        raise BackendError(_others([entry[1] for entry in stated], wanted))
    lists = meta.get("input_top_logprobs") or []
    empty: Ranked = ranked([], [])
    shown = [_triples(listed) for listed in lists[-call.scored :]] or [empty] * call.scored
    return [
        (entry[1], _nats(entry[0]), listed) for entry, listed in zip(stated, shown, strict=True)
    ]


def _triples(listed: Sequence[Sequence[Any]]) -> Ranked:
    return ranked([entry[1] for entry in listed], [entry[0] for entry in listed])


# ---- texts ---------------------------------------------------------------------------------------


def _text(answer: Any, call: Call) -> Read:
    choices = sorted(answer["choices"], key=lambda c: c["index"])
    rows = [Row([], _said(c["text"]), ended=c["finish_reason"] == "stop") for c in choices]
    return _of_texts(rows, answer["usage"])


def _chat(answer: Any, call: Call) -> Read:
    choices = sorted(answer["choices"], key=lambda c: c["index"])
    rows = [
        Row([], _said(c["message"]["content"]), ended=c["finish_reason"] == "stop") for c in choices
    ]
    return _of_texts(rows, answer["usage"])


def _said(text: Any) -> str:
    if not isinstance(text, str):
        raise TypeError(f"a continuation is {text!r}, not text")
    return text


def _of_texts(rows: list[Row], usage: Mapping[str, Any]) -> Read:
    return Read(rows, usage["prompt_tokens"], _cached(usage), usage["completion_tokens"])


def _responses(answer: Any, call: Call) -> Read:
    parts = [
        _said(part["text"])
        for item in answer["output"]
        if item["type"] == "message"
        for part in item["content"]
        if part["type"] == "output_text"
    ]
    usage = answer["usage"]
    cached = (usage.get("input_tokens_details") or {}).get("cached_tokens") or 0
    row = Row([], "".join(parts), ended=answer["status"] == "completed")
    return Read([row], usage["input_tokens"], cached, usage["output_tokens"])


_READERS: Mapping[str, Callable[[Any, Call], Read]] = {
    "vllm": _vllm,
    "llamacpp": _llamacpp,
    "sglang": _sglang,
    "text": _text,
    "chat": _chat,
    "responses": _responses,
}
