"""What learners of laws share: next-token laws at histories, ratios of futures, and what is returned.

A law here is on all strings of T = H tokens: an output that ends early goes on with its last token,
for ever. What is known of it without asking is not asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from ...access.session import Session
from ...contract import Report
from ...errors import BudgetExceeded
from ...linear.operators import OperatorModel
from ...types import FloatArray, IntArray, Prefix, Query, Reply
from ..common import affordable

History = tuple[int, ...]


class NextLaws:
    """Next-token laws at histories, each asked once: exact, or the frequencies of some draws.

    Args:
        session: whom to ask.
        report: FULL for exact laws, SAMPLE for frequencies.
        draws: how many at each history, with SAMPLE.
    """

    def __init__(self, session: Session, report: Report, draws: int) -> None:
        self._session, self._report = session, report
        self._draws = 1 if report.has_law else draws
        self._known: dict[History, FloatArray] = {}

    async def ask(self, histories: Iterable[History]) -> None:
        """Ask at those that are not known yet, all at once.

        Raises:
            BudgetExceeded: they do not fit.
        """
        missing = [h for h in dict.fromkeys(histories) if h not in self._known]
        for h in missing:
            if ended(self._session, h):
                self._known[h] = np.eye(self._session.vocab_size)[h[-1]]
        missing = [h for h in missing if h not in self._known]
        queries = [Query(Prefix.of(h), self._draws, 1, self._report) for h in missing]
        for h, reply in zip(missing, await self._session.ask(queries), strict=True):
            self._known[h] = self._law(reply)

    def _law(self, reply: Reply) -> FloatArray:
        if reply.laws is not None:
            return np.exp(reply.laws[0, 0])
        counts = np.bincount(reply.first_tokens(), minlength=self._session.vocab_size)
        return counts / reply.n

    def __getitem__(self, history: History) -> FloatArray:
        """(K,) probabilities."""
        return self._known[history]

    async def of(self, histories: Sequence[History]) -> FloatArray:
        """(n, K) probabilities, asked where they are not known (``BudgetExceeded``)."""
        await self.ask(histories)
        return np.array([self._known[h] for h in histories])

    async def futures(self, starts: Sequence[History], tests: Sequence[History]) -> FloatArray:
        """(n, M) products of next-token laws along each test after each start.

        Behind a product of 0 nothing is asked. Equal beginnings of tests are followed once.

        Raises:
            BudgetExceeded: they do not fit.
        """
        values = np.ones((len(starts), 1))
        nodes: list[History] = [()]
        for step in range(len(tests[0])):
            places = np.argwhere(values > 0).tolist()
            await self.ask(starts[i] + nodes[j] for i, j in places)
            laws = np.zeros((*values.shape, self._session.vocab_size))
            for i, j in places:
                laws[i, j] = self._known[starts[i] + nodes[j]]
            column = {node: j for j, node in enumerate(nodes)}
            nodes = list(dict.fromkeys(test[: step + 1] for test in tests))
            above = [column[node[:-1]] for node in nodes]
            last = [node[-1] for node in nodes]
            values = values[:, above] * laws[:, above, last]
        column = {node: j for j, node in enumerate(nodes)}
        return values[:, [column[test] for test in tests]]


async def drawn_futures(
    session: Session, starts: Sequence[History], counts: Sequence[int], length: int
) -> list[History]:
    """Futures of ``length`` tokens, ``counts[i]`` of them drawn after ``starts[i]``.

    Raises:
        BudgetExceeded: they do not fit.
    """
    wanted = [(h, n) for h, n in zip(starts, counts, strict=True) if n]
    open_ = [(h, n) for h, n in wanted if not ended(session, h)]
    asked = [Query(Prefix.of(h), n, length, Report.SAMPLE) for h, n in open_]
    replies = dict(zip([h for h, _ in open_], await session.ask(asked), strict=True))
    found: list[History] = []
    for h, n in wanted:
        if h in replies:
            found += map(tuple, padded(replies[h], length).tolist())
        else:
            found += [(h[-1],) * length] * n
    return found


def ended(session: Session, history: History) -> bool:
    """Whether a history of fewer than H tokens is an output, after which only its last token comes."""
    return bool(history) and session.is_complete(Prefix.of(history))


def padded(reply: Reply, length: int) -> IntArray:
    """(n, length) tokens of a reply; after its end each continuation repeats its last token."""
    at = np.minimum(np.arange(length)[None], reply.lengths[:, None] - 1)
    return np.take_along_axis(reply.tokens, at, axis=1)


def end_tokens(session: Session) -> tuple[int, ...]:
    """The tokens that end an output by themselves (free: that is no question about the law)."""
    if session.horizon == 1:
        return ()
    tokens = range(session.vocab_size)
    return tuple(a for a in tokens if session.is_complete(Prefix.of((a,))))


async def rollouts(session: Session, n: int, report: Report = Report.SAMPLE) -> Reply | None:
    """``n`` rollouts, or as many as the budget allows, if that is any."""
    with suppress(BudgetExceeded):
        if fits := affordable(session, n, rollouts=1, tokens=session.horizon):
            return await session.rollouts(fits, report=report)
    return None


def learned(session: Session, model: OperatorModel, notes: Mapping[str, Any]) -> dict[str, Any]:
    """What a finding says of a law that was learned: itself, and how many weights its states have."""
    return {"complete": True, "model": model.to_json(), "ranks": list(model.ranks), **notes}


def draw(session: Session, model: OperatorModel) -> Prefix:
    """An output drawn from a model, by the learner's own randomness."""
    states, output = model.start[None], session.root
    for t in range(model.horizon):
        law = model.laws(t, states)[0]
        token = int(session.rng.choice(len(law), p=law))
        output = output.append(token)
        if session.is_complete(output):
            break
        states = model.moved(t, states, np.array([token]))
    return output
