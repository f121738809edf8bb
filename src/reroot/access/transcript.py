"""Transcripts: every message of an attempt and its answer, one JSON line each, append-only.

They serve three purposes: to be read, to be audited against a weaker contract, and to resume an
interrupted attempt without paying twice for what was already answered.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import AccessDenied, InvalidInput, RunFolderError
from ..types import Prefix, Query, Reply
from .contract import Contract, Oracle, Report
from .rules import PrefixRules
from .session import Ask, Consult, Decode, Demonstrate, Message

_ARRAYS = ("tokens", "lengths", "logprobs", "top_tokens", "top_logprobs", "laws")


def _pack(array: np.ndarray | None) -> object:
    if array is None:
        return None
    if array.dtype == np.int64:
        return array.tolist()
    shared = array.ndim == 3 and array.shape[0] > 1 and array.strides[0] == 0
    data = np.ascontiguousarray(array[:1] if shared else array, dtype="<f8")
    return {"shape": list(array.shape), "f8": base64.b64encode(data.tobytes()).decode("ascii")}


def _unpack(value: Any) -> np.ndarray | None:
    if value is None:
        return None
    if isinstance(value, list):
        return np.array(value, dtype=np.int64)
    flat = np.frombuffer(base64.b64decode(value["f8"]), dtype="<f8")
    shape = tuple(value["shape"])
    if flat.size != np.prod(shape):
        return np.broadcast_to(flat.reshape(1, *shape[1:]), shape)
    return flat.reshape(shape)


def message_to_json(message: Message) -> dict[str, Any]:
    """A message as JSON values."""
    if isinstance(message, Ask):
        return {"ask": [_query_to_json(q) for q in message.queries]}
    if isinstance(message, Consult):
        return {str(message.oracle): [list(p.tokens) for p in message.prefixes]}
    if isinstance(message, Demonstrate):
        return {"demonstration": message.length}
    return {"text": list(message.prefix.tokens)}


def _query_to_json(query: Query) -> dict[str, Any]:
    return {
        "prefix": list(query.prefix.tokens),
        "n": query.n,
        "length": query.length,
        "report": str(query.report),
        "given": None if query.given is None else list(query.given),
    }


def _query_from_json(data: dict[str, Any]) -> Query:
    given = data["given"]
    return Query(
        Prefix(tuple(data["prefix"])),
        data["n"],
        data["length"],
        Report.parse(data["report"]),
        None if given is None else tuple(given),
    )


def value_to_json(value: object) -> object:
    """An answer's value as JSON values."""
    if isinstance(value, list) and value and isinstance(value[0], Reply):
        return [
            {"prefix": list(r.prefix.tokens), **{a: _pack(getattr(r, a)) for a in _ARRAYS}}
            for r in value
        ]
    if isinstance(value, Prefix):
        return list(value.tokens)
    return value


def replies_from_json(value: list[dict[str, Any]]) -> list[Reply]:
    """The replies of a recorded ``ask``."""
    return [
        Reply(Prefix(tuple(r["prefix"])), **{a: _unpack(r[a]) for a in _ARRAYS})  # type: ignore[arg-type]
        for r in value
    ]


def read_transcript(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a transcript; a last line cut off by a kill is left out.

    Raises:
        RunFolderError: the file is not there, or a line in the middle is damaged.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise RunFolderError(f"can't read the transcript {path}: {error}") from None
    for number, line in enumerate(lines[:-1], 1):  # what follows the last newline is unfinished
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            raise RunFolderError(f"{path}, line {number}: not a transcript line: {error}") from None


def audit(path: str | Path, contract: Contract | str) -> AccessDenied | None:
    """Would this recorded attempt have been permitted under ``contract``?

    Args:
        path: a transcript file of a run with ``transcripts=True``.
        contract: the contract to check against.

    Returns:
        The refusal of the first message that would have been refused, or ``None``.

    Raises:
        RunFolderError: not a transcript.
    """
    contract = Contract.parse(contract) if isinstance(contract, str) else contract
    lines = read_transcript(Path(path))
    head = next(lines, None)
    if head is None or "horizon" not in head:
        raise RunFolderError(f"{path} does not start with the head line of a transcript")
    recorded = Contract.parse(head["contract"])
    if contract.resolved.sampling != recorded.resolved.sampling:
        return AccessDenied(
            "the whole transcript",
            f"its draws follow {recorded.resolved.sampling}, the contract's {contract.resolved.sampling}",
            str(recorded),
        )
    rules = PrefixRules(head["horizon"])
    for line in lines:
        try:
            _audit_line(line, contract, rules)
        except AccessDenied as refused:
            return AccessDenied(f"message {line['i']}: {refused.query}", refused.rule, refused.weakest)
    return None


def _audit_line(line: dict[str, Any], contract: Contract, rules: PrefixRules) -> None:
    if line["error"] is not None:
        return  # refused or failed at the time: nothing was learned
    message = line["message"]
    for oracle in Oracle:
        if oracle.value in message and oracle not in contract.oracles:
            weakest = contract.with_oracles([oracle])
            raise AccessDenied(str(oracle), f"the contract does not grant the {oracle} oracle", str(weakest))
    if "ask" not in message:
        return
    queries = [_query_from_json(q) for q in message["ask"]]
    rules.check(contract, queries)
    rules.note_asked(queries)
    for query, reply in zip(queries, replies_from_json(line["value"]), strict=True):
        if query.given is None:
            rules.note_emitted(reply)


def same_message(recorded: dict[str, Any], message: Message) -> bool:
    """Whether a recorded message is the one a learner sends again."""
    return recorded == json.loads(json.dumps(message_to_json(message)))


def check_kind(message: object) -> Message:
    """Refuse anything in the letter box that is not a message (``InvalidInput``)."""
    if type(message) not in (Ask, Consult, Demonstrate, Decode):
        raise InvalidInput(f"a session sends messages, not {message!r}")
    return message  # type: ignore[return-value]
