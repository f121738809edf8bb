"""Transcripts: every message of an attempt and its answer, one JSON line each, append-only.

They are there to be read, to be audited against a weaker contract, to be turned into what a weaker
report would have shown, and to resume an interrupted attempt without paying twice for what was
already answered.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from ..checks import check_int
from ..contract import Contract, Control, Oracle, Report
from ..errors import (
    BackendError,
    BudgetExceeded,
    InvalidInput,
    OracleError,
    RerootError,
    RunFolderError,
)
from ..generators.law import most_likely
from ..types import FloatArray, Prefix, Query, Reply, as_tokens
from .coarsen import coarsen
from .failures import Failure
from .sealing import read_sealed, sealed
from .session import Ask, AskHiddenStates, Consult, Demonstrate, Message

DAMAGED = (LookupError, TypeError, ValueError, OverflowError, AttributeError)
"""What reading a line raises that is JSON but does not say what it should."""

_KINDS = frozenset({"ask", "text", *map(str, Oracle)})
ARRAYS = ("tokens", "lengths", "logprobs", "top_tokens", "top_logprobs", "laws")
"""What a reply shows, besides its prefix."""


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
    if isinstance(message, AskHiddenStates):
        where = [list(p.tokens) for p in message.prefixes]
        return {str(Oracle.HIDDEN): where, "layers": message.layers}
    if isinstance(message, Demonstrate):
        return {"demonstration": message.length}
    return {"text": list(message.prefix.tokens)}


def _query_to_json(query: Query) -> dict[str, Any]:
    return {
        "prefix": list(query.prefix.tokens),
        "n": query.n,
        "length": query.length,
        "report": str(query.report),
        "forced": None if query.forced is None else list(query.forced),
    }


def query_from_json(data: dict[str, Any]) -> Query:
    """A recorded query."""
    forced, length = data["forced"], data["length"]
    return Query(
        Prefix(tuple(data["prefix"])),
        check_int("n", data["n"], least=1),
        None if length is None else check_int("length", length, least=1),
        Report.parse(data["report"]),
        None if forced is None else as_tokens(forced),
    )


def value_to_json(value: object) -> object:
    """An answer's value as JSON values."""
    if isinstance(value, list):
        items = cast("list[object]", value)
        return [_reply_to_json(item) if isinstance(item, Reply) else item for item in items]
    if isinstance(value, Prefix):
        return list(value.tokens)
    return _pack(cast("FloatArray", value)) if isinstance(value, np.ndarray) else value


def _reply_to_json(reply: Reply) -> dict[str, Any]:
    packed = {name: _pack(getattr(reply, name)) for name in ARRAYS}
    return {"prefix": list(reply.prefix.tokens), **packed}


def replies_from_json(value: list[dict[str, Any]]) -> list[Reply]:
    """The replies of a recorded ``ask``."""
    return [
        Reply(Prefix(tuple(r["prefix"])), **{a: _unpack(r[a]) for a in ARRAYS})  # type: ignore[arg-type]
        for r in value
    ]


def array_from_json(value: dict[str, Any]) -> FloatArray:
    """The hidden states of a recorded answer."""
    states = _unpack(value)
    if states is None:
        raise ValueError("no hidden states are recorded")
    return states


