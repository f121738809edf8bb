"""What a lifted generator says of one token that it did not draw from a law of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ...types import FloatArray, Reply
from ..base import Request
from ..law import most_likely
from .by_root import Output


class Told(NamedTuple):
    """A token, and what is reported of it.

    Attributes:
        token: the token.
        logprob: its log-probability, nats.
        ids, values: the most likely tokens and their log-probabilities.
        law: (K,) nats.
    """

    token: int
    logprob: float = 0.0
    ids: Sequence[int] = ()
    values: Sequence[float] = ()
    law: FloatArray | None = None


def told_by(reply: Reply) -> Told:
    """The first token of a reply with its report."""
    ids = [] if reply.top_tokens is None else reply.top_tokens[0, 0].tolist()
    values = [] if reply.top_logprobs is None else reply.top_logprobs[0, 0].tolist()
    logprob = 0.0 if reply.logprobs is None else float(reply.logprobs[0, 0])
    law = None if reply.laws is None else reply.laws[0, 0]
    return Told(int(reply.tokens[0, 0]), logprob, ids, values, law)


def told_of(output: Output, request: Request) -> list[Told]:
    """The tokens of an output up to where the request ends."""
    told: list[Told] = []
    k = request.report.top
    for token, law in zip(output.tokens[: request.length], output.laws, strict=False):
        ids = most_likely(law[None], min(k, len(law)))[0] if k else ()
        told.append(
            Told(token, float(law[token]), [*map(int, ids)], [*map(float, law[list(ids)])], law)
        )
        if request.stop.ends(output.tokens[: len(told)]):
            break
    return told
