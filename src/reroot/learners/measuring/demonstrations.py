"""What a demonstration is worth to this generator, and what it does from within one."""

from __future__ import annotations

import math

from ...access.learner import Params, learner
from ...access.session import Session
from ...types import Finding
from ..common import COUNT, FLAG, check, integer
from .rollout import guarded


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


def _needed(params: Params) -> str:
    check(params, reveal=integer(0), n=COUNT, guard=FLAG)
    return "chosen/sample+reward+demonstration" + "+verifier" * bool(params["guard"])


@learner(requires=_needed)
async def value_in_demonstration(
    session: Session, *, reveal: int = 0, n: int = 1, guard: bool = False
) -> Finding:
    """Rewards of n continuations of the first ``reveal`` tokens of the demonstration.

    The value V(d_≤k) is the rate at which they pass. The note ``rewards`` has them, 0 where the verifier has rejected
    one on its way; the output is the best of them.

    Args:
        reveal: k, tokens that are shown; those of a shorter demonstration are all shown.
        n: continuations.
        guard: end each where the verifier rejects it (see ``guarded_rollout``).
    """
    start = await session.demonstration(reveal) if reveal else session.root
    if session.is_complete(start):
        outputs = [start] * n
    elif guard:
        outputs = await guarded(session, [start] * n)
    else:
        outputs = (await session.continuations(start, n)).outputs()
    whole = list(dict.fromkeys(u for u in outputs if session.is_complete(u)))
    known = dict(zip(whole, await session.rewards(whole), strict=True)) if whole else {}
    rewards = [known.get(u, 0.0) for u in outputs]
    best = max(range(n), key=rewards.__getitem__)
    return Finding(outputs[best], {"rewards": rewards})
