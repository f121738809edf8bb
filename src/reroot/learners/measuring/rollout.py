"""One rollout, as a trainer draws it; and some that end where they cannot pass any more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ...access.learner import learner
from ...access.session import Session
from ...types import Prefix, Query


@learner(requires="root/sample")
async def rollout(session: Session) -> Prefix:
    """One output from the root."""
    return (await session.rollouts(1)).outputs()[0]


@learner(requires="visited/sample+verifier")
async def guarded_rollout(session: Session) -> Prefix:
    """One output from the root, or the shortest of its prefixes that the verifier rejects.

    With a sound verifier the rate at which it passes is that of rollouts, for fewer tokens.
    """
    return (await guarded(session, [session.root]))[0]


async def guarded(session: Session, starts: Sequence[Prefix]) -> list[Prefix]:
    """A continuation of each start until it is complete or the verifier rejects it.

    Drawn in pieces that double, so that at most as many tokens are drawn in vain as were accepted, for few messages.
    """
    found, length = list(starts), 1
    going = [i for i, u in enumerate(found) if not session.is_complete(u)]
    while going:
        counts, report = Counter(found[i] for i in going), session.contract.report
        sizes = {u: min(length, session.horizon - len(u)) for u in counts}
        replies = await session.ask(Query(u, n, sizes[u], report) for u, n in counts.items())
        drawn = {u: iter(r.outputs()) for u, r in zip(counts, replies, strict=True)}
        grown = {i: next(drawn[found[i]]) for i in going}
        parts = {i: [u[:k] for k in range(len(found[i]) + 1, len(u) + 1)] for i, u in grown.items()}
        distinct = list(dict.fromkeys(part for row in parts.values() for part in row))
        holds = dict(zip(distinct, await session.verify_all(distinct), strict=True))
        going = list[int]()
        for i, row in parts.items():
            rejected = next((part for part in row if not holds[part]), None)
            found[i] = grown[i] if rejected is None else rejected
            if rejected is None and not session.is_complete(found[i]):
                going.append(i)
        length *= 2
    return found
