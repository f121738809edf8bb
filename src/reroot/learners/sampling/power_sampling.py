"""Power sampling: draws from P^α over whole outputs, by a Markov chain of suffix moves."""

from __future__ import annotations

import math
from contextlib import suppress

from ...access.learner import Params, learner
from ...access.session import Session
from ...contract import Contract, Control, Report
from ...errors import BudgetExceeded
from ...types import Finding
from ..common import COUNT, POSITIVE, check, integer
from .choices import accepts
from .suffixes import Scored, grow


def _requires(params: Params) -> Contract:
    check(
        params, alpha=POSITIVE, moves=integer(0), block=COUNT.or_none, temperature=POSITIVE.or_none
    )
    if params["temperature"] is None:
        return Contract(Control.VISITED, Report.LOGPROB)
    return Contract(Control.RESET, Report.FULL)


@learner(requires=_requires)
async def power_sampling(
    session: Session,
    *,
    alpha: float = 4.0,
    moves: int = 4,
    block: int | None = None,
    temperature: float | None = None,
) -> Finding | None:
    """A draw from (nearly) P^α: an output is as likely as its own probability, sharpened.

    Pseudo-code (Karan & Du 2025, arXiv 2510.14901, Algorithm 1, made exact on outputs of any length)::

        x ← ∅
        for each block of B tokens, ending at b = B, 2B, …, H:
            grow x to b tokens, or to its end, with proposals q
            ``moves`` times:
                t ← uniform on 0 … |x| - 1
                x' ← x_<t, grown to b tokens or its end with q
                x ← x' with probability min(1, P(x')^α·q(x | x_<t)·|x| / (P(x)^α·q(x' | x_<t)·|x'|))

    Each move leaves P^α on strings of at most b tokens as it is (detailed balance). The factor |x|/|x'|
    is that t is drawn among fewer places in a shorter string; with the published program's shortcut —
    comparing with a suffix cut to the proposal's length, without the factor — another law results.

    Args:
        alpha: α; 1 leaves P as it is.
        moves: moves of each block.
        block: B; ``None``: a single block of H tokens.
        temperature: T of proposals drawn token by token from the whole law, P(· | u)^(1/T), which needs
            reset/full; the paper's is 1/α. ``None``: proposals are P's own draws, for which
            visited/logprob is enough.
    """
    x, accepted, made = Scored(), 0, 0
    step = session.horizon if block is None else block
    with suppress(BudgetExceeded):
        for end in range(step, session.horizon + step, step):
            limit = min(end, session.horizon)
            x = await grow(session, x, limit, temperature)
            for _ in range(moves):
                new = await power_move(session, x, alpha, limit, temperature)
                accepted, made, x = accepted + (new is not x), made + 1, new
    if not x.tokens:
        return None
    return Finding(x.tokens, {"moves": made, "accepted": accepted})


async def power_move(
    session: Session, x: Scored, alpha: float, limit: int, temperature: float | None
) -> Scored:
    """One move of the chain on strings of at most ``limit`` tokens; ``x`` itself where it is refused."""
    place = int(session.rng.integers(len(x.tokens)))
    new = await grow(session, x.cut(place), limit, temperature)
    gained = alpha * (new.logp[place:].sum() - x.logp[place:].sum())
    proposed = new.logq[place:].sum() - x.logq[place:].sum()
    lengths = math.log(len(x.tokens) / len(new.tokens))
    return new if accepts(session, math.exp(min(0.0, gained - proposed + lengths))) else x
