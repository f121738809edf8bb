"""One group of rollouts, carried out through a session."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..access.learner import learner
from ..checks import check_int
from ..contract import Contract, Oracle, Report
from ..errors import InvalidInput
from ..types import PAD, Cost, Finding, Prefix, Reply
from .strategies.base import ROOT, Start, Strategy

if TYPE_CHECKING:
    from ..access.session import Session


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """n rollouts from one start.

    Attributes:
        prompt: prompt tokens.
        start: where they started.
        tokens: the generated tokens of each, the start not among them.
        logprobs: nats, log π of each of these tokens; ``None``: the contract does not report them.
        rewards: outcome rewards of the complete outputs; empty until they are known, NaN where the one
            who gives them gave none.
        credit: an advantage for each generated token; ``None``: one for each rollout.
        building: what was spent before the rollouts, on the start.
        spent: what was spent in all.
        problem: id of the problem; empty: it is not known.
    """

    prompt: tuple[int, ...]
    start: Start
    tokens: list[list[int]]
    logprobs: list[list[float]] | None
    rewards: list[float]
    credit: list[list[float]] | None
    building: Cost
    spent: Cost
    problem: str = ""

    @property
    def zero_variance(self) -> bool:
        """Whether all rewards are equal, so that it says nothing about the policy."""
        return len(set(self.known_rewards)) <= 1

    @property
    def known_rewards(self) -> list[float]:
        """The rewards that were given."""
        return [reward for reward in self.rewards if not math.isnan(reward)]

    def rewarded(self, rewards: Sequence[float]) -> Group:
        """The same rollouts with these rewards, one for each."""
        return replace(self, rewards=list(rewards))

    def to_metadata(self) -> dict[str, Any]:
        """As JSON values; prompt and cost in all are known elsewhere."""
        return {
            "start": list(self.start.prefix),
            "share": self.start.share,
            "tokens": self.tokens,
            "logprobs": self.logprobs,
            "rewards": self.rewards,
            "credit": self.credit,
            "building": list(self.building),
        }

    @staticmethod
    def of_metadata(
        metadata: Mapping[str, Any], prompt: tuple[int, ...], spent: Cost, problem: str = ""
    ) -> Group:
        """The group that ``to_metadata`` described."""
        return Group(
            prompt,
            Start(Prefix(tuple(metadata["start"])), metadata["share"]),
            metadata["tokens"],
            metadata["logprobs"],
            metadata["rewards"],
            metadata["credit"],
            Cost(*metadata["building"]),
            spent,
            problem,
        )


def _contract(params: Mapping[str, Any]) -> Contract:
    strategy = params["strategy"]
    if not isinstance(strategy, Strategy):
        raise InvalidInput(f"strategy must be a Strategy, got {strategy!r}")
    check_int("size", params["size"], 1)
    requires = ROOT if params["at_root"] else strategy.requires
    return requires if params["scored"] else without_rewards(requires)


def without_rewards(contract: Contract) -> Contract:
    """``contract`` for sessions whose outputs somebody else rewards, afterwards."""
    return replace(contract, oracles=contract.oracles - {Oracle.REWARD})


@learner(requires=_contract)
async def group(
    session: Session,
    *,
    strategy: Strategy,
    size: int,
    at_root: bool = False,
    scored: bool = True,
) -> Finding:
    """n rollouts of the present policy from one start, and their rewards.

    Pseudo-code::

        u ← start of the strategy, or ∅;  y¹ … yⁿ ~ π(· | u);  r_i ← r(u·yⁱ)

    Tokens are reported with log-probabilities where the contract grants them. Rollouts are asked for at
    once, or one after the other where what is left would not hold the longest of all; the draws are the
    same.

    Args:
        strategy: where to start.
        size: n.
        at_root: start at ∅ whatever the strategy.
        scored: ask for rewards, and the strategy for its credit; else somebody else gives them later.

    Returns:
        No output; the metadata are those of a ``Group``.
    """
    start = Start(session.root) if at_root else await strategy.start(session)
    building = session.spent
    report = Report.LOGPROB if session.contract.report >= Report.LOGPROB else Report.SAMPLE
    reply = await _rollouts(session, start.prefix, size, report)
    rewards, credit = list[float](), None
    if scored:
        rewards = await session.rewards(reply.outputs())
        credit = None if at_root else await strategy.credit(session, reply, rewards)
    tokens = [list(reply.continuation(i)) for i in range(size)]
    logprobs = None
    if reply.logprobs is not None:
        logprobs = [row[: len(t)].tolist() for row, t in zip(reply.logprobs, tokens, strict=True)]
    found = Group(session.prompt, start, tokens, logprobs, rewards, credit, building, session.spent)
    return Finding(None, found.to_metadata())


async def _rollouts(session: Session, start: Prefix, size: int, report: Report) -> Reply:
    """``size`` continuations to the end, in as few queries as the tokens that are left allow."""
    replies: list[Reply] = []
    left = size
    while left:
        tokens = session.remaining()
        longest = session.horizon - len(start)
        fits = left if tokens is None else min(left, tokens // longest)
        replies.append(await session.continuations(start, max(1, fits), report=report))
        left -= replies[-1].n
    return replies[0] if len(replies) == 1 else _joined(replies)


def _joined(replies: Sequence[Reply]) -> Reply:
    """One reply of several to the same question."""
    longest = max(reply.tokens.shape[1] for reply in replies)

    def whole(rows: list[Any], filling: float) -> Any:
        if any(row is None for row in rows):
            return None
        sides = [[(0, 0), (0, longest - r.shape[1]), *[(0, 0)] * (r.ndim - 2)] for r in rows]
        padded = [np.pad(r, s, constant_values=filling) for r, s in zip(rows, sides, strict=True)]
        return np.concatenate(padded)

    return Reply(
        replies[0].prefix,
        whole([r.tokens for r in replies], PAD),
        np.concatenate([r.lengths for r in replies]),
        whole([r.logprobs for r in replies], 0.0),
    )
