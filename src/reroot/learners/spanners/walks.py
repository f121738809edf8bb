"""Roll-outs of a linear softmax policy by rejection from the generator, many in step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...access.session import Session
from ...contract import Report
from ...linear.regression import Design
from ...types import FloatArray, Prefix, Query
from .softmax import Normalizer, first_accepted, log_density, normalizer

Tokens = tuple[int, ...]
_TRIES = 16
"""Times M: most proposals at a prefix before a draw from P is taken instead."""

Look = Callable[[int, Tokens, Sequence[int], int], None]
"""(level h, prefix of h − 1 tokens, tokens drawn there, the anchor): told at every visit."""


@dataclass
class Rolled:
    """What roll-outs have come to.

    Attributes:
        ends: complete outputs.
        log_ratios: (n,) Σ log ρ along each.
    """

    ends: list[Tokens]
    log_ratios: FloatArray


@dataclass
class _Visit:
    """One roll-out at a prefix."""

    prefix: Tokens
    anchor: int
    z: Normalizer
    spare: int
    chosen: int | None = None
    log_ratio: float = 0.0
    drawn: list[int] = field(default_factory=list[int])


class Walker:
    """The policy, and how it is drawn from.

    Attributes:
        thetas: θ_1 … θ_H; ``None``: 0, nothing is known.
        designs: Σ_1 … Σ_H, once features were seen.
        truncated: whether f is 0 where it is uncertain.
        asked, accepted: draws by rejection, and those that did not fall back on P.
    """

    def __init__(self, session: Session, beta: float, bound: float, draws: int) -> None:
        self.session, self.beta, self.bound, self._draws = session, beta, bound, draws
        self.thetas: list[FloatArray | None] = [None] * session.horizon
        self.designs: list[Design] = []
        self.nu2, self.truncated = 1.0, True
        self.asked = self.accepted = 0
        self._features: dict[Tokens, FloatArray] = {}

    async def features(self, strings: Sequence[Tokens]) -> FloatArray:
        """(n, d) features, each asked once (``BudgetExceeded``)."""
        missing = [y for y in dict.fromkeys(strings) if y not in self._features]
        if missing:
            shown = await self.session.features([Prefix.of(y) for y in missing])
            self._features.update(zip(missing, shown, strict=True))
        return np.array([self._features[y] for y in strings])

    async def roll(self, starts: Sequence[Tokens], look: Look | None = None) -> Rolled:
        """Roll out to the end from each start, all in step (``BudgetExceeded``)."""
        paths, ratios = list(starts), np.zeros(len(starts))
        for h in range(1, self.session.horizon + 1):
            here = [
                i for i, path in enumerate(paths) if len(path) == h - 1 and not self._over(path)
            ]
            if not here:
                continue
            for i, visit in zip(here, await self._step(h, [paths[i] for i in here]), strict=True):
                assert visit.chosen is not None
                paths[i] = (*paths[i], visit.chosen)
                ratios[i] += visit.log_ratio
                if look is not None:
                    look(h, visit.prefix, visit.drawn, visit.anchor)
        return Rolled(paths, ratios)

    def _over(self, path: Tokens) -> bool:
        return bool(path) and self.session.is_complete(Prefix.of(path))

    async def _step(self, h: int, prefixes: Sequence[Tokens]) -> list[_Visit]:
        """One token at each prefix: an anchor, N draws for Ẑ, then proposals until one is accepted."""
        batch = math.ceil(2 * self.bound)
        tokens = await self._ask(prefixes, 1 + self._draws + batch)
        await self.features([(*x, a) for x, row in zip(prefixes, tokens, strict=True) for a in row])
        visits: list[_Visit] = []
        for x, row in zip(prefixes, tokens, strict=True):
            anchor, some, proposals = row[0], row[1 : 1 + self._draws], row[1 + self._draws :]
            z = normalizer(self._exponents(h, x, some, anchor))
            visit = _Visit(x, anchor, z, math.ceil(_TRIES * self.bound), drawn=sorted(set(row)))
            self._propose(h, visit, proposals)
            visits.append(visit)
        while left := [visit for visit in visits if visit.chosen is None]:
            more = await self._ask([visit.prefix for visit in left], batch)
            strings = [(*v.prefix, a) for v, row in zip(left, more, strict=True) for a in row]
            await self.features(strings)
            for visit, row in zip(left, more, strict=True):
                self._propose(h, visit, row)
        return visits

    async def _ask(self, prefixes: Sequence[Tokens], n: int) -> list[list[int]]:
        queries = [Query(Prefix.of(x), n, 1, Report.SAMPLE) for x in prefixes]
        return [reply.first_tokens().tolist() for reply in await self.session.ask(queries)]

    def _propose(self, h: int, visit: _Visit, proposals: Sequence[int]) -> None:
        exponents = self._exponents(h, visit.prefix, proposals, visit.anchor)
        at = first_accepted(exponents, visit.z, self.bound, self.session.rng)
        visit.spare -= len(proposals)
        if at is None and visit.spare > 0:
            return
        self.asked += 1
        self.accepted += at is not None
        visit.chosen = int(proposals[at or 0])
        visit.log_ratio = log_density(float(exponents[at or 0]), visit.z)

    def _exponents(self, h: int, prefix: Tokens, tokens: Sequence[int], anchor: int) -> FloatArray:
        """(n,) f/β of tokens at a prefix of h − 1."""
        theta = self.thetas[h - 1]
        if theta is None:
            return np.zeros(len(tokens))
        distinct = sorted(set(tokens))
        rows = np.array([self._features[*prefix, a] for a in distinct])
        directions = rows - self._features[*prefix, anchor]
        scores = directions @ theta
        if self.truncated:
            known = self.designs[h - 1].uncertainty(directions) <= self.nu2
            scores = np.where(known, scores, 0.0)
        value = dict(zip(distinct, (scores / self.beta).tolist(), strict=True))
        return np.array([value[a] for a in tokens])
