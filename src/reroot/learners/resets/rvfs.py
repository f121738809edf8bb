"""RVFS: value functions by a recursive search for places where they may still be wrong."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from ...access.learner import learner
from ...access.session import Session
from ...blocks import LockClass
from ...contract import Control
from ...errors import BudgetExceeded
from ...types import Finding, FloatArray, IntArray
from ..common import COUNT, POSITIVE
from .environment import Environment, Here, firsts, greedy, lock_of, needs
from .oracle import Fitted, RegressionOracle

Pair = tuple[Here, int]


@learner(
    requires=needs(
        Control.RESET,
        **dict.fromkeys(("test_draws", "fit_draws", "backups", "plays"), COUNT),
        **dict.fromkeys(("test", "error"), POSITIVE),
    )
)
async def rvfs(
    session: Session,
    *,
    actions: int = 4,
    goods: int = 2,
    noise: int = 6,
    base: int = 2,
    decoders: int = 16,
    class_seed: int = 0,
    test_draws: int = 2,
    fit_draws: int = 4,
    backups: int = 2,
    test: float = 0.5,
    error: float = 0.15,
    plays: int = 1,
) -> Finding:
    """Learn value functions of a block MDP, by resets to where those that fit the data disagree.

    Pseudo-code (after Mhammedi, Foster and Rakhlin 2024, arXiv 2404.15417, with practical sizes)::

        V_H = r;   π_l(x) = argmax_a mean of V_{l+1} over K draws of (x, a)      C_l: pairs (x, a) into layer l
        rec(h):                                                                  start: rec(0)
          if h > 0 and C_h is empty: return
          loop: draw N_t times from each pair of C_h (h = 0: from the start), roll π on;
                at layers l = h+1 … H−1, all a:   fails if width_l(K draws of (x_{l−1}, a)) > ε
                if nothing fails: break
                l ← the deepest failing;  C_l += one failing pair;  for t = l … h+1: rec(t)
          if h > 0: draw N_r times from each pair of C_h, roll π to the end, fit V_h to the returns
        width_l: the most by which functions that agree with V_l on the inputs fitted so far, up to the
          error of the fit, can differ from it in the mean over the draws; at most 1

    On return every V_h was fitted after V_{h+1}. The defaults suffice for q = 0; for q = 0.1 take
    test_draws=16, fit_draws=32, backups=8. Without the true decoder in the class the tests pass all the
    same: agreement does not show misspecification.

    Args:
        actions: A.
        goods: G, so S = G + 1 latent states.
        noise: n, bits of noise of an observation.
        base: B, digits of a block.
        decoders: |Φ|, members of the public class of each layer.
        class_seed: names that class.
        test_draws: N_t.
        fit_draws: N_r.
        backups: K.
        test: ε.
        error: root mean square error that a fit may have.
        plays: episodes that the learned policy plays at the end; the last is the output.
    """
    env, known = lock_of(session, goods, actions, noise, base, decoders, class_seed)
    search = Search(env, known, Sizes(test_draws, fit_draws, backups, test, error))
    found: list[float] = []
    with suppress(BudgetExceeded):
        await search.learn(0)
        learned = search.record()
        found = await env.rewards(await search.roll(await env.begin(plays), 0))
        return Finding(env.last, {**learned, "reward": float(np.mean(found))})
    return Finding(env.last, search.record())


class Sizes(NamedTuple):
    """N_t, N_r, K, ε, and the error that a fit may have."""

    test_draws: int
    fit_draws: int
    backups: int
    test: float
    error: float


class Search:
    """The state of RVFS.

    Args:
        env, known: the environment and the decoders of each layer.
        p: the parameters of the same names.

    Attributes:
        values: (H, S·2ⁿ) V_h of each code; 0 before its first fit.
        core: C_h, by layer.
        fitted: when V_h was fitted last: a running number, 0 if never.
        failures: tests that failed.
    """

    def __init__(self, env: Environment, known: LockClass, p: Sizes) -> None:
        self.env, self.labels, self._p = env, known.labels, p
        self._slack = p.fit_draws * p.error**2
        self.oracle = RegressionOracle(env.shape.states)
        H = env.layers
        self.values = np.zeros((H, env.shape.codes))
        self.core: list[list[Pair]] = [[] for _ in range(H)]
        self.fitted = [0] * H
        self.failures = self._clock = 0
        self._inputs: list[list[int]] = [[] for _ in range(H)]

    def record(self) -> dict[str, Any]:
        """What was found out, and what it took."""
        sizes = {"core": [len(c) for c in self.core], "failures": self.failures}
        asked = self.oracle.counts()
        return self.env.account(
            **sizes, fitted=self.fitted, values=self.values.tolist(), oracle=asked
        )

    async def learn(self, h: int) -> None:
        """``rec(h)``."""
        if h and not self.core[h]:
            return
        while failing := await self._failing(await self._starts(h, self._p.test_draws), h):
            deepest = max(failing)
            self.core[deepest].append(failing[deepest])
            self.failures += 1
            for layer in range(deepest, h, -1):
                await self.learn(layer)
        if h:
            await self._fit(h)

    async def roll(self, places: list[Here], layer: int) -> list[Here]:
        """From places of a layer to the end by π."""
        for h in range(layer, self.env.layers):
            scores, _ = await self._look(places, h)
            places = firsts(await self.env.step(places, greedy(scores, self.env.rng).tolist()))
        return places

    async def _starts(self, h: int, n: int) -> list[Here]:
        if not h:
            return await self.env.begin(n)
        places, actions = zip(*self.core[h], strict=True)
        return [x for found in await self.env.step(places, actions, n) for x in found]

    async def _look(self, places: list[Here], layer: int) -> tuple[FloatArray, IntArray]:
        """(n, A) means of V over K draws of every action, and the (n, A, K) codes drawn."""
        A, K = self.env.shape.actions, self._p.backups
        every = [place for place in places for _ in range(A)]
        found = await self.env.step(every, [*range(A)] * len(places), K)
        codes = np.array([[x.code for x in some] for some in found]).reshape(-1, A, K)
        if layer + 1 < self.env.layers:
            return self.values[layer + 1, codes].mean(axis=2), codes
        rewards = await self.env.rewards([x for some in found for x in some])
        return np.array(rewards).reshape(-1, A, K).mean(axis=2), codes

    async def _failing(self, places: list[Here], h: int) -> dict[int, Pair]:
        """Layer → a pair into it whose backup is not settled, rolling π from places of layer h."""
        failing: dict[int, Pair] = {}
        for layer in range(h + 1, self.env.layers):
            scores, codes = await self._look(places, layer - 1)
            mine = self.values[layer, self._inputs[layer]]
            fitted = Fitted(self._inputs[layer], mine, self._slack)
            wide = np.argwhere(fitted.widths(self.labels[layer], codes, scores) > self._p.test)
            if len(wide):
                i, a = wide[0].tolist()
                failing[layer] = (places[i], a)
            if layer + 1 < self.env.layers:
                act = greedy(scores, self.env.rng).tolist()
                places = firsts(await self.env.step(places, act))
        return failing

    async def _fit(self, h: int) -> None:
        """Fit V_h to the returns of π from every pair of C_h."""
        places = await self._starts(h, self._p.fit_draws)
        returns = await self.env.rewards(await self.roll(places, h))
        codes = [place.code for place in places]
        fit = self.oracle.one_context(self.labels[h], codes, returns)
        self.values[h] = fit.cells[self.labels[h, fit.member], 0]
        self._inputs[h] = codes
        self._clock += 1
        self.fitted[h] = self._clock
