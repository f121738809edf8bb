"""Which bracket strings are right, and where others go wrong: the grammar of ``Dyck``, without its law."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple


class ErrorKind(StrEnum):
    """How a string goes wrong, first kind that applies to the token first."""

    START_OR_END = "wrong start or end"
    """The first token closes, or the last one opens."""
    UNDERFLOW = "underflow"
    """A closing bracket where none is open."""
    WRONG_TYPE = "wrong closing type"
    """A closing bracket of another type than the innermost open one."""
    TOO_DEEP = "depth exceeded"
    """An opening bracket at the greatest depth."""
    TOO_LATE = "depth > remaining"
    """An opening bracket after which more are open than tokens remain."""


class DyckError(NamedTuple):
    """The first token from which a string can no longer be completed.

    Attributes:
        kind: how it goes wrong.
        position: index of that token.
    """

    kind: ErrorKind
    position: int


class BracketGrammar(NamedTuple):
    """Strings of ``horizon`` tokens, well-bracketed, never deeper than ``depth``; token 2i opens type i and
    token 2i + 1 closes it."""

    horizon: int
    depth: int

    def read(self, tokens: Sequence[int]) -> tuple[list[int], DyckError | None]:
        """The open types, outermost first, up to the first error."""
        stack: list[int] = []
        for position, token in enumerate(tokens):
            kind, closes = divmod(token, 2)
            if closes:
                wrong = _wrong_close(position, kind, stack)
            else:
                wrong = self._wrong_open(position, len(stack))
            if wrong is not None:
                return stack, DyckError(wrong, position)
            if closes:
                stack.pop()
            else:
                stack.append(kind)
        return stack, None

    def _wrong_open(self, position: int, depth: int) -> ErrorKind | None:
        left = self.horizon - position - 1
        if left == 0:
            return ErrorKind.START_OR_END
        if depth == self.depth:
            return ErrorKind.TOO_DEEP
        return ErrorKind.TOO_LATE if depth + 1 > left else None


def _wrong_close(position: int, kind: int, stack: Sequence[int]) -> ErrorKind | None:
    if position == 0:
        return ErrorKind.START_OR_END
    if not stack:
        return ErrorKind.UNDERFLOW
    return None if stack[-1] == kind else ErrorKind.WRONG_TYPE
