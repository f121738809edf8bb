"""The next token of a plurality walk with a margin."""

from __future__ import annotations

import numpy as np

from ..access.session import Session
from ..types import Prefix


async def leading_token(session: Session, prefix: Prefix, draws: int, margin: int | None) -> int:
    """Draw tokens after ``prefix`` until one leads every other by ``margin``; that one.

    Args:
        draws: at the most; ties then go to a uniform choice.
        margin: ``None``: always all draws.
    """
    tokens, counts = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    drawn = tokens
    while len(drawn) < draws:
        lead = int(np.diff(np.sort(np.append(counts, 0))[-2:])[0]) if len(counts) else 0
        more = draws if margin is None else margin - lead  # no sooner than that
        if more <= 0:
            break
        reply = await session.draws(prefix, min(more, draws - len(drawn)))
        drawn = np.concatenate([drawn, reply.first_tokens()])
        tokens, counts = np.unique(drawn, return_counts=True)
    return int(session.rng.choice(tokens[counts == counts.max()]))
