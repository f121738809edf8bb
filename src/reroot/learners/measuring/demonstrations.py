"""What a demonstration is worth to this generator, and what it does from within one."""

from __future__ import annotations

import math

from ...access.learner import learner
from ...access.session import Session
from ...types import Finding
from ..common import COUNT, checked, integer


@learner(requires="chosen/logprob+demonstration")
async def demonstration_law(session: Session) -> Finding:
    """log P of each token of the demonstration after those before it (teacher forcing).

    The note ``logprobs`` has them in nats, ``null`` for −inf; the output is the demonstration. Where the right
    string is unique they add up to the log of the reach, but for the last token's variants.
    """
    shown = await session.demonstration()
    logs = await session.score(session.root, shown)
    found = [float(x) if math.isfinite(x) else None for x in logs.tolist()]
    return Finding(shown, {"logprobs": found})


@learner(requires=checked("chosen/sample+demonstration", reveal=integer(0), n=COUNT))
async def from_demonstration(session: Session, *, reveal: int = 0, n: int = 1) -> Finding:
    """One continuation of the first ``reveal`` tokens of the demonstration; ``n`` names which.

    The value V(d_≤k) of a cut is the pass rate of such attempts, each under its own seed.

    Args:
        reveal: k, tokens that are shown; those of a shorter demonstration are all shown.
        n: number of the attempt, so that several under one seed differ in name.
    """
    start = await session.demonstration(reveal) if reveal else session.root
    if session.is_complete(start):
        return Finding(start, {"revealed": len(start)})
    outputs = (await session.continuations(start, 1)).outputs()
    return Finding(outputs[0], {"revealed": len(start)})
