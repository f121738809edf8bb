"""Learners that start from a revealed part of a right output."""

from __future__ import annotations

import math

from ..access.learner import Params, learner
from ..access.session import Session
from ..contract import Contract, Control, Oracle, Report
from ..errors import BudgetExceeded, InvalidInput
from ..types import Prefix
from .common import COUNT, affordable, best_rewarded, check, collect


def _contract(params: Params) -> Contract:
    check(params, n=COUNT)
    reveal = params["reveal"]
    tokens = isinstance(reveal, int) and not isinstance(reveal, bool) and reveal >= 0
    if not tokens and not (isinstance(reveal, float) and 0 <= reveal <= 1):
        raise InvalidInput(
            f"reveal must be a number of tokens (integer >= 0) or a fraction (0.0 … 1.0), got {reveal!r}"
        )
    return Contract(Control.CHOSEN, Report.SAMPLE, oracles=[Oracle.REWARD, Oracle.DEMONSTRATION])


@learner(requires=_contract)
async def demo_prefix(session: Session, *, reveal: float | int = 0.5, n: int = 16) -> Prefix | None:
    """Best of n continuations of a revealed demonstration prefix.

    Pseudo-code (the start of AdaBack, arXiv 2506.18110)::

        k ← reveal, or ⌊reveal·|y*|⌋;   u ← y*_≤k
        y¹ … yⁿ ~ P(· | u)                         (fewer when the budget does not allow n)
        return argmax_i r(u·yⁱ)                    (first on ties)

    With per-token probability p of the right token, k revealed tokens turn p^H into p^(H-k).

    Args:
        reveal: an integer: that many tokens; a float: that fraction of the demonstration, which is
            then charged whole, as the learner must see all of it to know its length.
        n: continuations.
    """
    try:
        if isinstance(reveal, float):
            shown = await session.demonstration()
            start = shown[: math.floor(reveal * len(shown) + 1e-9)]
        else:
            start = await session.demonstration(reveal)
    except BudgetExceeded:
        return None
    if session.is_complete(start):
        return start
    outputs = await collect(session, start, affordable(session, n, rewards=1))
    return await best_rewarded(session, outputs) if outputs else start
