"""Values of rows: what stands at a path, prompts, messages and answers, checked."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from ...errors import nearest
from ..answers.extract import boxed, marked, said
from .rows import BadRow

Message = dict[str, str]
Messages = tuple[Message, ...]


def final_answer(text: str) -> str | None:
    """The answer in a rationale: behind the last ``####`` or in the last ``\\boxed``, if there is one."""
    found = marked(text)
    found = boxed(text) if found is None else found
    return None if found is None else found.strip()


def told_answer(text: str) -> str | None:
    """The answer in a rationale that may end in "The answer is: …" instead."""
    found = final_answer(text)
    return said(text) or None if found is None else found


def at_path(row: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path (a column with dots in its name comes first)."""
    if path in row:
        return row[path]
    value: Any = row
    for part in path.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, (list, tuple)) and re.fullmatch(r"-?\d+", part):
            try:
                value = value[int(part)]
            except IndexError:
                raise BadRow(f"{path} has no item {part}") from None
        else:
            hint = nearest(
                part, [str(name) for name in value] if isinstance(value, Mapping) else []
            )
            near = hint if "Did you mean" in hint else ""
            raise BadRow(f"the field {path!r} is missing.{near}".removesuffix("."))
    return value


def look(row: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path; ``None`` where there is none."""
    try:
        return at_path(row, path)
    except BadRow:
        return None


def read_prompt(value: object, column: str) -> str | Messages:
    """A prompt: text, or messages (``BadRow`` if it is neither)."""
    if isinstance(value, str):
        if not value.strip():
            raise BadRow(f"{column} must be a non-empty text, got {value!r}")
        chat = _chat_in(value)
        return value if chat is None else read_messages(chat, column)
    if isinstance(value, (list, tuple)) and value:
        return read_messages(value, column)
    raise BadRow(f"{column} must be a non-empty text or a list of messages, got {value!r}")


def _chat_in(text: str) -> list[Any] | None:
    """The messages that a text is as JSON: so they are kept in a cell of CSV."""
    if not text.startswith("["):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    talk = isinstance(found, list) and all(isinstance(m, dict) and "role" in m for m in found)
    return found if talk else None


_SPEAKERS = {  # as ShareGPT and its kin have them
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
}


def speaker(message: Mapping[str, Any]) -> object:
    """Who says a message, in the words of chat templates."""
    role = message.get("role", message.get("from"))
    return _SPEAKERS.get(role, role) if isinstance(role, str) else role


def read_messages(value: Sequence[Any], column: str) -> Messages:
    """Messages with role and content (``BadRow`` if they are none)."""
    found: list[Message] = []
    for message in value:
        if not isinstance(message, Mapping):
            raise BadRow(
                f"{column} must be a list of messages with role and content, got {message!r}"
            )
        role = speaker(message)
        text = message.get("content", message.get("value"))
        if isinstance(text, (list, tuple)):  # parts, of which text alone is understood
            parts = [p.get("text") for p in text if isinstance(p, Mapping)]
            text = (
                "".join(p for p in parts if p) if all(isinstance(p, str) for p in parts) else None
            )
        if not isinstance(role, str) or not isinstance(text, str):
            raise BadRow(f"{column}: a message needs a role and a text as content, got {message!r}")
        found.append({"role": role, "content": text})
    if not found:
        raise BadRow(f"{column} holds no messages")
    return tuple(found)


def with_system(messages: Messages, system: str) -> Messages:
    """``messages`` behind a system message, unless they have one."""
    if not system or messages[0]["role"] == "system":
        return messages
    return ({"role": "system", "content": system}, *messages)


def as_messages(prompt: str | Messages) -> Messages:
    """A text is what a user says."""
    return ({"role": "user", "content": prompt},) if isinstance(prompt, str) else prompt


def alternatives(value: object) -> Sequence[object]:
    """Right answers: of a list each, of anything else itself."""
    return value if isinstance(value, (list, tuple)) and value else [value]


def as_answer(value: object, column: str) -> str:
    """An answer as text (``BadRow`` if it is neither text nor a number)."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float, Decimal)):
        raise BadRow(f"{column} must be a non-empty text or a number, got {value!r}")
    if isinstance(value, (float, Decimal)) and not math.isfinite(value):
        raise BadRow(f"{column} must be a finite number, got {value!r}")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value)
    if not text.strip():
        raise BadRow(f"{column} must be a non-empty text or a number, got {value!r}")
    return text.strip()


def options_of(columns: Mapping[str, str], row: Mapping[str, Any]) -> dict[str, Any]:
    """id, max_tokens and stop, where the row has them."""
    found: dict[str, Any] = {}
    for name in ("id", "max_tokens", "stop"):
        value = row.get(columns.get(name, ""))
        if value is None:
            continue
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if name == "id" and (
            isinstance(value, bool) or not isinstance(value, (str, int)) or value == ""
        ):
            raise BadRow(f"id must be a non-empty text or an integer, got {value!r}")
        found[name] = value
    return found
