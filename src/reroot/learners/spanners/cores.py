"""Core sets of prefix pairs at every level: what is known of the values there, and what is added."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ...linear.regression import Design
from ...types import FloatArray, Prefix
from .walks import Tokens, Walker

_FIT = 1e-3
"""Ridge of the regression of values."""


class Pair(NamedTuple):
    """x·a and its anchor x·ā."""

    string: Tokens
    anchor: Tokens


class Cores:
    """The cores of all levels.

    Args:
        walker: the policy, whose θ they fit.
        nu: pairs whose uncertainty is above ν² are added.
        ridge: λ, in units of max ‖φ‖² of the first draws.

    Attributes:
        pairs: those of each level, H lists.
    """

    def __init__(self, walker: Walker, nu: float, ridge: float) -> None:
        self._walker, self._ridge = walker, ridge
        walker.nu2 = nu * nu
        self.pairs: list[list[Pair]] = [[] for _ in walker.thetas]

    async def fit(self, deepest: int, visits: int) -> None:
        """θ_h for h = deepest … 1, from ``visits`` returns to each end of each pair
        (``BudgetExceeded``)."""
        for h in range(deepest, 0, -1):
            pairs = self.pairs[h - 1]
            if pairs:
                ends = [end for pair in pairs for end in pair]
                values = (await self.values(ends, visits)).reshape(-1, 2)
                targets = values[:, 0] - values[:, 1]
                self._walker.thetas[h - 1] = self._walker.designs[h - 1].fit(targets, _FIT)

    async def values(self, strings: Sequence[Tokens], visits: int) -> FloatArray:
        """(n,) means over ``visits`` returns to each string of r(y) − β·Σ log ρ of what follows
        (``BudgetExceeded``)."""
        walker = self._walker
        rolled = await walker.roll([y for y in strings for _ in range(visits)])
        rewards = await walker.session.rewards([Prefix.of(y) for y in rolled.ends])
        gains = np.array(rewards) - walker.beta * rolled.log_ratios
        return gains.reshape(len(strings), visits).mean(axis=1)

    async def explore(self, starts: int, visits: int) -> int:
        """Roll out, and add the most uncertain pair of each level; the deepest level that got one, or 0
        (``BudgetExceeded``)."""
        walker = self._walker
        if not walker.designs:
            await self._measure(starts)
        visited: list[set[Pair]] = [set() for _ in self.pairs]

        def look(h: int, prefix: Tokens, drawn: Sequence[int], anchor: int) -> None:
            other = (*prefix, anchor)
            visited[h - 1].update(Pair((*prefix, a), other) for a in drawn if a != anchor)

        returns = {end for pairs in self.pairs for pair in pairs for end in pair}
        places = [()] * starts + sorted(returns) * visits
        await walker.roll(places, look)
        deepest = 0
        for h, found in enumerate(visited, 1):
            pairs = sorted(found)
            if not pairs:
                continue
            ends = await walker.features([end for pair in pairs for end in pair])
            directions = ends[0::2] - ends[1::2]
            unknown = walker.designs[h - 1].uncertainty(directions)
            best = int(unknown.argmax())
            if unknown[best] > walker.nu2:
                walker.designs[h - 1].add(directions[best])
                self.pairs[h - 1].append(pairs[best])
                deepest = h
        return deepest

    async def _measure(self, starts: int) -> None:
        """Designs, in the units of the features of some rollouts."""
        walker = self._walker
        outputs = (await walker.session.rollouts(starts)).outputs()
        rows = await walker.features([tuple(y[: h + 1]) for y in outputs for h in range(len(y))])
        scale = float((rows**2).sum(axis=1).max()) or 1.0
        walker.designs = [Design(rows.shape[1], self._ridge * scale) for _ in walker.thetas]
