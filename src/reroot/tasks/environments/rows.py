"""What the environments of all versions of verifiers become: rows with a prompt and a judge."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ...errors import InvalidInput
from ...types import Chat
from ..base import RewardFunction


@dataclass(frozen=True, slots=True)
class Judged:
    """One row of an environment: what is asked, the answer where it is text, and the judge."""

    prompt: str | Chat
    answer: str
    reward: RewardFunction


class Environment(Protocol):
    """What a name of verifiers stands for."""

    def __len__(self) -> int: ...

    def judged(self, index: int) -> Judged:
        """Row ``index`` (``InvalidInput`` where an output of one turn cannot be judged)."""
        ...


def package(module: str = "verifiers") -> Any:
    """A module of verifiers, which is no dependency of reroot's: environments bring their version of it."""
    return importlib.import_module(module)


def messages_of(prompt: Sequence[Any]) -> Chat:
    """Messages of text, whichever classes they are of, as a chat (``InvalidInput`` for others)."""
    found: list[dict[str, Any]] = []
    for message in prompt:
        fields: Mapping[str, Any] = message if isinstance(message, Mapping) else vars(message)
        if not isinstance(fields.get("content"), str) or fields.get("tool_calls"):
            raise InvalidInput(f"a prompt's messages must be text, got {message!r}")
        found.append({"role": fields.get("role"), "content": fields["content"]})
    return Chat.of(found)
