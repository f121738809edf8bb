"""The best that root-start access can do on the hidden path."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from contextlib import suppress

import numpy as np

from ..access.learner import Params, learner
from ..access.session import Session
from ..contract import Contract, Control, Oracle, Report
from ..errors import BudgetExceeded
from ..types import PAD, Finding, Prefix
from .common import COUNT, affordable, check, integer

_LARGEST_ORDER = 1 << 20  # completions that are put in random order; beyond, two alike are rare


def _contract(params: Params) -> Contract:
    check(params, n=COUNT, rewards=integer(0))
    return Contract(
        Control.ROOT, Report.TOPK(1), oracles=[Oracle.REWARD] if params["rewards"] else []
    )


@learner(requires=_contract)
async def root_bayes(session: Session, *, n: int = 100, rewards: int = 0) -> Finding | None:
    """The Bayes rule of the hidden path after n rollouts: read the deepest law, guess the rest.

    Pseudo-code (``limits.root_success`` is its exact success)::

        y¹ … yⁿ ~ P, each token with the likeliest token at its prefix
        D ← the most leading tokens that a rollout shares with the path: on it laws are not uniform
        know z_1 … z_(D+1);  try completions in random order: M with the outcome reward, then one more

    No root-start learner does better, with FULL reports either: TOPK(1) shows all that matters.
    Notes of the finding: ``known``, how many tokens of the output were read and not guessed.

    Args:
        n: rollouts (fewer when the budget does not allow n).
        rewards: M, outcome rewards asked before the answer.
    """
    K, H = session.vocab_size, session.horizon
    known = Prefix()
    with suppress(BudgetExceeded):
        if fits := affordable(session, n, rollouts=1, tokens=H):
            reply = await session.rollouts(fits, report=Report.TOPK(1))
            assert reply.top_tokens is not None
            assert reply.top_logprobs is not None
            likeliest = reply.top_tokens[:, :, 0]
            informed = (reply.top_logprobs[:, :, 0] > -np.log(K) + 1e-9) & (likeliest != PAD)
            followed = np.cumprod((reply.tokens == likeliest) & informed, axis=1).sum(axis=1)
            deepest = int(followed.argmax())
            shown = likeliest[deepest, : int(followed[deepest]) + 1].tolist()
            known = _extended(session, known, shown) if informed[deepest, 0] else known
        notes = {"known": len(known)}
        completions = (
            _extended(session, known, rest) for rest in _completions(session.rng, K, H - len(known))
        )
        for output in itertools.islice(completions, rewards):
            if await session.reward(output) > 0:
                return Finding(output, notes)
        return Finding(next(completions), notes)
    return None


def _extended(session: Session, prefix: Prefix, tokens: Iterable[int]) -> Prefix:
    """Tokens appended until the output is complete, which a stop token makes it early."""
    for token in tokens:
        if session.is_complete(prefix):
            break
        prefix = prefix.append(token)
    return prefix


def _completions(rng: np.random.Generator, vocab_size: int, length: int) -> Iterator[list[int]]:
    """All strings of ``length`` tokens in random order; then, or if they are many, random ones."""
    if vocab_size**length <= _LARGEST_ORDER:
        shape = (vocab_size,) * length
        for i in rng.permutation(vocab_size**length).tolist():
            yield [int(a) for a in np.unravel_index(i, shape)]
    while True:
        yield rng.integers(vocab_size, size=length).tolist()
