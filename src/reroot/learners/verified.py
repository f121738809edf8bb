"""Learners that steer by a process verifier: tokenwise rejection, and backtracking."""

from __future__ import annotations

from contextlib import suppress

from ..access.learner import Params, learner
from ..access.session import Session
from ..errors import BudgetExceeded
from ..types import Prefix
from .common import COUNT, FLAG, GROWTH, affordable, check, checked, integer


def _backtracking(params: Params) -> str:
    check(params, quota=integer(0), stride=COUNT, argmax_redo=FLAG, check_last=FLAG)
    return ("reset/topk(1)" if params["argmax_redo"] else "visited/sample") + "+verifier"


@learner(requires=checked("visited/sample+verifier", max_tries=COUNT, growth=GROWTH))
async def tokenwise_rejection(
    session: Session, *, max_tries: int = 10_000, growth: float = 2.0
) -> Prefix | None:
    """At each prefix draw tokens until the process verifier accepts one.

    Pseudo-code (Botta et al. 2025, arXiv 2502.12123)::

        s ← ∅;  until complete:  repeat t ~ P(· | s) until V(s·t) = 1;  s ← s·t

    The output law is Π_t P(t | s)·V(s·t) / Σ_t' P(t' | s)·V(s·t'), which is not P(· | right): a
    token that leads to few right outputs is taken as often as one that leads to many. With a
    uniform P it needs at most K·H draws in expectation (growth 1), as some token is always right.
    No token is verified twice at one prefix.

    Args:
        max_tries: most draws at one prefix; then the prefix reached so far is returned.
        growth: draws are asked in batches, so that at most ``growth`` times as many are drawn as
            were needed; 1: one at a time.
    """
    prefix = session.root
    with suppress(BudgetExceeded):
        while not session.is_complete(prefix):
            token = await accepted_token(session, prefix, max_tries, growth)
            if token is None:
                break
            prefix = prefix.append(token)
    return prefix


async def accepted_token(session: Session, prefix: Prefix, tries: int, growth: float) -> int | None:
    """The first drawn token that the verifier accepts after ``prefix``, if there is one."""
    rejected: set[int] = set()
    drawn = 0
    while len(rejected) < session.vocab_size:
        batch = min(max(1, int(drawn * (growth - 1))), tries - drawn)
        n = affordable(session, batch, tokens=1, queries=1)
        if not n:
            break
        for token in (await session.draws(prefix, n)).first_tokens().tolist():
            if token in rejected:
                continue
            if await session.verify(prefix.append(token)):
                return token
            rejected.add(token)
        drawn += n
    return None


async def verified_prefix(session: Session, length: int, tries: int, quota: int) -> Prefix:
    """Tokens that the verifier accepts, ``length`` of them; fewer where complete or stuck.

    Args:
        tries: most draws at one prefix; then the last token is erased.
        quota: how often.
    """
    walk = session.root
    while len(walk) < length and not session.is_complete(walk):
        token = await accepted_token(session, walk, tries, growth=2.0)
        if token is not None:
            walk = walk.append(token)
        elif quota and walk:
            walk, quota = walk.parent, quota - 1
        else:
            break
    return walk


@learner(requires=_backtracking)
async def backtracking(
    session: Session,
    *,
    quota: int = 8,
    stride: int = 1,
    argmax_redo: bool = False,
    check_last: bool = True,
) -> Prefix | None:
    """Sample token by token; when the verifier objects, erase the last few tokens.

    Pseudo-code (Botta et al. 2025, arXiv 2502.12123, Algorithm 1)::

        s ← ∅
        until complete:
            if quota > 0 and s ≠ ∅ and V(s) = 0:
                erase the last b = min(stride, |s|) tokens;  quota ← quota - 1
                the next b tokens are the most likely ones             (if argmax_redo)
            append t ~ P(· | s), or the most likely token

    Once the quota is used up the verifier is ignored, and the rest is drawn in one query. Redone
    tokens are verified like any other; an objection to them erases and redoes again. Where the
    authors' program differs: it takes as many most likely tokens as were ever erased, counted from
    the start of the output; and it never looks at the last token (``check_last=False`` does
    likewise; with ``check_last`` a complete output is verified as well, while quota is left).

    Args:
        quota: how often it may backtrack.
        stride: tokens erased at a time.
        argmax_redo: redo erased tokens by argmax; this needs reset/topk(1), otherwise
            visited/sample is enough.
        check_last: verify complete outputs too.
    """
    prefix, redo = session.root, 0
    with suppress(BudgetExceeded):
        while True:
            complete = session.is_complete(prefix)
            looks = quota > 0 and len(prefix) > 0 and (check_last or not complete)
            if looks and not await session.verify(prefix):
                erased = min(stride, len(prefix))
                prefix, quota = prefix[: len(prefix) - erased], quota - 1
                redo = erased if argmax_redo else 0
            elif complete:
                break
            if redo:
                tokens, _ = await session.top_k(prefix, 1)
                prefix, redo = prefix.append(int(tokens[0])), redo - 1
            else:
                length = 1 if quota else None
                prefix = (await session.continuations(prefix, 1, length=length)).outputs()[0]
    return prefix
