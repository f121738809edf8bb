"""Learners that read the next token from log-probabilities or laws, and need no statistics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress

from ..access.learner import Params, learner
from ..access.session import Session
from ..contract import Contract, Control, Report
from ..errors import BudgetExceeded, InvalidInput
from ..types import Prefix, Query, Reply
from .common import COUNT, checked, integer
from .recovery import check_decoys

_ROUNDING = 1e-9  # a probability that exceeds another by less does not exceed it

_RULES = {"decoys": integer(0), "max_draws": COUNT}


def _control(params: Params) -> Control:
    control = Control.parse(params["control"])
    if control not in (Control.VISITED, Control.RESET):
        raise InvalidInput(f"control must be 'visited' or 'reset', got {params['control']!r}")
    return control


def _logprob_walk(params: Params) -> Contract:
    return Contract(_control(params), Report.LOGPROB)


def _law_walk(params: Params) -> Contract:
    report, decoys = Report.parse(params["report"]), params["decoys"]
    if not (report.draws and (report.has_law or report.top > decoys)) and (
        report != Report.LOGPROB or decoys
    ):
        raise InvalidInput(
            f"report must show the likeliest token that is no decoy: 'full', 'topk({decoys + 1})' "
            f"or more, or without decoys 'logprob' where K = 2; got {params['report']!r}"
        )
    return Contract(_control(params), report)


@learner(requires=checked(_logprob_walk, **_RULES))
async def logprob_walk(
    session: Session, *, decoys: int = 0, control: str = "visited", max_draws: int = 10_000
) -> Prefix | None:
    """Append a token as soon as its reported probability shows that the path goes on with it.

    Pseudo-code (hidden path and decoy path, arXiv 2604.04855)::

        u ← ∅;  until complete:
            draw a ~ P(· | u)
            VISITED: … and draw again             until a is shown to be the path's
            RESET:   … score a = k, k+1, … in turn, not the one drawn,
                                                  until a is shown to be the path's, or is the last
            u ← u·a

    A token a ≥ k is shown to be the path's if P(a | u) exceeds the mean of the tokens that are no
    decoys, (1 - Σ P(decoys seen here))/(K - k); without decoys that is 1/K. On a hidden path the
    path token alone does, also on a decoy path with p1 > 1/(K - k); where p1 is smaller, VISITED
    control waits for decoys too, and RESET takes the token that exceeds the others scored.

    * VISITED: the generator must emit the token, so draws are a sum of H independent geometric
      variables with parameter p, H/p on average. That is what VISITED costs against RESET.
    * RESET: at most K - k queries per token, as the last token left needs no score (where p1 is
      smaller and K - k = 2 it does: at most 3). A path token that was not drawn is equally likely
      to come first, second, … among those that are scored. At K = 2 one draw tells the law: H
      queries exactly.

    Args:
        decoys: k, the tokens 0…k-1 are never appended.
        control: ``"visited"`` or ``"reset"``.
        max_draws: most draws at one prefix; then the prefix reached so far is returned.

    Raises:
        InvalidInput: fewer than two tokens are no decoys.
    """
    check_decoys(session, decoys, others=2)
    scores = Control.parse(control) == Control.RESET
    prefix = session.root
    with suppress(BudgetExceeded):
        while not session.is_complete(prefix):
            seen: dict[int, float] = {}
            token = await _drawn(session, prefix, decoys, 1 if scores else max_draws, seen)
            if token is None and scores:
                token = await _scored(session, prefix, decoys, seen)
            if token is None:
                break
            prefix = prefix.append(token)
    return prefix


@learner(requires=checked(_law_walk, **_RULES))
async def law_walk(
    session: Session,
    *,
    decoys: int = 0,
    report: str = "full",
    control: str = "reset",
    max_draws: int = 10_000,
) -> Prefix | None:
    """Append the most likely token that is no decoy, as the report shows it.

    Pseudo-code (hidden path and decoy path, arXiv 2604.04855)::

        u ← ∅;  until complete:
            a ← argmax_{a ≥ k} P(a | u)
            VISITED: ask at u until the generator has emitted a, unless u·a is complete
            u ← u·a

    RESET: H queries exactly. VISITED: draws are 1 + a sum of H - 1 independent geometric variables
    with parameter p, as only the last token need not be emitted.

    Args:
        decoys: k, the tokens 0…k-1 are never appended.
        report: ``"full"``, ``"topk(j)"`` with j > k, or without decoys ``"logprob"`` where K = 2.
        control: ``"reset"`` or ``"visited"``.
        max_draws: most draws at one prefix; then the prefix reached so far is returned.

    Raises:
        InvalidInput: all tokens are decoys, or LOGPROB reports and K > 2.
    """
    check_decoys(session, decoys)
    asked, waits = Report.parse(report), Control.parse(control) == Control.VISITED
    if asked == Report.LOGPROB and session.vocab_size != 2:
        raise InvalidInput(f"one log-probability is the law at K = 2, not {session.vocab_size}")
    prefix = session.root
    with suppress(BudgetExceeded):
        while not session.is_complete(prefix):
            for _ in range(max_draws):
                (reply,) = await session.ask([Query(prefix, 1, 1, asked)])
                child = prefix.append(_likeliest(reply, decoys))
                if not waits or child[-1] == reply.tokens[0, 0] or session.is_complete(child):
                    break
            else:
                break
            prefix = child
    return prefix


async def _drawn(
    session: Session, prefix: Prefix, decoys: int, most: int, seen: dict[int, float]
) -> int | None:
    """Draw until one of the tokens seen is shown to be the path's; ``seen``: token → probability."""
    for _ in range(most):
        reply = await session.draws(prefix, 1, report=Report.LOGPROB)
        assert reply.logprobs is not None
        seen[int(reply.tokens[0, 0])] = math.exp(reply.logprobs[0, 0])
        best = max((a for a in seen if a >= decoys), key=seen.__getitem__, default=None)
        if best is not None and seen[best] > _mean(session, decoys, seen):
            return best
    return None


