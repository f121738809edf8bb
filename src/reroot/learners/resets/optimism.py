"""Optimistic value functions of a layer-product class: what GOLF and SimGolf share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np

from ...types import FloatArray, IntArray
from .environment import Environment, Here, greedy

Losses = Callable[[int], FloatArray]
"""(layer) → (m, m') loss of each pair (q_h, q_{h+1}) on what was seen at layer h; m' = 1 at the last."""
Visit = Callable[[int, Here, int], Awaitable[Here]]
"""(layer, place, action): note what follows, and the place where the episode goes on."""


class Optimism:
    """Chains q_0, …, q_{H−1} of a product of finite classes, and episodes of the most hopeful ones.

    Args:
        env: the environment.
        values: H arrays (m, codes, A): the members q_h of each layer.

    Attributes:
        played: chain by chain the members played, one for each layer.
        drawn: observations drawn in all after each episode.
        returns: outcome reward of each episode, to be noted by who visits its end.
    """

    def __init__(self, env: Environment, values: Sequence[FloatArray]) -> None:
        self.env, self.values = env, values
        self.best = [q.max(axis=2) for q in values]  # (m, codes) each: V of each member
        self.played: list[list[int]] = []
        self.drawn: list[int] = []
        self.returns: list[float] = []
        self._starts: list[int] = []

    def chain(self, losses: Losses, beta: float) -> list[int] | None:
        """The chain with the highest mean value at the first observations seen, of those whose pairs all
        have a loss of at most β; ties at random; ``None``: there is none."""
        H, rng = self.env.layers, self.env.rng
        allowed = [losses(h) <= beta for h in range(H)]
        # members of each layer from which an allowed chain goes on to the end
        leads = [np.ones(1, dtype=np.bool_)]
        for pairs in reversed(allowed):
            leads.insert(0, np.asarray((pairs & leads[0]).any(axis=1)))
        if not leads[0].any():
            return None
        hopes = np.where(leads[0], self.best[0][:, self._starts].mean(axis=1), -np.inf)
        chain = [int(greedy(hopes[None], rng)[0])]
        for h in range(1, H):
            possible = np.flatnonzero(allowed[h - 1][chain[-1]] & leads[h])
            chain.append(int(rng.choice(possible)))
        return chain

    async def explore(self, losses: Losses, visit: Visit, beta: float, episodes: int) -> bool:
        """Play episodes, each by the actions of an optimistic chain; false where none was left."""
        env = self.env
        for _ in range(episodes):
            (place,) = await env.begin(1)
            self._starts.append(place.code)
            chain = self.chain(losses, beta)
            if chain is None:
                return False
            for h, member in enumerate(chain):
                scores = self.values[h][member, place.code]
                place = await visit(h, place, int(greedy(scores[None], env.rng)[0]))
            self.played.append(chain)
            self.drawn.append(env.draws)
        return True

    def record(self, left: bool) -> dict[str, Any]:
        """What was played, and what it took; ``left``: whether a chain was left at the end."""
        more = {"played": self.played, "drawn": self.drawn, "returns": self.returns}
        return self.env.account(**more, chains_left=left)


def codes_of(places: Sequence[Here]) -> IntArray:
    """(n,) the codes of places."""
    return np.array([place.code for place in places], dtype=np.int64)
