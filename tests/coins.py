"""Every sequence of a learner's own coins, with its probability."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any

from reroot.access.session import Session
from reroot.learners import BoundLearner
from reroot.tasks.base import Problem
from toys import play_one


class Coins:
    """Stands for a learner's ``rng``: prescribed choices first, then the first possible one."""

    def __init__(self, prescribed: tuple[int, ...]) -> None:
        self.prescribed = prescribed
        self.made: list[tuple[int, list[int]]] = []
        self.probability = 1.0

    def choice(self, n: int, p: Any) -> int:
        possible = [i for i in range(n) if p[i] > 0]
        place = len(self.made)
        at = self.prescribed[place] if place < len(self.prescribed) else possible[0]
        self.made.append((at, possible))
        self.probability *= float(p[at])
        return at

    def others(self) -> Iterator[tuple[int, ...]]:
        for place in range(len(self.prescribed), len(self.made)):
            before = tuple(at for at, _ in self.made[:place])
            for at in self.made[place][1][1:]:
                yield (*before, at)


def law_of_tosses(toss: Callable[[Coins], Hashable]) -> dict[Any, float]:
    """What ``toss`` returns → probability, over every sequence of coins."""
    law: dict[Any, float] = {}
    scripts: list[tuple[int, ...]] = [()]
    while scripts:
        coins = Coins(scripts.pop())
        found = toss(coins)
        law[found] = law.get(found, 0.0) + coins.probability
        scripts += coins.others()
    return law


def law_of_coins(bound: BoundLearner, task: Problem, generator: Any) -> dict[Any, float]:
    """Output → probability, over every sequence of the learner's own coins."""

    def toss(coins: Coins) -> Hashable:
        async def tossed(session: Session) -> Any:
            session.rng = coins  # type: ignore[assignment]
            return await bound.start(session)

        attempt = play_one(tossed, bound.requires, task=task, generator=generator)
        assert attempt.error is None, attempt.error
        assert attempt.output is not None
        return attempt.output.tokens

    return law_of_tosses(toss)
