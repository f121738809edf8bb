"""Diverse verifier tree search: independent greedy descents, each guided by a process verifier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress

from ...access.learner import Params, learner
from ...access.session import Session
from ...contract import Contract, Control, Oracle, Report
from ...errors import BudgetExceeded, InvalidInput
from ...types import Prefix, Query
from ..common import COUNT, affordable, as_many, best_rewarded, check, finished

_MOST = 1_000
_GUIDES = {"verifier": Oracle.VERIFIER, "value": Oracle.VALUE}


def _requires(params: Params) -> Contract:
    check(params, width=COUNT, stride=COUNT, subtrees=COUNT.or_none)
    if params["guide"] not in _GUIDES:
        raise InvalidInput(f"guide must be 'verifier' or 'value', got {params['guide']!r}")
    oracles = {_GUIDES[params["guide"]]}
    if params["subtrees"] != 1:
        oracles.add(Oracle.REWARD)
    return Contract(Control.VISITED, Report.SAMPLE, oracles=oracles)


@learner(requires=_requires)
async def verifier_tree_search(
    session: Session,
    *,
    subtrees: int | None = 4,
    width: int = 4,
    stride: int = 1,
    guide: str = "verifier",
) -> Prefix | None:
    """Several greedy descents, each of which keeps the best of some drawn continuations.

    Pseudo-code (diverse verifier tree search, Beeching et al. 2024; beam search with a process reward
    model, Snell et al. 2024, arXiv 2408.03314)::

        in each of the subtrees, on its own:
            u ← ∅;  until complete:
                draw ``width`` continuations of u of at most ``stride`` tokens
                u ← the one of highest score, the first drawn on ties
        return the output of highest outcome reward, the first on ties

    With a verifier, accepted shares a = Σ P(c | u)·V(uc) and stride 1, the next token is c with
    probability P(c | u)·(1 - (1 - a)^m)/a where V accepts it, P(c | u)·(1 - a)^(m - 1) where not.

    Args:
        subtrees: descents; ``None``: as many as the budget allows, and narrower ones where it does
            not allow a single one. More than one takes the outcome reward to choose among them.
        width: m, continuations drawn at each prefix.
        stride: tokens of a continuation.
        guide: score of a prefix: ``"verifier"`` (1 or 0) or ``"value"``.
    """
    one = {"tokens": session.horizon, "queries": math.ceil(session.horizon / stride)}
    each = {currency: amount * width for currency, amount in one.items()}  # of a descent
    outputs: list[Prefix] = []
    n = as_many(session, subtrees, "subtrees", **each)
    if subtrees is None:
        width = min(width, max(1, affordable(session, width, **one)))
    while n:
        ends = await _descents(session, n, width, stride, guide)
        new = [u for u in ends if session.is_complete(u)]
        if not new and not outputs:
            return await finished(session, ends[0])
        outputs += new
        # outputs that ended early left something for more descents
        more = subtrees is None and bool(new)
        n = affordable(session, _MOST, rewards=1, **each) if more else 0
    return outputs[0] if subtrees == 1 else await best_rewarded(session, outputs)


async def _descents(session: Session, n: int, width: int, stride: int, guide: str) -> list[Prefix]:
    """Where n greedy descents end, each on its own."""
    beams = [session.root] * n
    with suppress(BudgetExceeded):
        while going := [i for i, u in enumerate(beams) if not session.is_complete(u)]:
            replies = await session.ask(
                Query(beams[i], width, stride, Report.SAMPLE) for i in going
            )
            drawn = [reply.outputs() for reply in replies]
            distinct = list(dict.fromkeys(u for some in drawn for u in some))
            scores = dict(zip(distinct, await _scores(session, distinct, guide), strict=True))
            for i, some in zip(going, drawn, strict=True):
                beams[i] = max(some, key=scores.__getitem__)  # the first on ties
    return beams


async def _scores(session: Session, prefixes: Sequence[Prefix], guide: str) -> list[float]:
    if guide == "value":
        return await session.values(prefixes)
    return list(map(float, await session.verify_all(prefixes)))
