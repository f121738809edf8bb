"""Learners that walk down the tree by asking prefixes: greedy and plurality."""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from ..access.learner import Params, learner
from ..access.session import Session
from ..contract import Contract, Control, Report
from ..errors import BudgetExceeded, InvalidInput
from ..limits import plurality_draws
from ..types import IntArray, Prefix
from .common import COUNT, between, check, checked, integer

_MOST_BATCHES = 100
"""Times that the plurality walk draws again at a prefix where it drew nothing but decoys."""


def _plurality_walk(params: Params) -> Contract:
    check(
        params,
        draws_per_token=COUNT.or_none,
        p=between(0, 1).or_none,
        delta=between(0, 1),
        decoys=integer(0),
    )
    if params["decoys"] and params["p"] is not None:
        raise InvalidInput(
            "p says how many draws suffice where there are no decoys; with decoys give "
            "draws_per_token (limits.decoy_draws)"
        )
    return Contract(Control.VISITED, Report.SAMPLE)


@learner(
    requires=checked(lambda params: f"reset/argmax({params['decoys'] + 1})", decoys=integer(0))
)
async def greedy_walk(session: Session, *, decoys: int = 0) -> Prefix | None:
    """Append the most likely token until the output is complete (greedy decoding).

    Pseudo-code::

        u ← ∅;  until complete:  u ← u·argmax_{a ≥ k} P(a | u)       (ties: the smaller id)

    One query per token. It needs RESET, although nothing is drawn: from the second token on it asks
    at prefixes that only its own appending has built. Among k + 1 listed tokens one is no decoy.

    Args:
        decoys: k, the tokens 0…k-1 are never appended.

    Raises:
        InvalidInput: all tokens are decoys.
    """
    check_decoys(session, decoys)
    prefix = session.root
    with suppress(BudgetExceeded):
        while not session.is_complete(prefix):
            tokens, _ = await session.top_k(prefix, decoys + 1)
            prefix = prefix.append(int(tokens[tokens >= decoys][0]))
    return prefix


@learner(requires=_plurality_walk)
async def plurality_walk(
    session: Session,
    *,
    draws_per_token: int | None = None,
    p: float | None = None,
    delta: float = 0.05,
    decoys: int = 0,
) -> Prefix | None:
    """Append the most frequent of m conditional draws until the output is complete.

    Pseudo-code (local-reset recovery of the hidden path, arXiv 2604.04855)::

        u ← ∅;  until complete:  a¹ … aᵐ ~ P(· | u);  u ← u·plurality(a¹ … aᵐ)

    Ties are broken uniformly. The plurality token was emitted by the generator, so VISITED control
    is enough. On the hidden path with m = ``limits.plurality_draws(K, H, p, delta)`` the output is
    the path with probability at least 1 - delta, at H·m queries. With k decoys only draws outside
    0…k-1 are counted, and m = ``limits.decoy_draws`` promises the same; where all m are decoys, m
    more are drawn, at most 100 times.

    Args:
        draws_per_token: m.
        p: without m: the probability of the path token, which fixes m by the Chernoff bound.
            Without either, the budget is shared evenly among the H tokens.
        delta: failure probability that goes with ``p``.
        decoys: k, the tokens 0…k-1 are never appended; not together with ``p``.

    Raises:
        InvalidInput: neither m, nor p, nor a budget in tokens, queries or calls says how many draws;
            or all tokens are decoys.
    """
    check_decoys(session, decoys)
    if draws_per_token is None:
        if p is not None:
            draws_per_token = plurality_draws(session.vocab_size, session.horizon, p, delta)
        else:
            draws_per_token = _even_share(session)
    prefix = session.root
    with suppress(BudgetExceeded):
        while not session.is_complete(prefix):
            counted = await _counted(session, prefix, draws_per_token, decoys)
            if not len(counted):
                break
            counts = np.bincount(counted)
            best = np.flatnonzero(counts == counts.max())
            prefix = prefix.append(int(session.rng.choice(best) if len(best) > 1 else best[0]))
    return prefix


def check_decoys(session: Session, decoys: int, others: int = 1) -> None:
    """Refuse decoys 0…k-1 that leave fewer than ``others`` other tokens (``InvalidInput``)."""
    if session.vocab_size - decoys < others:
        raise InvalidInput(
            f"at least {others} of K = {session.vocab_size} tokens must be no decoys, got "
            f"decoys = {decoys}"
        )


async def _counted(session: Session, prefix: Prefix, n: int, decoys: int) -> IntArray:
    """n draws at ``prefix`` without the decoys; empty if again and again all were decoys."""
    for _ in range(_MOST_BATCHES):
        tokens = (await session.draws(prefix, n)).first_tokens()
        if len(counted := tokens[tokens >= decoys] if decoys else tokens):
            return counted
    return np.zeros(0, dtype=np.int64)


def _even_share(session: Session) -> int:
    """Draws per token when the budget is shared evenly among H tokens; at least 1."""
    amounts = [
        session.remaining("tokens"),
        session.remaining("queries"),
        session.remaining("calls"),
    ]
    limits = [amount for amount in amounts if amount is not None]
    if not limits:
        raise InvalidInput(
            "plurality_walk needs draws_per_token, p, or a budget in tokens, queries or calls to share"
        )
    return max(1, min(limits) // session.horizon)
