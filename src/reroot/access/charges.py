"""What queries cost, of the contract's account: a function of what was asked and how much came back."""

from __future__ import annotations

from collections.abc import Sequence

from ..contract import Oracle
from ..types import Cost, Query, Reply

JUDGES = {
    Oracle.REWARD: ("rewards", "reward"),
    Oracle.VERIFIER: ("verifications", "verifier"),
    Oracle.VALUE: ("values", "value"),
}
"""Oracle → (currency, judge of the problem)."""


def is_rollout(query: Query, horizon: int) -> bool:
    """Whether the query asks for complete outputs from the empty prefix."""
    whole = query.length is None or query.length >= horizon
    return not query.prefix.tokens and whole and query.forced is None


def generated(reply: Reply) -> int:
    """Tokens that were generated for a reply."""
    return reply.n if reply.tokens.shape[1] == 1 else int(reply.lengths.sum())


def cost_of(queries: Sequence[Query], tokens: Sequence[int], prompt: int, horizon: int) -> Cost:
    """What queries cost.

    Args:
        queries: what was asked.
        tokens: how many were generated for each.
        prompt: tokens of the prompt.
        horizon: H.
    """
    rollouts = asked = total = prefill = 0
    for query, amount in zip(queries, tokens, strict=True):
        prefill += prompt + len(query.prefix)
        if query.forced is not None:
            asked += len(query.forced)
            prefill += len(query.forced)
            continue
        total += amount
        if is_rollout(query, horizon):
            rollouts += query.n
        else:
            asked += query.n
    return Cost(rollouts, asked, total, prefill)
