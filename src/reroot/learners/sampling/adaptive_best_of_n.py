"""Adaptive best-of-n: the most likely rollout, with a stopping rule in place of n."""

from __future__ import annotations

import math
from contextlib import suppress

from ...access.learner import learner
from ...access.session import Session
from ...contract import Report
from ...errors import BudgetExceeded, InvalidInput
from ...types import Finding, Prefix
from ..common import COUNT, GROWTH, affordable, between, checked, unbounded

_LARGEST_BATCH = 256


@learner(
    requires=checked(
        "root/logprob",
        delta=between(0.0, 1.0),
        max_rollouts=COUNT.or_none,
        batch=COUNT,
        growth=GROWTH,
    )
)
async def adaptive_best_of_n(
    session: Session,
    *,
    delta: float = 0.1,
    max_rollouts: int | None = None,
    batch: int = 4,
    growth: float = 2.0,
) -> Finding | None:
    """The most likely of as many rollouts as its own probability calls for; no oracle.

    Pseudo-code (sharpening, Huang et al. 2025, arXiv 2412.01951, App. D)::

        μ ← ln(2/δ)
        for k = 1, 2, …:  yᵏ ~ P;  stop when 1/max_{j≤k} P(yʲ) ≤ k/μ
        return argmax_{j≤k} P(yʲ)                  (the first on ties)

    A mode of probability p ends it after at most ⌈μ/p⌉ rollouts, and is missed with probability at
    most δ/2. Rollouts behind the stop, in the last batch, are paid but not looked at. The note
    ``stopped`` says whether the rule, not the budget, ended it.

    Args:
        delta: δ.
        max_rollouts: most rollouts; ``None``: until the rule or the budget ends it.
        batch, growth: rollouts of the first batch, and the factor from each to the next (at most 256).

    Raises:
        InvalidInput: neither ``max_rollouts`` nor a budget bounds it.
    """
    each = {"rollouts": 1, "tokens": session.horizon}
    if max_rollouts is None and unbounded(session, **each):
        raise InvalidInput(
            "adaptive_best_of_n may need very many rollouts: give max_rollouts, or a budget in "
            "rollouts or tokens"
        )
    log_mu = math.log(math.log(2.0 / delta))
    best: Prefix | None = None
    top, drawn = -math.inf, 0
    with suppress(BudgetExceeded):
        while max_rollouts is None or drawn < max_rollouts:
            wanted = batch if max_rollouts is None else min(batch, max_rollouts - drawn)
            if not (n := affordable(session, wanted, **each)):
                break
            reply = await session.rollouts(n, report=Report.LOGPROB)
            for output, logprob in zip(reply.outputs(), reply.total_logprobs(), strict=True):
                drawn += 1
                if logprob > top:
                    best, top = output, float(logprob)
                if log_mu - top <= math.log(drawn):
                    return Finding(best, {"rollouts": drawn, "stopped": True})
            batch = max(batch, min(_LARGEST_BATCH, math.ceil(batch * growth)))
    return None if best is None else Finding(best, {"rollouts": drawn, "stopped": False})
