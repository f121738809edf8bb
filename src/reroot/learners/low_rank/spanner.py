"""Learning a low-rank law from conditional samples, whatever its fidelity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ...access.learner import Params, learner
from ...access.session import Session
from ...contract import Contract, Report
from ...errors import BudgetExceeded
from ...linear.operators import Futures, OperatorModel
from ...linear.spanner import barycentric_spanner
from ...types import Finding, FloatArray, IntArray
from ..common import COUNT, FLAG, check, integer
from .conditionals import (
    History,
    NextLaws,
    draw,
    drawn_futures,
    end_tokens,
    learned,
    padded,
    rollouts,
)
from .samples import FLOOR, reading

_LEAST_RATIO = 1e-3
_ROUNDING = 1e-7
"""Share of the largest singular value below which the others are rounding."""


def _requires(params: Params) -> Contract:
    check(params, k=COUNT, tests=COUNT, samples=COUNT, histories=integer(0), project=FLAG)
    check(params, length=COUNT.or_none)
    return reading(params)


@learner(requires=_requires)
async def low_rank_spanner(
    session: Session,
    *,
    k: int = 4,
    tests: int = 40,
    samples: int = 40,
    histories: int = 4,
    length: int | None = None,
    project: bool = True,
    report: str = "sample",
) -> Finding:
    """A law of rank k from conditional samples, whatever its fidelity: by barycentric spanners.

    Pseudo-code (a reconstruction from the two ideas that the abstract of Liu & Moitra 2024, arXiv
    2411.07536, names: spanners over the futures of histories, projections in relative entropy)::

        H_0 ← {()};  for t = 0 … T - 1:
            N_i ← next-token law of h_i in H_t (10·``samples`` draws)
            C ← all possible h_i∘o, and the first t + 1 tokens of ``histories`` rollouts
            z_1 … z_M ~ futures of C, ``length`` tokens each;  W_c ← (Pr[z_j | c]/d(z_j))_j
            H_{t+1} ← a barycentric spanner of C by W, at rank k at most
            c_{i,o} ← coefficients of h_i∘o in H_{t+1}
        generate: weights α on H_t;  o ∝ max(Σ_i α_i·N_i(o), 1e-9);  α ← Σ_i α_i·N_i(o)·c_{i,o}, summing to 1
            where α predicts a negative ratio, or has an entry above 2:  α ← the weights whose
            prediction is nearest, in relative entropy, to that of the mixture it came from

    As children of the spanner are among C, nothing that it can reach is unseen; coefficients of at
    most 1.1 let errors add up and not multiply. What is and what is not proved of it:
    ``docs/low_rank.md``.

    Returns:
        A draw of the law, with the notes ``model``: the law (``Operators.from_json`` makes the
        generator), ``ranks`` and ``complete``. Without the budget to finish: a rollout, and
        ``complete``: False.

    Args:
        k: largest rank.
        tests: M.
        samples: draws at each history.
        histories: random prefixes beside the children of the spanner.
        length: tokens of a future; ``None``: to the end.
        project: whether weights are projected.
        report: ``"sample"``, or ``"full"``: exact next-token laws.
    """
    reply = await rollouts(session, max(1, histories))
    if reply is None:
        return Finding(None, {"complete": False})
    rows = padded(reply, session.horizon)[:histories]
    level = _Spanners(session, k, tests, samples, length, Report.parse(report))
    try:
        for t in range(session.horizon):
            await level.advance(t, rows)
    except BudgetExceeded:
        return Finding(reply.outputs()[0], {"complete": False})
    model = level.model(project)
    return Finding(draw(session, model), learned(session, model, {}))


class _Ratios(NamedTuple):
    """What the spanner of a position is made from.

    Attributes:
        rows: (n, k) the candidates, in coordinates.
        smooth: (n, M) their ratios at rank k.
    """

    rows: FloatArray
    smooth: FloatArray


class _Spanners:
    """The spanners found so far, and what leads from one to the next."""

    def __init__(
        self,
        session: Session,
        k: int,
        tests: int,
        samples: int,
        length: int | None,
        report: Report,
    ) -> None:
        self._session, self._k, self._count = session, k, tests
        self._length = session.horizon if length is None else length
        self._next = NextLaws(session, report, 10 * samples)
        self._laws = NextLaws(session, report, samples)
        self.spanner: list[History] = [()]
        self.emissions: list[FloatArray] = []
        self.operators: list[FloatArray] = []
        self.tests: list[Futures] = []

    async def advance(self, t: int, rows: IntArray) -> None:
        """From the spanner of t tokens to that of t + 1; ``rows`` are rollouts (``BudgetExceeded``)."""
        N = await self._next.of(self.spanner)
        self.emissions.append(N)
        if t + 1 == self._session.horizon:
            return
        places = np.argwhere(N > 0)
        children = [(*self.spanner[i], o) for i, o in places.tolist()]
        random = {tuple(row[: t + 1]) for row in rows.tolist()} - set(children)
        candidates = [*children, *sorted(random)]
        found = await self._ratios(candidates, min(self._length, self._session.horizon - t - 1))
        chosen, coefficients = barycentric_spanner(found.rows)
        k = len(chosen)
        at = tuple(places.T)
        operator, before = np.zeros((*N.shape, k)), np.ones((*N.shape, self._count))
        operator[at] = N[at][:, None] * coefficients[: len(children)]
        before[at] = found.smooth[: len(children)]
        self.operators.append(operator)
        self.tests.append(Futures(np.maximum(found.smooth[chosen], _LEAST_RATIO), before))
        self.spanner = [candidates[i] for i in chosen]

    async def _ratios(self, candidates: Sequence[History], length: int) -> _Ratios:
        n, M = len(candidates), self._count
        counts = np.bincount(np.arange(M) % n, minlength=n).tolist()
        drawn = await drawn_futures(self._session, candidates, counts, length)
        futures = await self._laws.futures(candidates, drawn)
        mixture = futures.mean(axis=0)
        ratios = np.divide(futures, mixture, out=np.ones_like(futures), where=mixture > 0)
        whole = np.concatenate([ratios / np.sqrt(M), np.ones((n, 1))], axis=1)  # 1: the empty test
        U, values, Vt = np.linalg.svd(whole, full_matrices=False)
        k = min(self._k, int((values > _ROUNDING * values[0]).sum()))
        rows = U[:, :k] * values[:k]
        return _Ratios(rows, (rows @ Vt[:k, :M]) * np.sqrt(M))

    def model(self, project: bool) -> OperatorModel:
        """The law of the spanners."""
        tests, end = self.tests if project else [], end_tokens(self._session)
        return OperatorModel(np.ones(1), self.emissions, self.operators, FLOOR, tests, end)
