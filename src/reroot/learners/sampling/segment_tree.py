"""Tree rollouts: whole trees of outputs that share their beginnings (TreePO, TreeRL)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress

from ...access.learner import Params, learner
from ...access.session import Session
from ...contract import Contract, Control, Oracle, Report
from ...errors import BudgetExceeded, InvalidInput
from ...types import Finding, Prefix, Query
from ..common import COUNT, affordable, as_many, best_rewarded, check, collect
from .choices import choose


def check_pick(params: Params) -> list[Oracle]:
    """The oracle that ``pick`` takes: the best leaf by reward, or any leaf."""
    if params["pick"] not in ("best", "any"):
        raise InvalidInput(f"pick must be 'best' or 'any', got {params['pick']!r}")
    return [Oracle.REWARD] if params["pick"] == "best" else []


async def picked(
    session: Session, leaves: Sequence[Prefix], pick: str, weights: Sequence[float]
) -> Prefix | None:
    """The best-rewarded leaf, the first on ties; or one of them by its weight."""
    if not leaves:
        return None
    if pick == "best":
        return await best_rewarded(session, list(leaves))
    return leaves[choose(session, weights)]


def _requires(params: Params) -> Contract:
    check(params, segment=COUNT, branching=COUNT, width=COUNT.or_none)
    return Contract(Control.VISITED, Report.SAMPLE, oracles=check_pick(params))


@learner(requires=_requires)
async def segment_tree(
    session: Session,
    *,
    segment: int = 4,
    branching: int = 2,
    width: int | None = 16,
    pick: str = "best",
) -> Finding | None:
    """Rollouts that branch after every segment, up to a width.

    Pseudo-code (after TreePO, Li et al. 2025, arXiv 2508.17445)::

        level ← {∅}
        until every member is an output:
            each member that is no output gets ``branching`` continuations of ``segment`` tokens, the
                last ones fewer where the level would hold more than ``width`` members
        return a member: the best rewarded; or any, found from ∅ by a uniform choice at each branching

    Each continuation is a draw of P given its prefix, so a member found by uniform choices at the
    branchings has the law of a rollout, P, exactly: the tree saves the tokens of shared beginnings, and
    its members are dependent, not biased. (A uniform choice among the leaves would favour long ones.)

    Args:
        segment: tokens between branchings (the paper's: 512).
        branching: continuations of each member.
        width: most members; ``None``: as many as the budget could carry to the horizon, and more trees
            as long as one fits.
        pick: ``"best"`` by outcome reward, or ``"any"``.
    """
    steps = math.ceil(session.horizon / segment)
    each = {"tokens": session.horizon, "queries": steps}
    most = as_many(session, width, "width", **each)
    leaves: list[tuple[Prefix, float]] = []
    while most:
        level = await _tree(session, segment, branching, most)
        new = [(u, weight) for u, weight in level if session.is_complete(u)]
        if not (new or leaves):  # the budget ended it: one member goes on by itself
            new = [(u, 1.0) for u in await collect(session, level[0][0], 1)]
        leaves += new
        more = width is None and bool(new)
        most = affordable(session, most, rewards=1, **each) if more else 0
    outputs = [u for u, _ in leaves]
    output = await picked(session, outputs, pick, [weight for _, weight in leaves])
    return None if output is None else Finding(output, {"leaves": len(leaves)})


async def _tree(
    session: Session, segment: int, branching: int, most: int
) -> list[tuple[Prefix, float]]:
    """The last level of a tree, as far as the budget goes, with the chance to come to each member."""
    level: list[tuple[Prefix, float]] = [(session.root, 1.0)]
    with suppress(BudgetExceeded):
        while going := [u for u, _ in level if not session.is_complete(u)]:
            copies = _copies(len(going), branching, most - len(level))
            queries = [
                Query(u, n, segment, Report.SAMPLE) for u, n in zip(going, copies, strict=True)
            ]
            grown = iter([reply.outputs() for reply in await session.ask(queries)])
            level = [
                (v, weight / len(children))
                for u, weight in level
                for children in [[u] if session.is_complete(u) else next(grown)]
                for v in children
            ]
    return level


def _copies(members: int, branching: int, spare: int) -> list[int]:
    """Continuations of each member: ``branching`` of the first ones, as long as there is room."""
    found: list[int] = []
    for _ in range(members):
        more = min(branching - 1, max(0, spare))
        found.append(1 + more)
        spare -= more
    return found
