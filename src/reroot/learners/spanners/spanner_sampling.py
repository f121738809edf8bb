"""SpannerSampling: few rewards, and as many rollouts as the optimum's coverage takes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ...access.learner import learner
from ...access.session import Session
from ...errors import BudgetExceeded
from ...linear.regression import Design
from ...types import Finding, FloatArray, Prefix
from ..common import COUNT, FLAG, POSITIVE, Rule, between, checked, integer
from .softmax import first_accepted, normalizer

_COVERAGE = Rule("be a number >= 1", lambda x: between(0, math.inf).holds(x) and x >= 1)
_TRIES = 16
"""Times M: most proposals before a draw from P is taken instead."""
_CHUNK = 4096


@learner(
    requires=checked(
        "root/sample+reward+hidden",
        beta=POSITIVE,
        coverage=_COVERAGE,
        pairs=COUNT.or_none,
        rounds=integer(0),
        nu=POSITIVE,
        ridge=POSITIVE,
        explore=FLAG,
        summed=FLAG,
    )
)
async def spanner_sampling(
    session: Session,
    *,
    beta: float = 0.2,
    coverage: float = 4.0,
    pairs: int | None = None,
    rounds: int = 8,
    nu: float = 1.0,
    ridge: float = 0.05,
    explore: bool = True,
    summed: bool = False,
) -> Finding | None:
    """A linear softmax policy for the KL-regularized reward, from few rewards of spanning pairs.

    Pseudo-code (SpannerSampling, Foster et al. 2025, arXiv 2503.07453), with D = φ(y1) - φ(y2)::

        up to ``pairs`` times:  y1, y2 ~ P;  if ‖D‖² in Σ⁻¹ is above ν²:  buy both rewards, Σ += D·Dᵀ
        ``rounds`` times:  θ ← argmin Σ (⟨θ, D⟩ - (r1 - r2))²
            y2 ~ P;  y1 ~ P·e^{f/β},  f(y) = ⟨θ, D⟩ where ‖D‖² in Σ⁻¹ is at most ν², else 0;  buy both
        return a draw of P·e^{⟨θ, φ⟩/β}

    T_data is the number of rewards, about 2·(d + ``rounds``). T_comp is the number of tokens: a round
    estimates the normalizer from 8·C_cov rollouts and proposes up to 32·C_cov. Features of what was
    drawn are the only ones that are looked at. The theorem's constants are far larger; here the last
    θ is returned in place of the mixture of all rounds.

    Returns:
        An output, with the notes ``theta`` (d numbers), ``spanner`` (pairs bought at first), ``accepted``
        (the share of softmax draws that were accepted) and ``complete``: whether all rounds were run.

    Args:
        beta: β, reward per nat.
        coverage: C_cov, the largest density ratio of the optimum to P.
        pairs: pairs looked at; ``None``: 6·C_cov.
        rounds: of exploration.
        nu: ν.
        ridge: λ, in units of max ‖φ‖² of the first rollouts.
        explore: False buys the rewards of every one of ``pairs`` pairs and explores no further.
        summed: φ(y) is the sum of the features of all prefixes of y, in place of those of y.
    """
    search = _Search(session, beta, coverage, nu, explore, summed)
    try:
        search.seen = (await session.rollouts(1)).outputs()[0]
        count = math.ceil(6 * coverage) if pairs is None else pairs
        await search.span(count, ridge)
        for _ in range(rounds if explore else 0):
            search.fit()
            (second,), (row,) = await search.draw(1)
            first, features = await search.tilted(row)
            await search.buy([(first, second)], features[None] - row)
        search.fit()
        output, _ = await search.tilted(None)
    except BudgetExceeded:
        return Finding(search.seen, search.notes(False)) if search.seen else None
    return Finding(output, search.notes(True))


class _Search:
    """What was bought, and the policy of it."""

    def __init__(
        self,
        session: Session,
        beta: float,
        coverage: float,
        nu: float,
        explore: bool,
        summed: bool,
    ) -> None:
        self._session, self._beta, self._nu = session, beta, nu
        self._explore, self._summed = explore, summed
        self._bound = 2.0 * coverage
        self.seen: Prefix | None = None
        self._design: Design | None = None
        self._targets: list[float] = []
        self._theta: FloatArray | None = None
        self._spanner = self._asked = self._accepted = 0

    async def draw(self, n: int) -> tuple[list[Prefix], FloatArray]:
        """``n`` rollouts and their (n, d) features (``BudgetExceeded``)."""
        outputs: list[Prefix] = []
        rows: list[FloatArray] = []
        for start in range(0, n, _CHUNK):
            some = (await self._session.rollouts(min(_CHUNK, n - start))).outputs()
            distinct = list(dict.fromkeys(some))
            shown = await self._features(distinct)
            place = {y: i for i, y in enumerate(distinct)}
            outputs += some
            rows.append(shown[[place[y] for y in some]])
        return outputs, np.concatenate(rows)

    async def _features(self, outputs: list[Prefix]) -> FloatArray:
        """(n, d) φ(y) (``BudgetExceeded``)."""
        if not self._summed:
            return await self._session.features(outputs)
        below = [[y[: h + 1] for h in range(len(y))] for y in outputs]
        strings = list(dict.fromkeys(u for some in below for u in some))
        place = {u: i for i, u in enumerate(strings)}
        rows = await self._session.features(strings)
        return np.array([rows[[place[u] for u in some]].sum(axis=0) for some in below])

    async def span(self, pairs: int, ridge: float) -> None:
        """Buy the rewards of pairs that are not spanned yet (``BudgetExceeded``)."""
        outputs, features = await self.draw(2 * pairs)
        scale = float((features**2).sum(axis=1).max()) or 1.0
        self._design = design = Design(features.shape[1], ridge * scale)
        for i in range(pairs):
            direction = features[2 * i] - features[2 * i + 1]
            unknown = design.uncertainty(direction[None])[0] > self._nu**2
            if unknown or not self._explore:
                await self.buy([(outputs[2 * i], outputs[2 * i + 1])], direction[None])
        self._spanner = len(design)

    async def buy(self, pairs: Sequence[tuple[Prefix, Prefix]], directions: FloatArray) -> None:
        """Rewards of pairs, into the regression (``BudgetExceeded``)."""
        assert self._design is not None
        rewards = await self._session.rewards([y for pair in pairs for y in pair])
        for i, direction in enumerate(directions):
            self._design.add(direction)
            self._targets.append(rewards[2 * i] - rewards[2 * i + 1])

    def fit(self) -> None:
        assert self._design is not None
        self._theta = self._design.fit(np.array(self._targets), 1e-3)

    async def tilted(self, anchor: FloatArray | None) -> tuple[Prefix, FloatArray]:
        """A draw of P·e^{f/β} and its features; without an anchor f is not truncated
        (``BudgetExceeded``)."""
        _, rows = await self.draw(math.ceil(4 * self._bound))
        z = normalizer(self._exponents(rows, anchor))
        self._asked += 1
        left = math.ceil(_TRIES * self._bound)
        while True:
            size = min(left, math.ceil(2 * self._bound))
            outputs, rows = await self.draw(size)
            at = first_accepted(self._exponents(rows, anchor), z, self._bound, self._session.rng)
            left -= size
            if at is not None or not left:
                self._accepted += at is not None
                return outputs[at or 0], rows[at or 0]

    def _exponents(self, rows: FloatArray, anchor: FloatArray | None) -> FloatArray:
        assert self._theta is not None
        assert self._design is not None
        if anchor is None:
            return rows @ self._theta / self._beta
        directions = rows - anchor
        known = self._design.uncertainty(directions) <= self._nu**2
        return np.where(known, directions @ self._theta, 0.0) / self._beta

    def notes(self, complete: bool) -> dict[str, object]:
        """What the finding says."""
        theta = None if self._theta is None else self._theta.tolist()
        share = self._accepted / self._asked if self._asked else None
        return {
            "theta": theta,
            "spanner": self._spanner,
            "accepted": share,
            "complete": complete,
        }
