"""When an output ends: a function of its tokens alone, whoever drew them and however they were cut.

An output u ends at its last token iff that is a stop token, or the text of u contains a stop text and
the text of u without that token does not. A stop text may begin in one token and end in another, inside
a character too; a prefix that a learner chose may hold its first half. The prompt is not part of u.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import InvalidInput
from ..types import IntArray, Prefix


class Writing(Protocol):
    """How the tokens of one generator become text."""

    def closes(self, tokens: Sequence[int], stop: Stop) -> bool:
        """Whether the last of ``tokens`` is the one with which their text first holds a stop text."""
        ...

    def apart(self) -> Writing:
        """The same, with nothing in it that others use and somebody could change."""
        ...


@dataclass(frozen=True, slots=True)
class Stop:
    """The rule by which outputs end. Immutable and hashable.

    Attributes:
        tokens: tokens that end an output whatever is before them: end tokens, and tokens whose own text
            holds a stop text.
        texts: the stop texts in UTF-8, each between two ``gap``.
        closing: other tokens that can be the last of a stop text which runs over token borders.
        writing: how tokens become text; needed where there are ``closing`` tokens.
        gap: what stands before a text and after every token, where a text is a list of words.
    """

    tokens: frozenset[int] = frozenset()
    texts: tuple[bytes, ...] = ()
    closing: frozenset[int] = frozenset()
    writing: Writing | None = None
    gap: bytes = b""

    @classmethod
    def of(cls, pieces: Pieces, texts: Sequence[str], ends: Iterable[int] = ()) -> Stop:
        """The rule of a generator whose text is that of its tokens, one after the other.

        Args:
            pieces: the text of each token.
            texts: stop texts.
            ends: end tokens.

        Raises:
            InvalidInput: a stop text is empty.
        """
        wanted = stop_bytes(texts)
        tokens = frozenset(ends) | pieces.holding(wanted)
        closing = pieces.ending(wanted) - tokens
        return cls(tokens, wanted, closing, pieces if closing else None)

    def ends(self, tokens: Sequence[int]) -> bool:
        """Whether an output ends at the last of ``tokens``, all its tokens so far.

        Raises:
            InvalidInput: where their text must be looked at, one is no token.
        """
        if not len(tokens):
            return False
        last = tokens[-1]
        if last in self.tokens or last not in self.closing or self.writing is None:
            return last in self.tokens
        if min(tokens) < 0:
            raise InvalidInput(f"{Prefix(tuple(tokens))} has the token {min(tokens)}")
        return self.writing.closes(tokens, self)

    def first_end(self, tokens: Sequence[int]) -> int | None:
        """Position of the first token that ends an output which starts with it, if there is one."""
        if self.tokens.isdisjoint(tokens) and self.closing.isdisjoint(tokens):
            return None
        for i, token in enumerate(tokens):
            if token in self.tokens or (token in self.closing and self.ends(tokens[: i + 1])):
                return i
        return None

    def cut(self, text: str) -> str:
        """``text`` before the first stop text in it."""
        if not self.texts:
            return text
        whole = self.gap + encoded(text) + self.gap
        places = [at for at in map(whole.find, self.texts) if at >= 0]
        return whole[len(self.gap) : min(places)].decode("utf-8", _ANY) if places else text

    def apart(self) -> Stop:
        """A copy for a learner, which nobody else looks at."""
        writing = None if self.writing is None else self.writing.apart()
        return Stop(self.tokens, self.texts, self.closing, writing, self.gap)


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """Text as the bytes of its tokens, one after the other: of byte-level tokenizers, of characters.

    Attributes:
        table: the bytes that each token adds to a text.
    """

    table: tuple[bytes, ...]

    def holding(self, wanted: tuple[bytes, ...]) -> frozenset[int]:
        """Tokens that hold one of the texts."""
        return frozenset(t for text in wanted for t, own in enumerate(self.table) if text in own)

    def ending(self, wanted: tuple[bytes, ...]) -> frozenset[int]:
        """Tokens that can be the last of a text that another token begins."""
        rests = tuple({s[i:] for s in wanted for i in range(1, len(s))})
        return frozenset(t for t, own in enumerate(self.table) if own.startswith(rests))

    def closes(self, tokens: Sequence[int], stop: Stop) -> bool:
        if max(tokens) >= len(self.table):
            most = len(self.table) - 1
            raise InvalidInput(f"token {max(tokens)} is outside the vocabulary 0…{most}")
        last = self.table[tokens[-1]]
        reach = max(map(len, stop.texts)) - 1  # bytes before the last token that can matter
        before, at = b"", len(tokens) - 1
        while at and len(before) < reach:
            at -= 1
            before = self.table[tokens[at]] + before
        before = before if at else stop.gap + before
        if not any(text in before + last for text in stop.texts):
            return False
        whole = stop.gap + b"".join([self.table[t] for t in tokens[:-1]])
        return not any(text in whole for text in stop.texts)

    def apart(self) -> Pieces:
        return Pieces(self.table)


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """Text as a tokenizer decodes all tokens together, whatever that does to each.

    Attributes:
        decode: a tuple of tokens → text.
        twin: makes another ``decode`` that does the same, for learners.
    """

    decode: Callable[[tuple[int, ...]], str]
    twin: Callable[[], Callable[[tuple[int, ...]], str]]

    def closes(self, tokens: Sequence[int], stop: Stop) -> bool:
        now, before = (encoded(self.decode(tuple(part))) for part in (tokens, tokens[:-1]))
        return any(text in now for text in stop.texts) and not any(
            text in before for text in stop.texts
        )

    def apart(self) -> Decoded:
        decode = self.twin()
        return Decoded(decode, lambda: decode)


class Stops:
    """The rules of requests that are answered together.

    Args:
        rules: of each request.
    """

    def __init__(self, rules: Sequence[Stop]) -> None:
        self._rules = [
            (rule, _array(rule.tokens), _array(rule.closing), members)
            for rule, members in grouped(rules).items()
            if rule.tokens or rule.closing
        ]

    def ended(
        self, owner: IntArray, last: IntArray, so_far: Callable[[int], Sequence[int]]
    ) -> npt.NDArray[np.bool_]:
        """(n,) which rows end at their last tokens.

        Args:
            owner: (n,) the request of each row.
            last: (n,) its last token.
            so_far: row → all tokens of its output.
        """
        ended = np.zeros(len(owner), dtype=np.bool_)
        for rule, tokens, closing, members in self._rules:
            mine = members[owner]
            ended |= np.isin(last, tokens) & mine
            if len(closing):
                for row in np.flatnonzero(np.isin(last, closing) & mine).tolist():
                    ended[row] = rule.ends(so_far(row))
        return ended


_Setting = TypeVar("_Setting")


def grouped(settings: Sequence[_Setting]) -> dict[_Setting, npt.NDArray[np.bool_]]:
    """Each distinct setting → (requests,) which requests have it."""
    return {s: np.array([s == other for other in settings]) for s in dict.fromkeys(settings)}


def stop_bytes(texts: Sequence[str]) -> tuple[bytes, ...]:
    """Stop texts in UTF-8 (``InvalidInput`` if one is empty)."""
    if "" in texts:
        raise InvalidInput("a stop text must not be empty")
    return tuple(map(encoded, texts))


def encoded(text: str) -> bytes:
    """``text`` in UTF-8."""
    return text.encode("utf-8", _ANY)


_ANY = "surrogatepass"  # an output may hold what no file can


def _array(tokens: frozenset[int]) -> IntArray:
    return np.fromiter(tokens, dtype=np.int64, count=len(tokens))
