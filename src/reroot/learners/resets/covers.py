"""Policy covers and PSDP: what PCR and PCE share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...blocks import LockClass
from ...types import FloatArray, IntArray
from .environment import Environment, Here, firsts
from .oracle import RegressionOracle

Policy = list[IntArray]
"""The action at each code, (S·2ⁿ,) for layers 0, 1, …; from its last layer on no more is needed."""
Target = Callable[[IntArray], FloatArray]
"""(n,) codes of a layer → (n,) rewards there."""


class Covers:
    """A policy cover for every layer, built from the first on.

    Args:
        env, known: the environment and the decoders of each layer.
        episodes: N_p of each regression of PSDP.

    Attributes:
        cover: Ψ_h: policies that together reach every state of layer h about as well as can be.
        centres: k_h, how many rewards were pursued at each layer.
    """

    def __init__(self, env: Environment, known: LockClass, episodes: int) -> None:
        self.env, self.labels, self.episodes = env, known.labels, episodes
        self.oracle = RegressionOracle(env.shape.states)
        self.cover: list[list[Policy]] = [[[]]]
        self.centres: list[int] = []

    async def roll_in(self, layer: int, n: int) -> list[Here]:
        """n episodes up to a layer, each by a uniform policy of its cover."""
        env, cover = self.env, self.cover[layer]
        which = env.rng.integers(len(cover), size=n)
        places = await env.begin(n)
        for h in range(layer):
            codes = [place.code for place in places]
            actions = [int(cover[k][h][x]) for k, x in zip(which, codes, strict=True)]
            places = firsts(await env.step(places, actions))
        return places

    async def optimize(self, layer: int, target: Target | None) -> Policy:
        """PSDP: a policy for layers 0…``layer``, from the last to the first, that collects the most of
        ``target`` at the layer behind (``None``: the outcome reward)."""
        env, policy = self.env, dict[int, IntArray]()
        A = env.shape.actions
        for h in range(layer, -1, -1):
            places = await self.roll_in(h, self.episodes)
            x, actions = _codes(places), env.random_actions(len(places))
            places = firsts(await env.step(places, actions.tolist()))
            places = (
                await env.walk(places, h + 1, layer + 1, lambda at, codes: policy[at][codes])
            )[-1]
            got = await env.rewards(places) if target is None else target(_codes(places))
            fit = self.oracle.by_action(self.labels[h], x, actions, got, A)
            best = fit.cells[:, :, 0].argmax(axis=0)
            policy[h] = best[self.labels[h, fit.member]]
        return [policy[h] for h in range(layer + 1)]

    async def extend(
        self, layer: int, codes: Sequence[int], weights: FloatArray, width: float
    ) -> None:
        """Ψ_{layer+1}: a policy for each centre of the observations ``codes`` of that layer.

        Args:
            layer: h.
            codes: observations of layer h + 1, the centres are among them.
            weights: (S·2ⁿ, d) what is known of each observation there; near: of one state.
            width: γ: a centre differs by more from those before it, in some component.
        """
        centres: list[int] = []
        for x in codes:
            if all(abs(weights[x] - weights[c]).max() > width for c in centres):
                centres.append(x)
        found: list[Policy] = []
        for centre in centres:
            near = 1.0 - abs(weights - weights[centre]).max(axis=1) / width
            found.append(await self.optimize(layer, np.maximum(near, 0.0).__getitem__))
        self.cover.append(found)
        self.centres.append(len(found))

    def record(self, **more: Any) -> dict[str, Any]:
        """What was found out, and what it took."""
        cover = [[[a.tolist() for a in policy] for policy in some] for some in self.cover]
        asked = self.oracle.counts()
        return self.env.account(centres=self.centres, cover=cover, oracle=asked, **more)


def _codes(places: Sequence[Here]) -> IntArray:
    return np.array([place.code for place in places], dtype=np.int64)


async def play(env: Environment, policy: Policy, n: int) -> list[float]:
    """Rewards of n episodes of a policy of all layers."""
    walked = await env.walk(await env.begin(n), 0, env.layers, lambda h, x: policy[h][x])
    return await env.rewards(walked[-1])
