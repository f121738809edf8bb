"""Learners that walk down the tree by asking prefixes: greedy and plurality."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..access.contract import Contract, Control, Report
from ..errors import BudgetExceeded, InvalidInput
from ..limits import plurality_draws
from ..types import Prefix
from .base import learner
from .common import number, whole

if TYPE_CHECKING:
    from ..access.session import Session


def _plurality_walk(params: Mapping[str, Any]) -> Contract:
    whole(params, "draws_per_token", optional=True)
    number(params, "p", 0, 1, optional=True)
    number(params, "delta", 0, 1)
    return Contract(Control.VISITED, Report.SAMPLE)


@learner(requires=Contract(Control.RESET, Report.ARGMAX(1)))
async def greedy_walk(session: Session) -> Prefix | None:
    """Append the most likely token until the output is complete (greedy decoding).

    Pseudo-code::

        u ← ∅;  until complete:  u ← u·argmax_a P(a | u)       (ties: the smaller id)

    One query per token. It needs RESET, although nothing is drawn: from the second token on it asks
    at prefixes that only its own appending has built.
    """
    prefix = session.root
    with suppress(BudgetExceeded):
        while not session.is_complete(prefix):
            tokens, _ = await session.top_k(prefix, 1)
            prefix = prefix.append(int(tokens[0]))
    return prefix


@learner(requires=_plurality_walk)
async def plurality_walk(
    session: Session,
    *,
    draws_per_token: int | None = None,
    p: float | None = None,
    delta: float = 0.05,
) -> Prefix | None:
    """Append the most frequent of m conditional draws until the output is complete.

    Pseudo-code (local-reset recovery of the hidden path, arXiv 2604.04855)::

        u ← ∅;  until complete:  a¹ … aᵐ ~ P(· | u);  u ← u·plurality(a¹ … aᵐ)

    Ties are broken uniformly. The plurality token was emitted by the generator, so VISITED control
    is enough. On the hidden path with m = ``limits.plurality_draws(K, H, p, delta)`` the output is
    the path with probability at least 1 - delta, at H·m queries.

    Args:
        draws_per_token: m.
        p: without m: the probability of the path token, which fixes m by the Chernoff bound.
            Without either, the budget is shared evenly among the H tokens.
        delta: failure probability that goes with ``p``.

    Raises:
        InvalidInput: neither m, nor p, nor a budget in tokens or queries says how many draws.
    """
    if draws_per_token is None:
        if p is not None:
            draws_per_token = plurality_draws(session.vocab_size, session.horizon, p, delta)
        else:
            draws_per_token = _even_share(session)
    prefix = session.root
    with suppress(BudgetExceeded):
        while not session.is_complete(prefix):
            reply = await session.draws(prefix, draws_per_token)
            prefix = prefix.append(reply.plurality(session.rng))
    return prefix


def _even_share(session: Session) -> int:
    """Draws per token when the budget is shared evenly among H tokens; at least 1."""
    amounts = [session.remaining(currency) for currency in ("tokens", "queries")]
    limits = [amount for amount in amounts if amount is not None]
    if not limits:
        raise InvalidInput(
            "plurality_walk needs draws_per_token, p, or a budget in tokens or queries to share"
        )
    return max(1, min(limits) // session.horizon)
