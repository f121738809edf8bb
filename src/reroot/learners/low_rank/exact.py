"""Learning a low-rank law from exact conditional probabilities."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ...access.learner import learner
from ...access.session import Session
from ...contract import Report
from ...errors import BudgetExceeded
from ...linear.operators import OperatorModel
from ...types import Finding, FloatArray, IntArray, Prefix, Query
from ..common import COUNT, POSITIVE, checked
from .conditionals import History, draw, end_tokens, ended, learned, padded, rollouts


@learner(requires=checked("reset/logprob", n=COUNT, tolerance=POSITIVE, rounds=COUNT))
async def hmm_exact(
    session: Session, *, n: int = 100, tolerance: float = 1e-9, rounds: int = 500
) -> Finding:
    """A law of low rank, exactly, from conditional probabilities of chosen futures after histories.

    Pseudo-code (Mahajan et al. 2023, arXiv 2302.14753, Algorithm 1), for t = 0 … T::

        n rollouts;  B_t ← {the first t tokens of one of them},  Λ_t ← {()}
        repeat:
            A_{o,t} ← Pr[Λ_{t+1} | B_{t+1}]⁻¹ · Pr[oΛ_{t+1} | B_t]
            along each rollout x:  β ← A_{x_{t+1},t}·β / Pr[x_{t+1} | x_{1:t}], from β = 1,
                until Pr[Λ_{t+1} | B_{t+1}]·β is not Pr[Λ_{t+1} | x_{1:t+1}]
            where it is most wrong, for the test λ:  B_t ← B_t ∪ {x_{1:t}},  Λ_t ← Λ_t ∪ {x_{t+1}λ}
        until all rollouts are predicted;  return the operators A

    Each round adds one to a rank, so there are at most Σ_t (r_t − 1) of them: the new matrix
    Pr[Λ_t | B_t] has the error, times Pr[x_{t+1} | x_{1:t}], as Schur complement. The source takes the
    first failure and puts λ' into B_t by a misprint; the largest failure keeps the systems well
    conditioned. Histories with total probability of about log(1/δ)/n may stay unseen; else the law
    is exact up to rounding. All histories are rollouts' prefixes and their children, so RESET control
    is enough.

    Returns:
        A draw of the law, with the notes ``model``: the law (``Operators.from_json`` makes the
        generator), ``ranks``, ``rounds``, and ``complete``: whether all rollouts are predicted. Without
        the budget to finish: a rollout, and ``complete``: False.

    Args:
        n: rollouts.
        tolerance: error of a conditional probability that counts as one.
        rounds: most rounds.
    """
    reply = await rollouts(session, n, Report.LOGPROB)
    if reply is None:
        return Finding(None, {"complete": False})
    table = _Table(session, padded(reply, session.horizon))
    assert reply.logprobs is not None
    known = np.zeros((reply.n, session.horizon))
    known[:, : reply.logprobs.shape[1]] = reply.logprobs
    try:
        await table.operators(range(session.horizon))
        for done in range(rounds + 1):
            failure = await table.failure(np.exp(known), tolerance)
            if failure is None or done == rounds:
                model = table.model()
                notes = {"rounds": done, "complete": failure is None}
                return Finding(draw(session, model), learned(session, model, notes))
            t, history, test = failure
            table.histories[t].append(history)
            table.tests[t].append(test)
            await table.operators((t - 1, t))
    except BudgetExceeded:
        pass
    return Finding(reply.outputs()[0], {"complete": False})


class _Table:
    """Histories, tests, what was asked of them, and the operators.

    Attributes:
        rows: (n, T) rollouts.
        histories, tests: B_t and Λ_t.
        A: (|B_t|, K, |B_{t+1}|) for each t.
        G: (|Λ_t|, |B_t|) for each t.
    """

    def __init__(self, session: Session, rows: IntArray) -> None:
        T, first = session.horizon, tuple(rows[0].tolist())
        self._session, self.rows = session, rows
        self.histories: list[list[History]] = [[first[:t]] for t in range(T + 1)]
        self.tests: list[list[History]] = [[()] for _ in range(T + 1)]
        self._known: dict[tuple[History, History], float] = {}
        self.A: dict[int, FloatArray] = {}
        self.G: dict[int, FloatArray] = {T: np.ones((1, 1))}

    async def _ask(self, pairs: Iterable[tuple[History, History]]) -> None:
        """Pr[future | history] of those that are not known, all at once (``BudgetExceeded``)."""
        queries: dict[tuple[History, History], Query] = {}
        for h, f in dict.fromkeys(pairs):
            if (h, f) in self._known:
                continue
            length = next((i for i in range(len(f) + 1) if ended(self._session, h + f[:i])), len(f))
            follows = set(f[length:]) <= {(h + f[:length])[-1]} if length < len(f) else True
            self._known[h, f] = float(follows)  # behind an end only its token comes
            if length and follows:
                queries[h, f] = Query(Prefix.of(h), 1, None, Report.LOGPROB, f[:length])
        for pair, reply in zip(queries, await self._session.ask(queries.values()), strict=True):
            self._known[pair] = float(np.exp(reply.total_logprobs()[0]))

    async def _matrix(self, histories: list[History], tests: list[History]) -> FloatArray:
        """(histories, tests) conditional probabilities."""
        await self._ask((h, f) for h in histories for f in tests)
        return np.array([[self._known[h, f] for f in tests] for h in histories])

    async def operators(self, places: Iterable[int]) -> None:
        """Work out A_t at these places, and G_{t+1}."""
        K = self._session.vocab_size
        for t in places:
            tests = self.tests[t + 1]
            self.G[t + 1] = (await self._matrix(self.histories[t + 1], tests)).T
            longer = [(o, *test) for o in range(K) for test in tests]
            found = (await self._matrix(self.histories[t], longer)).reshape(-1, len(tests))
            solved: FloatArray = np.asarray(np.linalg.solve(self.G[t + 1], found.T).T, np.float64)
            self.A[t] = solved.reshape(len(self.histories[t]), K, -1)

    async def failure(
        self, chances: FloatArray, tolerance: float
    ) -> tuple[int, History, History] | None:
        """(t, history of t tokens, test to add there) where a rollout is predicted worst, if any is.

        Args:
            chances: (n, T) Pr[x_{t+1} | x_{1:t}] of the rollouts.
        """
        left, beta = np.arange(len(self.rows)), np.ones((len(self.rows), 1))
        worst, found = tolerance, None
        for t in range(self._session.horizon):
            tokens = self.rows[left, t]
            beta = np.einsum("ni,inj->nj", beta, self.A[t][:, tokens])
            beta /= chances[left, t, None]
            seen = [tuple(row[: t + 1].tolist()) for row in self.rows[left]]
            errors = np.abs(beta @ self.G[t + 1].T - await self._matrix(seen, self.tests[t + 1]))
            if errors.max() > worst:
                i, j = np.unravel_index(errors.argmax(), errors.shape)
                worst = float(errors.max())
                found = (t, seen[i][:-1], (seen[i][-1], *self.tests[t + 1][j]))
            good = errors.max(axis=1) <= tolerance
            left, beta = left[good], beta[good]
            if not len(left):
                break
        return found

    def model(self) -> OperatorModel:
        """The law of the operators."""
        operators = [self.A[t] for t in range(self._session.horizon)]
        emissions = [A.sum(axis=2) for A in operators]  # the empty test has probability 1
        end = end_tokens(self._session)
        return OperatorModel(np.ones(1), emissions, operators[:-1], end=end)
