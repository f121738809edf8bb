"""What a group is worth that starts on a walk of the generator's own."""

from __future__ import annotations

from collections.abc import Mapping

from ...access.learner import Params, learner
from ...access.session import Session
from ...contract import Report
from ...errors import InvalidInput, nearest
from ...types import Finding, Prefix
from ..common import COUNT, check
from ..leading import leading_token
from ..verified import verified_prefix

WALKS: Mapping[str, str] = {
    "plurality": "visited/sample+reward",
    "argmax": "reset/topk(1)+reward",
    "verified": "visited/sample+reward+verifier",
}
"""Walk → the contract that a trainer needs for it."""


def _contract(params: Params) -> str:
    walk = params["walk"]
    if walk not in WALKS:
        raise InvalidInput(f"unknown walk {walk!r}.{nearest(str(walk), WALKS)}")
    check(params, size=COUNT, draws=COUNT, margin=COUNT, tries=COUNT)
    return WALKS[walk]


@learner(requires=_contract)
async def walked_group(
    session: Session,
    *,
    walk: str,
    size: int,
    draws: int = 31,
    margin: int = 4,
    tries: int = 64,
) -> Finding:
    """One group of rollouts from a walk of random length, as a trainer with such starts begins.

    Pseudo-code::

        k ~ uniform on 0 … H − 1;  u ← the walk up to k (shorter where it ends)
        y¹ … yⁿ ~ P(· | u);  r_i ← r(u·yⁱ)

    The notes: ``start``, tokens of u; ``building``, tokens that it cost; ``rewards``.

    Args:
        walk: ``plurality``: the token that leads by ``margin`` among at most ``draws``; ``argmax``: the
            likeliest; ``verified``: one that the verifier accepts, of at most ``tries``.
        size: n.
    """
    length = int(session.rng.integers(session.horizon))
    start = await _walk(session, walk, length, draws, margin, tries)
    if session.is_complete(start):
        start = start[: int(session.rng.integers(len(start)))]
    building = session.spent.tokens
    reply = await session.continuations(start, size, report=Report.SAMPLE)
    rewards = await session.rewards(reply.outputs())
    return Finding(None, {"start": len(start), "building": building, "rewards": rewards})


async def _walk(
    session: Session, kind: str, length: int, draws: int, margin: int, tries: int
) -> Prefix:
    if kind == "verified":
        return await verified_prefix(session, length, tries, quota=8)
    if kind == "argmax":
        if not length:
            return session.root
        asked = await session.continuations(session.root, 1, length=length, report=Report.ARGMAX(1))
        return asked.outputs()[0]
    walk = session.root
    while len(walk) < length and not session.is_complete(walk):
        walk = walk.append(await leading_token(session, walk, draws, margin))
    return walk