async def _scored(session: Session, prefix: Prefix, decoys: int, seen: Mapping[int, float]) -> int:
    """Score unseen tokens, no decoys, until one is shown to be the path's or one is left."""
    others = {token: p for token, p in seen.items() if token >= decoys}
    *unseen, last = [a for a in range(decoys, session.vocab_size) if a not in seen]
    for token in unseen:
        others[token] = await _probability(session, prefix, token)
        if others[token] > _mean(session, decoys, seen):
            return token
    if not decoys:
        return last  # all others are below the mean
    if len(others) == 1:
        others[last] = await _probability(session, prefix, last)
    # where unseen decoys hide the mean the path's is still the one that exceeds the others
    best = max(others, key=others.__getitem__)
    return best if others[best] > min(others.values()) * (1 + _ROUNDING) else last


async def _probability(session: Session, prefix: Prefix, token: int) -> float:
    (score,) = await session.score(prefix, (token,))
    return math.exp(score)


def _mean(session: Session, decoys: int, seen: Mapping[int, float]) -> float:
    """Most that the tokens that are no decoys can have on average, given what was seen here."""
    listed = sum(p for token, p in seen.items() if token < decoys)
    return (1.0 - listed) / (session.vocab_size - decoys) * (1 + _ROUNDING)


def _likeliest(reply: Reply, decoys: int) -> int:
    """The likeliest token that is no decoy: by the law, by the list, or by one log-probability."""
    if reply.laws is not None:
        return decoys + int(reply.laws[0, 0, decoys:].argmax())
    if reply.top_tokens is not None:
        listed = reply.top_tokens[0, 0]
        return int(listed[listed >= decoys][0])
    assert reply.logprobs is not None
    drawn = int(reply.tokens[0, 0])
    return drawn if reply.logprobs[0, 0] > -math.log(2) else 1 - drawn
