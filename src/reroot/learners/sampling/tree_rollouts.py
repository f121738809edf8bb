"""Tree rollouts that fork where the generator was least certain (TreeRL)."""

from __future__ import annotations

import math
from contextlib import suppress

from ...access.learner import Params, learner
from ...access.session import Session
from ...contract import Contract, Control, Report
from ...errors import BudgetExceeded
from ...types import Finding, FloatArray, Prefix, Query
from ..common import COUNT, affordable, as_many, check, integer
from .segment_tree import check_pick, picked


def _requires(params: Params) -> Contract:
    check(params, chains=COUNT.or_none, forks=integer(0), branches=integer(0), rounds=integer(0))
    return Contract(Control.VISITED, Report.LOGPROB, oracles=check_pick(params))


@learner(requires=_requires)
async def tree_rollouts(
    session: Session,
    *,
    chains: int | None = 4,
    forks: int = 2,
    branches: int = 2,
    rounds: int = 1,
    pick: str = "best",
) -> Finding | None:
    """Rollouts, and more continuations from before their most surprising tokens.

    Pseudo-code (TreeRL, Hou et al. 2025, arXiv 2506.11902)::

        M trees, each of one rollout
        L rounds:  in each tree, before its N tokens of highest -log P(token | its prefix) that were not
            forked at before:  T continuations to the end
        return a leaf: the best rewarded, or any

    M·(T·N·L + 1) leaves. It reads the log-probabilities of its own draws and returns to prefixes of
    them, no more. A leaf is not distributed as a rollout: forks sit where surprising tokens were drawn.

    Args:
        chains: M; ``None``: as many trees as the budget allows.
        forks: N, of each tree and round (the paper's: 2).
        branches: T, continuations at each fork.
        rounds: L.
        pick: ``"best"`` by outcome reward, or ``"any"``: each with the same probability.
    """
    trees: list[_Tree] = []
    with suppress(BudgetExceeded):
        more = forks * branches * rounds  # continuations of a tree
        each = {"rollouts": 1, "queries": more, "tokens": session.horizon * (more + 1)}
        wanted = as_many(session, chains, "chains", **each)
        n = affordable(session, wanted, rollouts=1, tokens=session.horizon)
        if not n:
            return None
        reply = await session.rollouts(n, report=Report.LOGPROB)
        assert reply.logprobs is not None
        for output, logprobs in zip(reply.outputs(), reply.logprobs, strict=True):
            trees.append(_Tree())
            trees[-1].add(output, 0, logprobs)
        for _ in range(rounds if branches else 0):
            places = [(tree, u) for tree in trees for u in tree.most_surprising(forks)]
            longest = max((session.horizon - len(u) for _, u in places), default=0)
            fits = affordable(session, len(places), queries=branches, tokens=branches * longest)
            if not (places := places[:fits]):
                break
            replies = await session.ask(Query(u, branches, None, Report.LOGPROB) for _, u in places)
            for (tree, u), reply in zip(places, replies, strict=True):
                assert reply.logprobs is not None
                for output, logprobs in zip(reply.outputs(), reply.logprobs, strict=True):
                    tree.add(output, len(u), logprobs)
    leaves = [leaf for tree in trees for leaf in tree.leaves]
    output = await picked(session, leaves, pick, [1.0] * len(leaves))
    return None if output is None else Finding(output, {"leaves": len(leaves)})


class _Tree:
    """Leaves, and the surprisal of the token drawn at each prefix that may still be forked at."""

    def __init__(self) -> None:
        self.leaves: list[Prefix] = []
        self._surprisal: dict[Prefix, float] = {}
        self._forked: set[Prefix] = set()

    def add(self, leaf: Prefix, start: int, logprobs: FloatArray) -> None:
        """A continuation that was drawn from the first ``start`` tokens of ``leaf``."""
        self.leaves.append(leaf)
        for t in range(start, len(leaf)):
            prefix = leaf[:t]
            known = self._surprisal.get(prefix, -math.inf)
            self._surprisal[prefix] = max(known, -float(logprobs[t - start]))

    def most_surprising(self, n: int) -> list[Prefix]:
        """The n prefixes of highest surprisal that were not forked at, the shorter first on ties."""
        fresh = [u for u in self._surprisal if u not in self._forked]
        found = sorted(fresh, key=lambda u: (-self._surprisal[u], len(u), u.tokens))[:n]
        self._forked.update(found)
        return found
