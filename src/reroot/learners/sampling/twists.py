"""Tilts τ of outputs, and the twists ψ(u) ≈ E_P[τ | u] that steer toward them before an output ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from ...access.learner import Params
from ...access.session import Session
from ...contract import Contract, Control, Oracle, Report
from ...errors import BudgetExceeded, InvalidInput
from ...types import FloatArray, Prefix, Query
from ..common import COUNT, between, check
from .choices import choose

_TINY = 1e-300  # so that r/β stays finite
TWISTS: dict[str | None, frozenset[Oracle]] = {
    None: frozenset(),
    "verifier": frozenset({Oracle.VERIFIER}),
    "value": frozenset({Oracle.VALUE}),
    "rollouts": frozenset(),
}
"""The twists before an output is complete, and the oracles they take beside the outcome reward.

``None``: 1; ``"verifier"``: where it accepts, the mean of τ if the reward will be 1 with probability
decay^(H − |u|) and else 0; where it rejects, τ at reward 0; ``"value"``: the value oracle; ``"rollouts"``: the mean of τ
over some continuations of each prefix.
"""


def check_tilt(params: Params) -> None:
    """Refuse a temperature ``beta`` that is neither ``None`` nor positive (``InvalidInput``)."""
    check(params, beta=between(_TINY, math.inf).or_none)


def check_twist(params: Params) -> frozenset[Oracle]:
    """The oracles of ``twist``, with outcome rewards; checks ``beta``, ``decay`` and ``samples`` too.

    Raises:
        InvalidInput: an unknown twist, or a number out of range.
    """
    check_tilt(params)
    kind, decay = params["twist"], params["decay"]
    if kind not in TWISTS:
        known = ", ".join(sorted(map(repr, TWISTS)))
        raise InvalidInput(f"twist must be one of {known}, got {kind!r}")
    if isinstance(decay, bool) or not isinstance(decay, (int, float)) or not 0 < decay <= 1:
        raise InvalidInput(f"decay must lie in (0, 1], got {decay!r}")
    check(params, samples=COUNT)
    return TWISTS[kind] | {Oracle.REWARD}


def walking(params: Params) -> Contract:
    """What it takes to weigh the children of prefixes by a twist; checks its parameters.

    Raises:
        InvalidInput: see ``check_twist``; or ``children`` is neither ``None`` nor an integer >= 1.
    """
    check(params, children=COUNT.or_none)
    oracles = check_twist(params)
    listed = params["children"]
    report = Report.FULL if listed is None else Report.ARGMAX(listed)
    if params["twist"] == "rollouts":
        report = report.join(Report.SAMPLE)
    return Contract(Control.RESET, report, oracles=oracles)


def log_tilt(reward: float, beta: float | None) -> float:
    """log τ = r/β; without β the law is conditioned on the reward: τ = r, which must be >= 0.

    Raises:
        InvalidInput: a negative reward without β.
    """
    if beta is not None:
        return reward / beta
    if reward < 0:
        raise InvalidInput(
            f"conditioning on a reward needs rewards >= 0, got {reward:g}; give beta"
        )
    return math.log(reward) if reward else -math.inf


async def children_of(
    session: Session, node: Prefix, most: int | None
) -> tuple[list[Prefix], FloatArray]:
    """The children of a prefix, and their log-probabilities (nats) given it.

    Args:
        session: granted full laws, or argmax(most).
        node: no output.
        most: only the so many most likely, their law restricted to them; ``None``: all.
    """
    if most is None:
        law = await session.law(node)
        tokens = np.flatnonzero(law > -np.inf)
        law = law[tokens]
    else:
        tokens, law = await session.top_k(node, most)
        kept = law > -np.inf
        tokens, law = tokens[kept], law[kept] - np.logaddexp.reduce(law[kept])
    return [node.append(t) for t in tokens.tolist()], law


async def drawn_below(session: Session, node: Prefix, most: int | None) -> Prefix:
    """An output below ``node``, drawn token by token from the laws of ``children_of``.

    The same under every contract that allows those; a prefix where the budget ends it.
    """
    with suppress(BudgetExceeded):
        while not session.is_complete(node):
            below, law = await children_of(session, node, most)
            node = below[choose(session, np.exp(law))]
    return node


class Twists:
    """log ψ(u) of prefixes, each found once: exactly τ on outputs, a twist of some kind before.

    Args:
        session: whose oracles are asked.
        kind: of ``TWISTS``.
        beta: of ``log_tilt``.
        decay: of the verifier's twist.
        samples: continuations of each prefix, for ``"rollouts"``.
    """

    def __init__(
        self, session: Session, kind: str | None, beta: float | None, decay: float, samples: int
    ) -> None:
        self._session, self._kind, self._beta = session, kind, beta
        self._decay, self._samples = decay, samples
        self._known: dict[Prefix, float] = {}

    async def log(self, prefixes: Sequence[Prefix]) -> FloatArray:
        """(n,) nats, log ψ of each prefix; what was not asked before is asked at once.

        Raises:
            BudgetExceeded: from the oracles; what is known stays known.
        """
        new = [u for u in dict.fromkeys(prefixes) if u not in self._known]
        ended = [u for u in new if self._session.is_complete(u)]
        going = [u for u in new if not self._session.is_complete(u)]
        if ended:
            rewards = await self._session.rewards(ended)
            self._known |= {u: log_tilt(r, self._beta) for u, r in zip(ended, rewards, strict=True)}
        if going:
            self._known |= dict(zip(going, await self._estimate(going), strict=True))
        return np.array([self._known[u] for u in prefixes])

    async def _estimate(self, prefixes: Sequence[Prefix]) -> Sequence[float]:
        if self._kind == "verifier":
            verdicts = await self._session.verify_all(prefixes)
            return [self._verified(u, v) for u, v in zip(prefixes, verdicts, strict=True)]
        if self._kind == "value":
            values = await self._session.values(prefixes)
            return [math.log(v) if v else -math.inf for v in values]
        if self._kind == "rollouts":
            return await self._rolled_out(prefixes)
        return [0.0] * len(prefixes)

    def _verified(self, prefix: Prefix, accepted: bool) -> float:
        low = log_tilt(0.0, self._beta)
        if not accepted:
            return low
        share = math.log(self._decay) * (self._session.horizon - len(prefix))
        high = log_tilt(1.0, self._beta) + share
        if low == -math.inf:
            return high
        rest = math.log1p(-math.exp(share)) if share else -math.inf
        return float(np.logaddexp(high, low + rest))

    async def _rolled_out(self, prefixes: Sequence[Prefix]) -> list[float]:
        queries = [Query(u, self._samples, None, Report.SAMPLE) for u in prefixes]
        ends = [reply.outputs() for reply in await self._session.ask(queries)]
        logs = (await self.log([y for some in ends for y in some])).reshape(len(ends), -1)
        n = self._samples
        if self._beta is None:  # half a success more, so that a small sample gives no prefix up
            logs, n = np.column_stack([logs, np.full(len(logs), math.log(0.5))]), n + 1
        return (np.logaddexp.reduce(logs, axis=1) - math.log(n)).tolist()