def read_transcript(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(bytes, content) of each line of a transcript; see ``read_sealed``.

    Raises:
        RunFolderError: the file is not there, or a line is damaged.
    """
    return read_sealed(path, "transcript")


def messages(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines after the head, in the order in which their messages were sent.

    Answers are written down as they come. An attempt that was interrupted and then went another
    way says so: lines before ``{"forget": i}`` count only up to message i.

    Raises:
        KeyError, TypeError, ValueError: a line is no message, or a message is there twice.
    """
    kept: dict[int, dict[str, Any]] = {}
    for line in lines:
        if "forget" in line:
            first = _index(line, "forget")
            kept = {i: known for i, known in kept.items() if i < first}
            continue
        i = _index(line, "i")
        if i in kept:
            raise ValueError(f"message {i} is there twice")
        if _index(line, "after") > i or len(line["message"].keys() & _KINDS) != 1:
            raise ValueError(f"message {i} is none: {line!r:.80}")
        if (line["error"] is None) == (line["value"] is None):
            raise ValueError(f"message {i} has not one answer")
        kept[i] = line
    return [kept[i] for i in sorted(kept)]


def _index(line: dict[str, Any], name: str) -> int:
    value = line[name]
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise TypeError(f"{name} must be an integer >= 0, got {value!r:.80}")
    return value


def damaged(what: str, error: Exception) -> RunFolderError:
    """What is said of a file whose lines do not say what they should."""
    return RunFolderError(f"{what} is not a transcript: {type(error).__name__}: {error}")


def weaken(
    transcript: str | Path | Iterable[dict[str, Any]], report: Report | str
) -> list[dict[str, Any]]:
    """A recorded run of the canonical experiment, as the same run under a weaker report.

    Every query that asked for FULL asks for ``report``, and its reply keeps what that report names
    (``coarsened``, which depends on no law). Queries that asked for no more than ``report``, oracles,
    texts and requests refused by the budget stay as they were; the head grants ``report``.

    For a learner that asks for the report it is granted, and makes no use of what is lost, the
    result is, to the byte, what it would have recorded with the same seed.

    Args:
        transcript: a transcript file, or its lines, of a run under ``root/full``.
        report: what the weaker transcript reports; ARGMAX(k) needs a run at temperature 0, whose
            rollouts follow the mode.

    Raises:
        RunFolderError: not a transcript.
        InvalidInput: another contract than described; a query asked for something in between, or
            for several continuations where ``report`` makes no draws; or a request failed for
            another reason than the budget, as the reason names the report.
    """
    report = Report.parse(report) if isinstance(report, str) else report
    what = "this"
    if isinstance(transcript, (str, Path)):
        what = str(transcript)
        transcript = [line for _, line in read_transcript(Path(transcript))]
    try:
        head, *lines = transcript
        granted = Contract.parse(head["contract"])
        _check_canonical(granted, report)
        weaker = {**head, "contract": str(replace(granted, report=report))}
        return [weaker, *(_weaker_line(line, report) for line in lines)]
    except InvalidInput:
        raise
    except (BackendError, *DAMAGED) as error:
        raise damaged(what, error) from None


def _check_canonical(granted: Contract, report: Report) -> None:
    if granted.control != Control.ROOT or granted.report != Report.FULL:
        raise InvalidInput(f"the canonical experiment is a run under root/full, not {granted}")
    sampling = granted.resolved.sampling
    if report == Report.NONE or not (report.draws or (sampling and sampling.temperature == 0.0)):
        raise InvalidInput(f"a run under {granted} has no transcript with {report} reports")


def _weaker_line(line: dict[str, Any], report: Report) -> dict[str, Any]:
    if "ask" not in line.get("message", ()):
        return line
    queries = [query_from_json(q) for q in line["message"]["ask"]]
    asked = [_weaker_query(query, report) for query in queries]
    value, error = line["value"], line["error"]
    if error is None:
        replies = [
            reply if old == new else coarsened(reply, new.report)
            for old, new, reply in zip(queries, asked, replies_from_json(value), strict=True)
        ]
        value = value_to_json(replies)
    elif failure_from_json(error).kind != BudgetExceeded.__name__:
        why = failure_from_json(error)
        raise InvalidInput(f"message {line['i']} failed, and why names its report: {why}")
    return {**line, "message": message_to_json(Ask(tuple(asked))), "value": value}


def _weaker_query(query: Query, report: Report) -> Query:
    if query.report <= report:
        return query
    if query.report != Report.FULL or not (report.draws or query.n == 1):
        raise InvalidInput(f"{query} has no counterpart with {report} reports")
    return replace(query, report=report)


def coarsened(reply: Reply, report: Report) -> Reply:
    """What a reply with FULL reports shows at a weaker one; a function that depends on no law.

    ARGMAX(k) lists are about the tokens of the reply: for a reply that follows the mode.

    Raises:
        InvalidInput: the reply carries no laws.
    """
    laws = reply.laws
    if laws is None:
        raise InvalidInput("this reply carries no laws; it was not asked with FULL")
    longest, vocab_size = laws.shape[1:]
    if report.top:
        held = laws[:1] if laws.strides[0] == 0 else laws  # one law shared by n draws stays shared
        ids = most_likely(held.reshape(-1, vocab_size), report.top)
        ids = ids.reshape(*held.shape[:2], -1)
        lists = (ids, np.take_along_axis(held, ids, axis=2))
        shape = (reply.n, *ids.shape[1:])
        reply = replace(
            reply,
            top_tokens=np.broadcast_to(lists[0], shape),
            top_logprobs=np.broadcast_to(lists[1], shape),
        )
    return coarsen(reply, Query(reply.prefix, reply.n, None, report), longest, vocab_size)


def transcript_text(lines: Iterable[dict[str, Any]]) -> str:
    """Lines as a transcript file holds them."""
    return b"".join(map(sealed, lines)).decode("utf-8")


def same_message(recorded: dict[str, Any], message: Message) -> bool:
    """Whether a recorded message is the one a learner sends again."""
    return recorded == json.loads(json.dumps(message_to_json(message)))


def recorded_answer(message: Message, line: dict[str, Any]) -> tuple[Any, Failure | None]:
    """What a line has recorded as the answer of ``message``, and the failure if it was one.

    Raises:
        KeyError, TypeError, ValueError: it is no answer to this message.
    """
    if line["error"] is not None:
        return None, failure_from_json(line["error"])
    value = line["value"]
    if isinstance(message, Ask):
        return replies_from_json(value), None
    if isinstance(message, AskHiddenStates):
        return array_from_json(value), None
    if isinstance(message, Consult):
        said = cast("list[Any]", value) if isinstance(value, list) else [None]
        kind = bool if message.oracle == Oracle.VERIFIER else float
        fits = all(type(v) is kind and math.isfinite(v) for v in said)
        if not fits or len(said) != len(message.prefixes):
            raise ValueError(f"no verdicts about {len(message.prefixes)} prefixes: {value!r:.80}")
    return cast("object", value), None


def recorded_error(failure: Failure) -> RerootError:
    """A recorded failure of the generator or of an oracle, as an exception."""
    kind = OracleError if failure.kind == OracleError.__name__ else BackendError
    return kind(failure.message)


def failure_from_json(data: Any) -> Failure:
    """A recorded failure (``TypeError`` if it is none)."""
    failure = Failure(**data)
    if not isinstance(failure.kind, str) or not isinstance(failure.message, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"{data!r:.80} is no failure")
    return failure
