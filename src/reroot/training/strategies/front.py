"""A strategy for training in one session: starts on one walk, near a front that moves up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...checks import check_int
from ...contract import Contract, Control, Oracle, Report
from ...types import Prefix
from .base import Start, Strategy

if TYPE_CHECKING:
    from ...access.session import Session


class PluralityFront(Strategy):
    """Prefixes of a plurality walk of the policy, of random lengths near a front.

    The walk appends the most frequent of m conditional draws (ties: uniformly), as
    ``learners.plurality_walk`` does; VISITED control and SAMPLE reports suffice, and its draws are
    paid for as any query. It is kept while it leads to rewards and drawn anew, of the present
    policy, after groups without any. Lengths are uniform in front − window … front. The front
    begins at the last token and moves up to any start from which a quarter of the rollouts were
    rewarded: a reverse curriculum (R3, arXiv 2402.05808, along walks, not demonstrations). Once
    the empty prefix is within the window, all groups start there: a token that few groups see the
    reward of, but the whole KL batch the price of, would be unlearned.

    Args:
        draws: m, per token of the walk.
        window: how far above the front groups may start.

    Raises:
        InvalidInput: a number is out of range.
    """

    name = "plurality_front"
    requires = Contract(Control.VISITED, Report.SAMPLE, oracles=[Oracle.REWARD])
    one_session = True

    def __init__(self, draws: int = 32, window: int = 4) -> None:
        self.draws = check_int("draws", draws, 1)
        self.window = check_int("window", window)
        self._front: int | None = None
        self._walk = Prefix()
        self._kept = self._rewarded = False

    async def start(self, session: Session) -> Start:
        front = session.horizon - 1 if self._front is None else self._front
        low = front - self.window
        self._front, self._rewarded = front, False
        if low <= 0:
            return Start(session.root)
        if not self._kept:
            self._walk, self._kept = await self._walked(session, front), True
        return Start(self._walk[: int(session.rng.integers(low, front + 1))])

    async def _walked(self, session: Session, length: int) -> Prefix:
        walk = session.root
        while len(walk) < length:
            reply = await session.draws(walk, self.draws)
            longer = walk.append(reply.plurality(session.rng))
            if session.is_complete(longer):  # ended by a stop token: nothing starts there
                break
            walk = longer
        return walk

    def learn(self, prompt: Sequence[int], start: Start, rewards: Sequence[float]) -> None:
        good = sum(r > 0 for r in rewards)
        self._rewarded |= good > 0
        self._kept = self._rewarded  # by any group since the last start
        if self._front is not None and 4 * good >= len(rewards):
            self._front = min(self._front, len(start.prefix))
