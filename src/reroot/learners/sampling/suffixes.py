"""Outputs with the log-probabilities of their tokens, cut and grown again: the mechanics of suffix moves."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ...access.session import Session
from ...contract import Report
from ...types import FloatArray, Prefix
from .choices import choose, relative


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """A string and what is known of its tokens.

    Attributes:
        tokens: the string.
        logp: (L,) nats, log P of each token.
        logq: (L,) nats, log-probability of each token under the proposal.
    """

    tokens: Prefix = Prefix()
    logp: FloatArray = field(default_factory=lambda: np.zeros(0))
    logq: FloatArray = field(default_factory=lambda: np.zeros(0))

    def cut(self, length: int) -> Scored:
        """The first ``length`` tokens."""
        return Scored(self.tokens[:length], self.logp[:length], self.logq[:length])

    def then(self, tokens: Prefix, logp: FloatArray, logq: FloatArray) -> Scored:
        """Followed by more; ``tokens`` is the whole string."""
        return Scored(tokens, np.concatenate([self.logp, logp]), np.concatenate([self.logq, logq]))


async def grow(session: Session, start: Scored, length: int, temperature: float | None) -> Scored:
    """Grow a string to ``length`` tokens or its end.

    Args:
        length: most tokens of the whole string.
        temperature: each token is drawn from P(· | u)^(1/T), by the learner's own choice from the
            whole law (FULL); ``None``: by the generator from P (LOGPROB).
    """
    if len(start.tokens) >= length or session.is_complete(start.tokens):
        return start
    if temperature is None:
        more = length - len(start.tokens)
        reply = await session.continuations(start.tokens, 1, length=more, report=Report.LOGPROB)
        assert reply.logprobs is not None
        logp = reply.logprobs[0, : reply.lengths[0]]
        return start.then(reply.outputs()[0], logp, logp)
    while len(start.tokens) < length and not session.is_complete(start.tokens):
        law = await session.law(start.tokens)
        weights = relative(law / temperature)
        token = choose(session, weights)
        logq = np.log(weights[token] / weights.sum())
        start = start.then(start.tokens.append(token), law[[token]], np.array([logq]))
    return start
