"""VGB: a random walk on the prefix tree, guided by values, that can take tokens back."""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from ...access.learner import learner
from ...access.session import Session
from ...errors import BudgetExceeded
from ...types import Finding, FloatArray, Prefix
from ..common import COUNT, FLAG, affordable, checked
from .choices import choose, relative
from .twists import Twists, children_of, drawn_below, walking


@learner(requires=checked(walking, steps=COUNT, checks=COUNT, complete=FLAG))
async def vgb(
    session: Session,
    *,
    beta: float | None = None,
    twist: str | None = "verifier",
    steps: int = 64,
    checks: int = 64,
    children: int | None = None,
    decay: float = 1.0,
    samples: int = 4,
    complete: bool = True,
) -> Finding:
    """A draw from P·τ by a walk on the prefix tree, with τ = e^(r/β), or τ = r without β.

    Pseudo-code (Rohatgi et al. 2025, arXiv 2510.03149, VGB)::

        v ← ∅;  repeat T times:
            stay with probability 1/2; otherwise go
                to the parent of v  with probability ∝ V̂(v)              (exactly τ(v) if v is an output)
                to a child c of v   with probability ∝ P(c | v)·V̂(c)
        return v if it is an output; otherwise T more steps, at most ``checks`` times
    return a completion of v

    The stationary law gives a leaf y the weight P(y)·τ(y) whatever the values inside the tree are, so
    the law of an output, once the walk has mixed, is the target exactly; V̂ decides how fast.

    Args:
        beta: β, in reward per nat; ``None``: the law conditioned on the reward.
        twist: V̂ (see ``twists.TWISTS``).
        steps: T.
        checks: most times T steps; steps between known prefixes cost nothing. If it never ends at an
            output, the note ``leaf`` is false.
        children: only the so many most likely tokens of each prefix are walked to, so that the law P
            is replaced by the one restricted to them; needs argmax(children) in place of full. For
            vocabularies whose children are too many to value.
        decay, samples: of the twist.
        complete: draw an output below the prefix where the walk is left, in place of the prefix.
    """
    walk = VgbWalk(session, Twists(session, twist, beta, decay, samples), children)
    node, done = session.root, 0
    last = {"queries": 1 + session.horizon, "tokens": 1 + session.horizon}
    with suppress(BudgetExceeded):
        # enough is kept back to end an output that the walk does not
        while done < checks * steps and affordable(session, 1, **last):
            for _ in range(steps):
                if not affordable(session, 1, **last):
                    break
                node, done = await walk.step(node), done + 1
            if session.is_complete(node):
                break
    leaf = session.is_complete(node)
    if complete:
        node = await drawn_below(session, node, children)
    return Finding(node, {"steps": done, "leaf": leaf})


class VgbWalk:
    """The walk; laws and values of a prefix are asked once.

    Args:
        session: the session.
        twists: log V̂.
        children: most children of a prefix, or ``None``.
    """

    def __init__(self, session: Session, twists: Twists, children: int | None) -> None:
        self._session, self._twists, self._listed = session, twists, children
        self._edges: dict[Prefix, tuple[list[Prefix], FloatArray]] = {}

    async def step(self, node: Prefix) -> Prefix:
        """Where the walk is after one step from ``node``."""
        if choose(self._session, (0.5, 0.5)) == 0:
            return node
        there, log_weights = await self._around(node)
        weights = relative(log_weights)
        if not weights.any():  # nowhere to go: no value around is positive
            return node
        return there[choose(self._session, weights)]

    async def _around(self, node: Prefix) -> tuple[list[Prefix], FloatArray]:
        """Neighbours and the logarithms of their weights."""
        if node not in self._edges:
            there: list[Prefix] = []
            logs = np.zeros(0)
            if not self._session.is_complete(node):
                there, law = await children_of(self._session, node, self._listed)
                logs = law + await self._twists.log(there)
            if len(node):
                logs = np.append(logs, await self._twists.log([node]))
                there.append(node.parent)
            self._edges[node] = there, logs
        return self._edges[node]
