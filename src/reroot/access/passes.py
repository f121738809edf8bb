"""Where the passes of a session stand: the bookkeeping of episode control.

A pass is one trip from ∅ forward. Passes may be under way side by side; two that stand at the same
prefix are two, and each goes on from there once.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Sequence

from ..types import Query, Reply
from .places import digest


class Passes:
    """How many passes stand at which prefix.

    Args:
        horizon: H; a pass that is H tokens long is over.
    """

    def __init__(self, horizon: int) -> None:
        self._horizon = horizon
        self._standing: Counter[bytes] = Counter()

    def place(self, query: Query, gone: Counter[bytes]) -> bytes | None:
        """Where the passes stand that a query of draws goes on with, as an identity: at its prefix, or
        one token before it. ``None``: there are not as many.

        Args:
            query: at a prefix other than ∅.
            gone: passes that go on by queries earlier in the same request.
        """
        tokens = query.prefix.tokens
        for stand in (tokens, tokens[:-1]):
            mark = digest(stand)
            if stand and self._standing[mark] - gone[mark] >= query.n:
                return mark
        return None

    def leave(self, place: bytes, n: int) -> None:
        """``n`` passes go on from there."""
        self._standing[place] -= n
        if not self._standing[place]:
            del self._standing[place]

    def back(self, place: bytes, n: int) -> None:
        """They did not get on: the generator failed."""
        self._standing[place] += n

    def arrived(self, query: Query, reply: Reply) -> None:
        """Note where the continuations of a query end."""
        before = hashlib.blake2b(array("q", query.prefix.tokens).tobytes(), digest_size=16)
        start = len(query.prefix)
        for row, length in zip(reply.tokens, reply.lengths.tolist(), strict=True):
            if start + length < self._horizon:
                self._standing[_longer(before, row[:length].tolist())] += 1


def _longer(before: hashlib.blake2b, tokens: Sequence[int]) -> bytes:
    """The identity of a prefix with more tokens."""
    whole = before.copy()
    whole.update(array("q", tokens).tobytes())
    return whole.digest()
