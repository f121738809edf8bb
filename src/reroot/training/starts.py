"""Where a group of rollouts may start: the only thing in which the arms of a comparison differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from ..types import Prefix

if TYPE_CHECKING:
    from ..access.session import Session


class Starts(Protocol):
    """A rule for where the next groups start."""

    async def draw(self, session: Session, groups: int) -> list[Prefix]:
        """The starts of the next G groups."""
        ...

    def learn(self, start: Prefix, rewards: Sequence[float]) -> None:
        """What the rollouts of a group were rewarded with."""
        ...


class RootStarts:
    """Every group starts at the empty prefix. Costs nothing and needs ROOT control alone."""

    async def draw(self, session: Session, groups: int) -> list[Prefix]:
        return [session.root] * groups

    def learn(self, start: Prefix, rewards: Sequence[float]) -> None:
        pass


class WalkStarts:
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
        horizon: H.
        draws_per_token: m.
        window: how far above the front groups may start.
    """

    def __init__(self, horizon: int, draws_per_token: int, window: int) -> None:
        self.front = horizon - 1
        self._draws = draws_per_token
        self._window = window
        self._walk: Prefix | None = None
        self._rewarded = False

    async def draw(self, session: Session, groups: int) -> list[Prefix]:
        low = self.front - self._window
        if low <= 0:
            return [session.root] * groups
        if self._walk is None or not self._rewarded:
            self._walk = await self._walked(session)
        self._rewarded = False
        lengths = session.rng.integers(low, self.front + 1, size=groups).tolist()
        return [self._walk[:length] for length in lengths]

    async def _walked(self, session: Session) -> Prefix:
        """A walk as long as the front."""
        walk = session.root
        while len(walk) < self.front:
            reply = await session.draws(walk, self._draws)
            longer = walk.append(reply.plurality(session.rng))
            if session.is_complete(longer):  # ended by a stop token: nothing starts there
                break
            walk = longer
        return walk

    def learn(self, start: Prefix, rewards: Sequence[float]) -> None:
        good = sum(r > 0 for r in rewards)
        self._rewarded |= good > 0
        if 4 * good >= len(rewards):
            self.front = min(self.front, len(start))
