"""What crosses the wire: messages, answers and facts as JSON values, and back.

Messages and answers are written as in transcripts (``access.transcript``). Of an error crosses what a
learner may know, and no place in the server's files.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from .. import errors
from ..access import wire
from ..access.failures import Failure
from ..access.gate import bare
from ..access.session import (
    Answer,
    Demonstrate,
    EndRule,
    Equality,
    Facts,
    Message,
    sanitize,
)
from ..access.transcript import DAMAGED, message_to_json, recorded_answer
from ..access.wire import stop_from_json
from ..errors import (
    AccessDenied,
    AccountExceeded,
    BackendError,
    BudgetExceeded,
    InvalidInput,
    RerootError,
)
from ..types import Cost, Prefix, as_tokens

_ROOM = f"{Path(errors.__file__).parent}/"


def message_from_json(data: object) -> Message:
    """A message as ``message_to_json`` writes it, read with suspicion (``InvalidInput``: it is none)."""
    try:
        return sanitize(wire.message_from_json(data))
    except DAMAGED as error:
        raise InvalidInput(f"{data!r:.200} is no message: {error}") from None


def pack_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages that were read already, for another process of the server."""
    return [message_to_json(message) for message in messages]


def unpack_messages(packed: list[dict[str, Any]]) -> list[Message]:
    """The inverse of ``pack_messages``."""
    return [wire.message_from_json(data) for data in packed]


# ---- answers -------------------------------------------------------------------------------------


def error_to_json(error: Exception | None) -> dict[str, Any] | None:
    """An error as a learner may see it."""
    if error is None:
        return None
    error = bare(error if isinstance(error, RerootError) else BackendError(""))
    if isinstance(error, AccessDenied):
        told = {"query": error.query, "rule": error.rule, "weakest": error.weakest}
    elif isinstance(error, BudgetExceeded):
        told = {
            "currency": error.currency,
            "requested": error.requested,
            "remaining": error.remaining,
        }
        if isinstance(error, AccountExceeded):
            return {"type": BudgetExceeded.__name__, **told, "of": "key"}
    else:
        told = {"message": str(error)}
    return {"type": type(error).__name__, **told}


def error_from_json(data: dict[str, Any]) -> RerootError:
    """The inverse of ``error_to_json``; an unknown kind is a ``BackendError``."""
    told = dict(data)
    name = told.pop("type", "")
    if name == "AccessDenied":
        return AccessDenied(**told)
    if name == "BudgetExceeded":
        kind = AccountExceeded if told.pop("of", None) == "key" else BudgetExceeded
        return kind(**told)
    kind = getattr(errors, name, None) if isinstance(name, str) else None
    message = str(told.get("message", ""))
    if isinstance(kind, type) and issubclass(kind, RerootError):
        return cast("type[RerootError]", kind)(message)
    return BackendError(message)


def line_to_json(line: dict[str, Any], error: dict[str, Any] | None) -> dict[str, Any]:
    """A line of a transcript as the client may keep it: what failed behind the door it does not say,
    and files are named from the package on."""
    failure = line["error"]
    if failure is None or error is None:
        return line
    hidden = error["type"] in ("BackendError", "OracleError")
    own = isinstance(failure["file"], str) and failure["file"].startswith(_ROOM)
    told = {
        **failure,
        "message": error["message"] if hidden else failure["message"],
        "file": failure["file"].removeprefix(_ROOM) if own and not hidden else None,
        "line": failure["line"] if own and not hidden else None,
    }
    return {**line, "error": told}


def line_from_json(line: dict[str, Any]) -> dict[str, Any]:
    """A line as it would have been written here."""
    failure = line["error"]
    if failure is None or failure["file"] is None:
        return line
    return {**line, "error": {**failure, "file": _ROOM + failure["file"]}}


def answer_from_json(message: Message, data: dict[str, Any]) -> Answer:
    """An answer that has come for ``message``.

    Raises:
        BackendError: it is no answer to that.
    """
    try:
        spent = Cost(**data["spent"])
        if data["error"] is not None:
            return Answer(None, error_from_json(data["error"]), spent)
        value, _ = recorded_answer(message, data["line"])
    except (BackendError, *DAMAGED) as error:
        raise BackendError(f"the server sent no answer to {message!r:.200}: {error}") from None
    return Answer(
        Prefix.of(as_tokens(value)) if isinstance(message, Demonstrate) else value, None, spent
    )


# ---- facts ---------------------------------------------------------------------------------------


def facts_to_json(facts: Facts) -> dict[str, Any]:
    """What a learner may know before it asks.

    Raises:
        InvalidInput: its rule of ends needs a tokenizer, which does not cross.
    """
    rules = {"stop": stop_to_json(facts.stop), "equality": equality_to_json(facts.equality)}
    return wire.facts_to_json(facts) | rules


def facts_from_json(data: dict[str, Any]) -> Facts:
    """The inverse of ``facts_to_json`` (``BackendError`` if it is none)."""
    try:
        stop, equality = stop_from_json(data["stop"]), equality_from_json(data["equality"])
        return wire.facts_with(data, stop, equality)
    except DAMAGED as error:
        raise BackendError(f"the server sent no facts: {error}") from None


def stop_to_json(stop: EndRule) -> dict[str, Any]:
    """A rule of ends (``InvalidInput`` where it needs a tokenizer)."""
    told = wire.stop_to_json(stop)
    if told is None:
        raise InvalidInput(
            "stop texts of this problem are found by its tokenizer alone, which clients do not have: "
            "serve it without stop texts, or with ones that are single tokens"
        )
    return told


def equality_to_json(equality: Equality | None) -> str | None:
    """The name of a rule of answers.

    Raises:
        InvalidInput: it is code of a file, which does not cross.
    """
    from ..tasks.answers.rules import Own

    if equality is None:
        return None
    kind = getattr(equality, "kind", None)
    if not isinstance(kind, str) or isinstance(equality, Own):
        raise InvalidInput(
            f"votes of this problem are counted by {equality!r:.80}, which clients do not have"
        )
    return kind


def equality_from_json(kind: str | None) -> Equality | None:
    from ..tasks.answers.rules import Own, rule

    if kind is None:
        return None
    named = rule(kind)
    if isinstance(named, Own):  # a server names no file of this machine
        raise BackendError(f"the server named the rule {kind!r}")
    return copy.copy(named)


def failure_from_json(data: dict[str, Any] | None) -> Failure | None:
    """Why a learner ended, as its client says; whose fault it is it does not say (``InvalidInput``)."""
    if data is None:
        return None
    try:
        failure = Failure(**data)
    except TypeError as error:
        raise InvalidInput(f"{data!r:.200} is no failure: {error}") from None
    good = isinstance(failure.kind, str) and isinstance(failure.message, str)
    good = good and isinstance(failure.file, (str, type(None)))
    if not good or not isinstance(failure.line, (int, type(None))):
        raise InvalidInput(f"{data!r:.200} is no failure")
    return replace(failure, message=failure.message[:4000], who="learner")
