"""Sharpening: train a model towards its own most likely answers, with log π_base as the reward.

Source: Huang et al. (arXiv 2412.01951). π̂ is (ε, δ)-sharpened if π̂(y*(x)|x) ≥ 1 − δ for all but a share ε of the
prompts, y*(x) the answers that π_base finds most likely. No oracle is asked: the interface gives draws and their
log-probabilities. As in ``pg_or``, prompts are contexts that the generator draws as the first tokens of a rollout,
and to draw more for one of them is to return there: visited control, but for a policy of one context.

``sft`` keeps the best of N draws and fits them; ``dpo`` regresses the log-ratios of pairs; ``xpo`` draws one of each pair
from the policy as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ..access.learner import learner
from ..checks import check_between, check_float, check_int
from ..contract import Contract, Control, Report
from ..errors import BudgetExceeded, InvalidInput
from ..types import Finding, FloatArray, Prefix, Query

if TYPE_CHECKING:
    from ..access.session import Session

_DESCENT = 20  # steps after each pair; the next one begins from the regression again


@runtime_checkable
class Sharpened(Protocol):
    """The policy that is trained; ``generators.LinearSoftmax`` is one."""

    @property
    def context_length(self) -> int:
        """Tokens of a string that are its context."""
        ...

    @property
    def weights(self) -> FloatArray:
        """(S, d) a copy of w."""
        ...

    def load(self, weights: FloatArray, /) -> None:
        """w ← weights."""
        ...

    def at(self, weights: FloatArray | None, /) -> AbstractContextManager[None]:
        """Other weights for a while."""
        ...

    def fit(self, strings: Sequence[Sequence[int]], /) -> None:
        """Maximum likelihood of whole strings."""
        ...

    def difference(self, string: Sequence[int], other: Sequence[int], /) -> FloatArray:
        """(S, d) φ(y) − φ(y')."""
        ...

    def gradient(self, string: Sequence[int], /) -> FloatArray:
        """(S, d) ∇ log p_w(y | x)."""
        ...


# ---- what is stated ------------------------------------------------------------------------------


def missed(
    base: npt.ArrayLike, policy: npt.ArrayLike, delta: float, law: npt.ArrayLike | None = None
) -> float:
    """The least ε for which a policy is (ε, δ)-sharpened.

    Args:
        base, policy: (prompts, outputs) nats, laws of whole outputs.
        delta: δ in (0, 1).
        law: (prompts,) probabilities; ``None``: equal.

    Raises:
        InvalidInput: shapes differ, or δ is out of range.
    """
    old, new = np.asarray(base, dtype=np.float64), np.asarray(policy, dtype=np.float64)
    if old.ndim != 2 or old.shape != new.shape or not old.size:
        raise InvalidInput(f"laws must be (prompts, outputs), got {old.shape} and {new.shape}")
    check_between("delta", delta, 0.0, 1.0)
    mass = np.full(len(old), 1.0 / len(old)) if law is None else np.asarray(law, dtype=np.float64)
    if mass.shape != (len(old),):
        raise InvalidInput(f"law must be ({len(old)},), got {mass.shape}")
    best = old >= old.max(axis=1, keepdims=True) - 1e-12
    reached = np.where(best, np.exp(new), 0.0).sum(axis=1)
    return float(mass[reached < 1.0 - delta - 1e-12].sum())


def best_of_n_law(law: npt.ArrayLike, n: int) -> FloatArray:
    """(outputs,) the law of the likeliest of n draws: F(y)^n − F(y⁻)^n, F the mass of what is no likelier.

    Outputs of equal likelihood share it in proportion to their mass, as they do where the first one wins.

    Args:
        law: (outputs,) probabilities.
        n: draws.

    Raises:
        InvalidInput: no probabilities, or n < 1.
    """
    p = np.asarray(law, dtype=np.float64)
    if p.ndim != 1 or (p < 0).any() or not abs(p.sum() - 1) < 1e-9:
        raise InvalidInput(f"law must be probabilities that sum to 1, got {law!r}")
    check_int("n", n, 1)
    _, where = np.unique(p, return_inverse=True)
    mass = np.bincount(where, p)
    upto = np.minimum(1.0, np.cumsum(mass))
    share = upto**n - np.concatenate([[0.0], upto[:-1]]) ** n
    return np.where(p > 0, share[where] * p / np.maximum(mass[where], 1e-300), 0.0)


def fixed_draws(p: float, delta: float) -> int:
    """Fewest draws that hold a mode of probability p with probability 1 − δ at least.

    Raises:
        InvalidInput: p or δ is out of range.
    """
    check_between("p", p, 0.0, 1.0)
    return math.ceil(math.log(check_between("delta", delta, 0.0, 1.0)) / math.log1p(-p) - 1e-12)


def adaptive_draws(p: float, delta: float, most: int | None = None) -> float:
    """Expected draws of the stopping rule 1/max_{j≤k} π(y_j) ≤ k/μ, μ = ln(2/δ), where everything but the
    mode is too unlikely to stop it: E max(⌈μ/p⌉, G), G geometric, cut at ``most``.

    Raises:
        InvalidInput: an argument is out of range.
    """
    check_between("p", p, 0.0, 1.0)
    least = math.ceil(math.log(2.0 / check_between("delta", delta, 0.0, 1.0)) / p - 1e-12)
    if most is not None and check_int("most", most, 1) <= least:
        return float(most)
    end = 0.0 if most is None else (1.0 - p) ** most
    return least + ((1.0 - p) ** least - end) / p


# ---- supervised fine-tuning on the best of N -----------------------------------------------------


def _control(policy: Sharpened) -> Control:
    return Control.VISITED if policy.context_length else Control.ROOT


def _policy(params: Mapping[str, Any]) -> Sharpened:
    if not isinstance(params["policy"], Sharpened):
        raise InvalidInput(f"policy must be a LinearSoftmax or alike, got {params['policy']!r}")
    return params["policy"]


def _sft_contract(params: Mapping[str, Any]) -> Contract:
    policy = _policy(params)
    check_int("prompts", params["prompts"], 1)
    check_int("batch", params["batch"], 1)
    draws, delta = params["draws"], params["delta"]
    if (draws is None) == (delta is None):
        raise InvalidInput(f"give draws or delta, one of them, got {draws!r} and {delta!r}")
    if draws is not None:
        check_int("draws", draws, 1)
    else:
        check_between("delta", delta, 0.0, 1.0)
        check_int("most", params["most"], 1)
    return Contract(_control(policy), Report.LOGPROB)


@learner(requires=_sft_contract)
async def sft(
    session: Session,
    *,
    policy: Sharpened,
    prompts: int,
    draws: int | None = None,
    delta: float | None = None,
    most: int = 10_000,
    batch: int = 1,
) -> Finding:
    """SFT-Sharpening: fit the likeliest of N draws for each of n prompts.

    Pseudo-code (arXiv 2412.01951, §3.1 and App. D)::

        for each of n prompts x:  y¹, y², … ~ π_base(· | x)
            N of them, or until 1/max_{j≤k} π_base(yʲ|x) ≤ k/μ, μ = ln(2/δ)
        π̂ ← maximum likelihood of (x, argmax_j π_base(yʲ|x))

    If N ≥ c·C_cov·log(2/δ)/ε and n is large, π̂ is (ε, δ)-sharpened (Thm 4.1), C_cov = E[1/π_base(y*)].

    Args:
        policy: π_base at first, π̂ at the end; a table, as ``LinearSoftmax.fit`` takes.
        prompts: n.
        draws: N for every prompt.
        delta: δ of the stopping rule instead, with at most ``most`` draws for a prompt.
        batch: draws of the rule that are asked at once for a prompt; those behind the stop are paid for.

    Returns:
        No output; metadata: ``draws`` that were looked at, ``prompts`` that were finished, ``kept`` (their
        strings).

    Raises:
        InvalidInput: when bound: a parameter is not what is expected.
    """
    context = max(0, policy.context_length - len(session.prompt))
    wanted = most if draws is None else draws
    mu = 0.0 if delta is None else math.log(2.0 / delta)
    kept: list[tuple[int, ...]] = []
    looked = 0
    with suppress(BudgetExceeded):
        first = await session.rollouts(prompts, report=Report.LOGPROB)
        own = _answers_logs(first.logprobs, context)
        best = list(zip(first.outputs(), own, strict=True))
        seen, going = [1] * prompts, list(range(prompts))
        looked = prompts
        while going:
            going = [i for i in going if seen[i] < wanted and not _enough(mu, best[i][1], seen[i])]
            size = wanted - 1 if delta is None else batch
            asks = [min(size, wanted - seen[i]) for i in going]
            queries = [
                Query(best[i][0][:context], n, None, Report.LOGPROB)
                for i, n in zip(going, asks, strict=True)
            ]
            for i, reply in zip(going, await session.ask(queries), strict=True):
                for y, log in zip(reply.outputs(), reply.total_logprobs(), strict=True):
                    seen[i], looked = seen[i] + 1, looked + 1
                    if log > best[i][1]:
                        best[i] = y, float(log)
                    if _enough(mu, best[i][1], seen[i]):
                        break
        kept = [session.prompt + y.tokens for y, _ in best]
    if kept:
        policy.fit(kept)
    return Finding(
        None, {"draws": looked, "prompts": len(kept), "kept": [list(string) for string in kept]}
    )


def _enough(mu: float, log: float, seen: int) -> bool:
    """Whether the stopping rule, where there is one, has ended."""
    return mu > 0 and math.log(mu) - log <= math.log(seen)


def _answers_logs(logs: FloatArray | None, context: int) -> list[float]:
    """(n,) nats of each rollout behind its context."""
    assert logs is not None
    return logs[:, context:].sum(axis=1).tolist()


# ---- regressions of log-ratios -------------------------------------------------------------------


def _pairs_contract(params: Mapping[str, Any]) -> Contract:
    policy = _policy(params)
    check_int("pairs", params["pairs"], 1)
    check_between("beta", params["beta"], 0.0, math.inf)
    online = "optimism" in params
    if online:
        check_float("optimism", params["optimism"], 0.0)
    return Contract(Control.VISITED if online else _control(policy), Report.LOGPROB)


@learner(requires=_pairs_contract)
async def dpo(session: Session, *, policy: Sharpened, pairs: int, beta: float) -> Finding:
    """RLHF-Sharpening by regression: π̂ ∝ π_base^(1 + 1/β) wherever differences of pairs reach.

    Pseudo-code (arXiv 2412.01951, §3.2)::

        for each of n prompts x:  y, y' ~ π_base(· | x)
        π̂ ← argmin Σ (β·log π(y)/π_base(y) − β·log π(y')/π_base(y') − [log π_base(y) − log π_base(y')])²

    Labels carry no noise: a policy that is linear in its features is exactly π_base^(1 + 1/β) once the
    differences of pairs span them, however unlikely y* is. Only features that do not depend on the token
    before, where the regression is linear; the shortest solution is taken.

    Args:
        policy: π_base at first, π̂ at the end.
        pairs: n.
        beta: β > 0; (ε, δ)-sharpened where log(p1/p2)/β ≥ log(|Y|/δ), p1 and p2 the likeliest two.

    Returns:
        No output; metadata: ``pairs``, ``rank`` of their differences, ``error`` (root mean square of what
        the regression leaves, nats).

    Raises:
        InvalidInput: when bound: a parameter is not what is expected.
    """
    base = policy.weights
    rows: list[FloatArray] = []
    labels: list[float] = []
    context = max(0, policy.context_length - len(session.prompt))
    with suppress(BudgetExceeded):
        first = await session.rollouts(pairs, report=Report.LOGPROB)
        ys, logs = first.outputs(), _answers_logs(first.logprobs, context)
        asked = [Query(y[:context], 1, None, Report.LOGPROB) for y in ys]
        for y, log, reply in zip(ys, logs, await session.ask(asked), strict=True):
            other = session.prompt + reply.outputs()[0].tokens
            rows.append(policy.difference(session.prompt + y.tokens, other))
            labels.append(log - float(reply.total_logprobs()[0]))
    policy.load(base + _regressed(rows, labels, beta, base.shape))
    return Finding(None, _told(policy, base, rows, labels, beta))


@learner(requires=_pairs_contract)
async def xpo(
    session: Session, *, policy: Sharpened, pairs: int, beta: float, optimism: float = 0.0
) -> Finding:
    """The same regression with one of each pair from the policy as it is, and optimism (XPO).

    Pseudo-code (arXiv 2412.01951, §4.3)::

        repeat n times:  x, y ~ π̂,  y' ~ π_base(· | x)
            π̂ ← argmin of the regression above + α·Σ log π(y')

    It explores what it has come to find likely, so no coverage of y* is needed. log π_base(y) is scored
    along tokens that were drawn, which is visited control.

    Args:
        policy, pairs, beta: as for ``dpo``.
        optimism: α ≥ 0.

    Returns:
        As for ``dpo``.

    Raises:
        InvalidInput: when bound: a parameter is not what is expected.
    """
    base = policy.weights
    rows: list[FloatArray] = []
    labels: list[float] = []
    others: dict[tuple[int, ...], int] = {}
    context = max(0, policy.context_length - len(session.prompt))
    with suppress(BudgetExceeded):
        for _ in range(pairs):
            y = (await session.rollouts(1)).outputs()[0]
            start, rest = y[:context], y.tokens[context:]
            with policy.at(base):
                drawn = await session.continuations(start, 1, report=Report.LOGPROB)
                log = float((await session.score(Prefix(start.tokens), rest)).sum())
            other = session.prompt + drawn.outputs()[0].tokens
            others[other] = others.get(other, 0) + 1
            rows.append(policy.difference(session.prompt + y.tokens, other))
            labels.append(log - float(drawn.total_logprobs()[0]))
            shift = _regressed(rows, labels, beta, base.shape)
            if optimism:
                shift = _optimistic(policy, base, shift, rows, labels, others, beta, optimism)
            policy.load(base + shift)
    return Finding(None, _told(policy, base, rows, labels, beta))


def _regressed(
    rows: Sequence[FloatArray], labels: Sequence[float], beta: float, shape: tuple[int, ...]
) -> FloatArray:
    """(S, d) the shortest Δ with β·⟨Δ, D⟩ closest to the labels."""
    if not rows:
        return np.zeros(shape)
    matrix = np.stack([row.ravel() for row in rows])
    found = np.linalg.lstsq(beta * matrix, np.array(labels))[0]
    return np.asarray(found, dtype=np.float64).reshape(shape)


def _optimistic(
    policy: Sharpened,
    base: FloatArray,
    start: FloatArray,
    rows: Sequence[FloatArray],
    labels: Sequence[float],
    others: Mapping[tuple[int, ...], int],
    beta: float,
    alpha: float,
) -> FloatArray:
    """Some steps from the regression towards less of what π_base draws: gradient of both terms."""
    matrix, known = np.stack([row.ravel() for row in rows]), np.array(labels)
    size = float(np.linalg.norm(beta * matrix, 2)) ** 2
    shift = start.copy()
    for _ in range(_DESCENT):
        left = beta * (matrix @ shift.ravel()) - known
        slope = (2 * beta * (matrix.T @ left)).reshape(base.shape)
        policy.load(base + shift)
        slope += alpha * sum(n * policy.gradient(string) for string, n in others.items())
        shift = shift - slope / (2.0 * size + alpha * sum(others.values()))
    return shift


def _told(
    policy: Sharpened,
    base: FloatArray,
    rows: Sequence[FloatArray],
    labels: Sequence[float],
    beta: float,
) -> dict[str, Any]:
    if not rows:
        return {"pairs": 0, "rank": 0, "error": 0.0}
    matrix = np.stack([row.ravel() for row in rows])
    left = beta * (matrix @ (policy.weights - base).ravel()) - np.array(labels)
    rank = int(np.linalg.matrix_rank(matrix))
    return {"pairs": len(rows), "rank": rank, "error": float(np.sqrt((left**2).mean()))}
