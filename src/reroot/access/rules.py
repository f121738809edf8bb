"""The prefix rules: which queries a control level permits, given what was built so far.

Pure bookkeeping on token ids, used alike by live sessions and by the audit of transcripts.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Sequence

import numpy as np

from ..errors import AccessDenied
from ..types import Query, Reply
from .contract import Contract, Control

RULES = {
    Control.ROOT: "root control permits only complete rollouts from the empty prefix",
    Control.VISITED: "visited control permits a prefix only if the generator itself emitted its "
    "last token there in this session",
    Control.RESET: "reset control permits a prefix only if its parent was asked or visited in this "
    "session",
}


def digests(prefix: Sequence[int], more: Sequence[int] = ()) -> Iterator[bytes]:
    """Identity (128 bits of the whole token string) of ``prefix``, then of each longer prefix."""
    h = hashlib.blake2b(array("q", prefix).tobytes(), digest_size=16)
    yield h.digest()
    for token in more:
        h.update(array("q", (token,)).tobytes())
        yield h.digest()


class PrefixRules:
    """What one session has built: prefixes it asked and prefixes the generator emitted."""

    def __init__(self, horizon: int) -> None:
        self.horizon = horizon
        self._asked: set[bytes] = set()
        self._emitted: set[bytes] = set()
        self._unread: list[Reply] = []  # replies whose prefixes nobody has needed yet

    def is_rollout(self, query: Query) -> bool:
        """Whether the query is a complete rollout from the empty prefix."""
        whole = query.length is None or query.length >= self.horizon
        return not query.prefix.tokens and whole and query.given is None

    def weakest_control(self, query: Query, asked: set[bytes]) -> Control:
        """The weakest control level that permits the query now.

        ``asked`` holds prefixes asked earlier in the same request.
        """
        if self.is_rollout(query):
            return Control.ROOT
        starts = self._starts(query)
        if all(not t or self._is_emitted(t) for t in starts):
            return Control.VISITED
        # from its first prefix on, a scored string is a chain of children of asked prefixes
        return Control.RESET if self._is_reachable(starts[0], asked) else Control.CHOSEN

    def check(self, contract: Contract, queries: Sequence[Query]) -> None:
        """Refuse the first query that ``contract`` does not permit.

        Raises:
            AccessDenied: names the query, the rule and the weakest contract that allows it.
        """
        asked: set[bytes] = set()
        for query in queries:
            if not query.report <= contract.report:
                weakest = Contract(self.weakest_control(query, asked), query.report)
                raise AccessDenied(
                    str(query), f"the contract reports {contract.report}, not {query.report}", str(weakest)
                )
            if contract.control < Control.CHOSEN and not (
                contract.control == Control.ROOT and self.is_rollout(query)
            ):
                needed = self.weakest_control(query, asked)
                if needed > contract.control:
                    weakest = Contract(needed, query.report)
                    raise AccessDenied(str(query), RULES[contract.control], str(weakest))
                asked.update(self._start_digests(query))

    def note_asked(self, queries: Sequence[Query]) -> None:
        """Remember the prefixes at which permitted queries ask."""
        for query in queries:
            self._asked.update(self._start_digests(query))

    def note_emitted(self, reply: Reply) -> None:
        """Remember the prefixes that the generator emitted."""
        self._unread.append(reply)

    @staticmethod
    def _starts(query: Query) -> list[tuple[int, ...]]:
        """The prefixes at which the query asks; scoring asks at each prefix of the given tokens."""
        tokens, given = query.prefix.tokens, query.given or ()
        return [tokens + given[:i] for i in range(max(1, len(given)))]

    @staticmethod
    def _start_digests(query: Query) -> Iterator[bytes]:
        return digests(query.prefix.tokens, (query.given or ())[:-1])

    def _is_reachable(self, tokens: tuple[int, ...], asked: set[bytes]) -> bool:
        if not tokens:
            return True
        for place in (tokens[:-1], tokens):
            (name,) = digests(place)
            if name in self._asked or name in asked or self._is_emitted(place):
                return True
        return False

    def _is_emitted(self, tokens: tuple[int, ...]) -> bool:
        for reply in self._unread:
            self._index(reply)
        self._unread.clear()
        (name,) = digests(tokens)
        return name in self._emitted

    def _index(self, reply: Reply) -> None:
        """Add every prefix that a reply's continuations passed through."""
        start = hashlib.blake2b(array("q", reply.prefix.tokens).tobytes(), digest_size=16)
        if reply.tokens.shape[1] == 1:
            rows = np.unique(reply.tokens)[:, None]
            lengths = np.ones(len(rows), dtype=np.int64)
        else:
            rows, lengths = reply.tokens, reply.lengths
        for row, length in zip(rows, lengths.tolist(), strict=True):
            h = start.copy()
            for i in range(length):
                h.update(row[i : i + 1].tobytes())
                self._emitted.add(h.digest())
