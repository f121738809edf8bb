"""Monte-Carlo tree search over prefixes, with the generator's own law as prior."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from ...access.learner import Params, learner
from ...access.session import Session
from ...contract import Contract, Control, Oracle, Report
from ...errors import BudgetExceeded
from ...types import Finding, Prefix, Query
from ..common import COUNT, POSITIVE, REAL, check


def _requires(params: Params) -> Contract:
    check(params, simulations=COUNT, children=COUNT, exploration=POSITIVE, pass_at=REAL)
    return Contract(Control.RESET, Report.TOPK(params["children"]), oracles=[Oracle.REWARD])


@learner(requires=_requires)
async def tree_search(
    session: Session,
    *,
    simulations: int = 32,
    children: int = 4,
    exploration: float = 1.0,
    pass_at: float = 1.0,
) -> Finding | None:
    """Monte-Carlo tree search (PUCT) over prefixes until an output passes.

    Pseudo-code (Silver et al. 2017, with rollouts in place of a value network)::

        ``simulations`` times:
            u ← ∅;  while u was expanded:  u ← uc maximizing
                mean reward below uc + exploration·P(c | u)·√(visits of u) / (1 + visits of uc)
            y ← a rollout from u, whose first query lists u's ``children`` most likely tokens
            count r(y), asked once for each y, on the way back to ∅;  return y if it passes
        return the best output seen

    Args:
        simulations: most rollouts.
        children: tokens searched below a prefix, their probabilities renormalized.
        exploration: weight of the prior, in reward units.
        pass_at: reward at which the search ends.
    """
    root = _Node(session.root)
    best: Prefix | None = None
    top, done = -math.inf, 0
    rewards: dict[Prefix, float] = {}
    with suppress(BudgetExceeded):
        while done < simulations:
            path = [root]
            while path[-1].children:
                path.append(path[-1].selected(exploration))
            output = await _rolled_out(session, path[-1], children)
            best = output if best is None else best
            if output not in rewards:
                rewards[output] = await session.reward(output)
            reward = rewards[output]
            done += 1
            if reward > top:
                best, top = output, reward
            if reward >= pass_at:
                break
            for node in path:
                node.visits, node.total = node.visits + 1, node.total + reward
    return None if best is None else Finding(best, {"simulations": done, "reward": top})


@dataclass(slots=True)
class _Node:
    """A prefix of the search tree, the prior of its last token, and rewards below it."""

    prefix: Prefix
    prior: float = 1.0
    visits: int = 0
    total: float = 0.0
    children: list[_Node] = field(default_factory=list["_Node"])

    def selected(self, exploration: float) -> _Node:
        """The child of the largest upper bound, the first on ties."""
        scale = exploration * math.sqrt(self.visits)

        def bound(child: _Node) -> float:
            mean = child.total / child.visits if child.visits else 0.0
            return mean + scale * child.prior / (1 + child.visits)

        return max(self.children, key=bound)


async def _rolled_out(session: Session, node: _Node, children: int) -> Prefix:
    """An output below ``node``, which is expanded by the way."""
    prefix = node.prefix
    if session.is_complete(prefix):
        return prefix
    reply = (await session.ask([Query(prefix, 1, None, Report.TOPK(children))]))[0]
    assert reply.top_tokens is not None
    assert reply.top_logprobs is not None
    priors = np.exp(reply.top_logprobs[0, 0])
    listed = zip(reply.top_tokens[0, 0].tolist(), (priors / priors.sum()).tolist(), strict=True)
    node.children = [_Node(prefix.append(token), prior) for token, prior in listed if prior]
    return reply.outputs()[0]
