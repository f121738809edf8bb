"""The prefix rules: which queries a control level permits, given what was built so far.

Pure bookkeeping on token ids, used alike by live sessions and by the audit of transcripts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ..contract import Contract, Control, Oracle, Report, Sampling
from ..errors import AccessDenied
from ..types import PAD, Prefix, Query, Reply
from .charges import is_rollout
from .passes import Passes
from .places import digest, digests

RULES = {
    Control.ROOT: "root control permits only complete rollouts from the empty prefix",
    Control.EPISODE: "episode control permits draws that begin a pass at the empty prefix, or go on "
    "where a pass stands, with at most one token put in; no pass returns, or goes on twice from a place",
    Control.VISITED: "visited control permits a prefix only if the generator itself emitted its "
    "last token there in this session",
    Control.RESET: "reset control permits a prefix only if its parent was asked or visited in this "
    "session",
}
MODE_RULE = (
    "below reset control continuations follow the contract's sampling law; following the most "
    "likely token is the law at temperature 0, to be granted as such (@T=0)"
)
FEATURES_RULE = (
    "below chosen control features are of outputs whose every token the generator itself emitted in "
    "this session"
)


class Asked(NamedTuple):
    """Where one query asks, as identities.

    Attributes:
        prefixes: of the prefixes at which it asks, its own first.
        left: of the place where the passes stood with which it goes on, if it goes on with any.
        n: how many passes.
    """

    prefixes: list[bytes]
    left: bytes | None = None
    n: int = 0


Marks = list[Asked]
"""Where queries ask, query by query."""


def no_oracle(oracle: Oracle, asked: str) -> AccessDenied:
    """The refusal of an oracle that is not granted."""
    weakest = Contract(Control.ROOT, Report.NONE, oracles=[oracle])
    return AccessDenied(asked, f"the contract does not grant the {oracle} oracle", str(weakest))


class PrefixRules:
    """What one session has built: prefixes it asked and prefixes the generator emitted.

    Args:
        horizon: H, most tokens of an output.
        sampling: the law that draws follow (``None``: temperature 1).
        control: what is to be granted; passes are followed only under episode control.
    """

    def __init__(
        self,
        horizon: int,
        sampling: Sampling | None = None,
        control: Control = Control.CHOSEN,
    ) -> None:
        self.horizon = horizon
        self._passes = Passes(horizon) if control == Control.EPISODE else None
        self._greedy = sampling is not None and sampling.temperature == 0.0
        self._asked: set[bytes] = set()
        self._open: dict[bytes, int] = {}  # how often asked, and not answered yet
        self._emitted: dict[bytes, set[int]] = {}  # prefix → tokens that were emitted there
        self._drawn: dict[bytes, list[bytes]] = {}  # the same, as draws that nobody has needed yet
        self._unread: list[_Paths] = []  # replies whose prefixes nobody has needed yet

    def walks_mode(self, query: Query) -> bool:
        """Whether it follows the most likely token for more than one token.

        That is a chain of choices, not a draw from the sampling law (at temperature 0 it is both):
        no rollout from ∅ shows it, so root and visited control do not permit it.
        """
        if query.length == 1 or query.report.draws or self._greedy or query.forced is not None:
            return False
        room = self.horizon - len(query.prefix)
        return (room if query.length is None else min(query.length, room)) > 1

    def weakest_control(self, query: Query, asked: set[bytes]) -> Control:
        """The weakest control level that permits the query now, of all but episode control.

        ``asked`` holds prefixes asked earlier in the same request.
        """
        tokens, walks = query.prefix.tokens, self.walks_mode(query)
        if is_rollout(query, self.horizon) and not walks:
            return Control.ROOT
        self._read_replies()
        # scoring chooses each of its tokens, so the end of the scored string counts too
        if not walks and self._were_emitted(tokens, query.forced or ()):
            return Control.VISITED
        # from its first prefix on, a string is a chain of children of asked prefixes
        known = {*digests(tokens[:-1], tokens[-1:])}
        if not tokens or any(known & built for built in (self._asked, self._open.keys(), asked)):
            return Control.RESET
        if self._were_emitted(tokens, ()) or (tokens[1:] and self._were_emitted(tokens[:-1], ())):
            return Control.RESET
        return Control.CHOSEN

    def _were_emitted(self, tokens: tuple[int, ...], more: tuple[int, ...]) -> bool:
        """Whether the generator emitted the last of ``tokens``, and each of ``more``, in its place."""
        if tokens and not more:
            return self._emitted_at(digest(tokens[:-1]), tokens[-1])
        last = (*tokens[-1:], *more)
        if not last:  # ∅, which nobody emits
            return True
        places = zip(digests(tokens[:-1], last[:-1]), last, strict=True)
        return all(self._emitted_at(parent, token) for parent, token in places)

    def _emitted_at(self, parent: bytes, token: int) -> bool:
        """Whether the generator emitted ``token`` there; reads draws only as long as it must."""
        while token not in self._emitted.get(parent, ()):
            drawn = self._drawn.pop(parent, None)
            if drawn is None:
                return False
            tokens = np.frombuffer(b"".join(drawn), dtype=np.int64)
            if len(tokens) > 1000 and tokens.max() < 4 * len(tokens):
                tokens = np.flatnonzero(np.bincount(tokens))
            self._emitted.setdefault(parent, set()).update(tokens.tolist())
        return True

    def check(self, contract: Contract, queries: Sequence[Query]) -> Marks:
        """Refuse the first query that ``contract`` does not permit.

        Returns:
            The identities of the prefixes at which the queries ask, for ``ask`` and the like.

        Raises:
            AccessDenied: names the query, the rule and the weakest contract that allows it.
        """
        asked: set[bytes] = set()
        gone: Counter[bytes] = Counter()  # passes with which the request goes on
        marks: Marks = []
        chosen = contract.control == Control.CHOSEN
        for query in queries:
            reports, left = query.report <= contract.report, None
            if not (reports and chosen):
                needed = self.weakest_control(query, asked)
                goes_on, left = self._pass(query, gone) if needed > Control.ROOT else (False, None)
                permitted = needed <= contract.control or (
                    goes_on and contract.control == Control.EPISODE
                )
                if not (reports and permitted):
                    raise self._refusal(contract, query, needed, goes_on)
            marks.append(Asked(_marks(query), left, query.n))
            if len(queries) > 1:
                asked.update(marks[-1].prefixes)
                gone.update({left: query.n} if left else {})
        return marks

    def _pass(self, query: Query, gone: Counter[bytes]) -> tuple[bool, bytes | None]:
        """Whether the query begins passes or goes on with some, and where those stood."""
        if query.forced is not None or not query.report.draws:  # modes are no passes, at any T
            return False, None
        if not query.prefix.tokens:
            return True, None
        left = None if self._passes is None else self._passes.place(query, gone)
        return left is not None, left

    def _refusal(
        self, contract: Contract, query: Query, needed: Control, goes_on: bool
    ) -> AccessDenied:
        """Of a query that ``needed`` control permits, and episode control if it ``goes_on``."""
        walks = self.walks_mode(query)
        levels = [needed]
        if goes_on:
            levels = [c for c in (needed, Control.EPISODE) if not c > Control.EPISODE]
        weakest = [Contract(c, query.report) for c in levels]
        if walks and is_rollout(query, self.horizon):
            weakest = [Contract(Control.ROOT, query.report, Sampling(0.0))]
        if not query.report <= contract.report:
            rule = f"the contract reports {contract.report}, not {query.report}"
            weakest = [c for c in weakest if c.control <= contract.control][:1] or weakest
        else:
            walking = walks and contract.control < Control.RESET
            rule = MODE_RULE if walking else RULES[contract.control]
        return AccessDenied(str(query), rule, " or ".join(map(str, weakest)))

    def check_hidden_states(self, contract: Contract, prefix: Prefix) -> None:
        """Refuse hidden states at a prefix at which ``contract`` permits no question (``AccessDenied``)."""
        needed = self.weakest_control(_law_at(prefix), set())
        if not needed <= contract.control:
            asked = f"the hidden states at {prefix}"
            raise AccessDenied(asked, RULES[contract.control], _hidden(needed))

    def check_features(self, contract: Contract, output: Prefix) -> None:
        """Below chosen control, refuse the features of what the generator did not emit
        (``AccessDenied``)."""
        if contract.control == Control.CHOSEN:
            return
        self._read_replies()
        if not self._were_emitted((), output.tokens):
            asked = f"the features of {output}"
            raise AccessDenied(asked, FEATURES_RULE, _hidden(Control.CHOSEN))

    @staticmethod
    def marks_of(prefixes: Sequence[Prefix]) -> Marks:
        """Identities of prefixes whose hidden states are asked: that is a question there."""
        return [Asked(_marks(_law_at(prefix))) for prefix in prefixes]

    def ask(self, marks: Marks) -> None:
        """Permitted queries are under way: to be ``answered``, or ``failed``."""
        for one in marks:
            for mark in one.prefixes:
                self._open[mark] = self._open.get(mark, 0) + 1
            if self._passes is not None and one.left is not None:
                self._passes.leave(one.left, one.n)

    def answered(self, marks: Marks) -> None:
        """The prefixes at which they asked count from now on."""
        self._close(marks)
        for one in marks:
            self._asked.update(one.prefixes)

    def failed(self, marks: Marks) -> None:
        """What the generator did not answer builds nothing."""
        self._close(marks)
        for one in marks:
            if self._passes is not None and one.left is not None:
                self._passes.back(one.left, one.n)

    def _close(self, marks: Marks) -> None:
        for one in marks:
            for mark in one.prefixes:
                left = self._open.pop(mark) - 1
                if left:
                    self._open[mark] = left

    def note_reply(self, query: Query, reply: Reply, start: bytes) -> None:
        """Remember the prefixes that the generator emitted, or passed through, to answer.

        ``start`` is the identity of the query's prefix.
        """
        if query.forced is not None:
            return
        drawn = self._draws(query)
        if self._passes is not None and query.report.draws:
            self._passes.arrived(query, reply)
        if reply.tokens.shape[1] > 1:
            self._unread.append(_Paths(query, reply, drawn))
        elif drawn:
            unread = self._drawn.setdefault(start, [])
            unread.append(reply.tokens.tobytes())
            if len(unread) > 64:
                self._emitted_at(
                    start, PAD
                )  # which nobody emits: all are read, and each token kept once

    def _draws(self, query: Query) -> bool:
        """Whether its tokens follow the sampling law; ARGMAX follows the mode instead."""
        return query.report.draws or self._greedy

    def _read_replies(self) -> None:
        for paths in self._unread:
            for parent, token in paths.steps():
                if paths.drawn:
                    self._emitted.setdefault(parent, set()).add(token)
                else:  # a walk along the mode emits nothing, but asks at every prefix it passes
                    self._asked.add(parent)
        self._unread.clear()


def _marks(query: Query) -> list[bytes]:
    """The prefixes at which the query asks; scoring asks at each prefix of the forced tokens."""
    if query.forced is None:
        return [digest(query.prefix.tokens)]
    return [*digests(query.prefix.tokens, query.forced[:-1])]


def _law_at(prefix: Prefix) -> Query:
    """The query for the next-token law at ``prefix``."""
    return Query(prefix, 1, 1, Report.FULL)


def _hidden(control: Control) -> str:
    return str(Contract(control, Report.NONE, oracles=[Oracle.HIDDEN]))


class _Paths:
    """The continuations of one reply, in arrays that nobody else holds."""

    def __init__(self, query: Query, reply: Reply, drawn: bool) -> None:
        self.drawn = drawn
        self._start = query.prefix.tokens
        self._rows, self._lengths = reply.tokens.copy(), reply.lengths.copy()

    def steps(self) -> Iterator[tuple[bytes, int]]:
        """(prefix, token that followed it) along every continuation."""
        for row, length in zip(self._rows, self._lengths.tolist(), strict=True):
            tokens = row[:length].tolist()
            yield from zip(digests(self._start, tokens[:-1]), tokens, strict=True)
