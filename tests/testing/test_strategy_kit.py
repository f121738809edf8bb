"""The kit for strategies accepts good ones, and each of its checks fails on one that is spoiled."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from reroot import Contract
from reroot.testing import StrategyConformance, check_strategy
from reroot.training.strategies import STRATEGIES, Root, SelfReset, Start


class Kit(StrategyConformance):
    def __init__(self, subject: Any) -> None:
        self.subject = subject

    def make(self) -> Any:
        return self.subject()


@pytest.mark.slow(1)
@pytest.mark.parametrize("name", list(STRATEGIES))
def test_reroots_own_pass(name: str) -> None:
    check_strategy(STRATEGIES[name])


class Raises(Root):
    async def start(self, session: Any) -> Start:
        raise RuntimeError("no")


class Complete(SelfReset):
    async def start(self, session: Any) -> Start:
        return Start((await session.rollouts(1)).outputs()[0])


class NotThere(SelfReset):
    from_root = True


class Invented(Root):
    from_root = False

    async def start(self, session: Any) -> Start:
        return Start(session.root.append(1))


class MoreThanItNeeds(Root):
    requires = Contract.parse("reset/logprob+reward")


TICKS = itertools.count()


class ByTheClock(SelfReset):
    async def start(self, session: Any) -> Start:
        own = (await session.rollouts(1)).outputs()[0]
        return Start(own[: next(TICKS) % len(own)])


class Counts(SelfReset):
    def __init__(self) -> None:
        self._seen = 0

    async def start(self, session: Any) -> Start:
        self._seen += 1
        return await super().start(session)

    def state(self) -> dict[str, Any]:
        return {"seen": self._seen}


class Forgets(SelfReset):
    """What it has learnt is not in its state."""

    def __init__(self) -> None:
        self._most = 1

    def learn(self, prompt: Any, start: Start, rewards: Any) -> None:
        self._most = 0

    async def start(self, session: Any) -> Start:
        found = await super().start(session)
        return Start(found.prefix[: self._most])


class RestoresNothing(SelfReset):
    def __init__(self) -> None:
        self._seen = 0

    def learn(self, prompt: Any, start: Start, rewards: Any) -> None:
        self._seen += 1

    def state(self) -> dict[str, Any]:
        return {"seen": self._seen}

    def restore(self, state: Any) -> None: ...


class Unwritten(Root):
    def __init__(self, scale: Any = None) -> None:
        self.scale = [1, 2]


class AnotherName(Root):
    def __init__(self, among: int = 3) -> None:
        self.number = among


@pytest.mark.parametrize(
    ("check", "spoiled", "said"),
    [
        ("01", Raises, "it failed: RuntimeError"),
        ("02", Complete, "after the complete output"),
        ("02", NotThere, "from_root is true"),
        ("02", Invented, "lets nobody ask"),
        ("03", MoreThanItNeeds, "is enough"),
        ("04", ByTheClock, "it starts elsewhere"),
        ("05", Counts, "changed the state"),
        ("06", Forgets, "restored from its state it starts elsewhere"),
        ("06", RestoresNothing, "another after restore"),
        ("07", Unwritten, "read back as"),
        ("07", AnotherName, "has no parameter 'number'"),
    ],
)
def test_spoiled_strategies_fail(check: str, spoiled: Any, said: str) -> None:
    (name,) = (n for n in Kit.checks() if n.startswith(f"test_{check}"))
    with pytest.raises(AssertionError, match=said):
        getattr(Kit(spoiled), name)()


def test_every_check_is_shown_to_fail() -> None:
    assert {name[5:7] for name in Kit.checks()} == {f"0{i}" for i in range(1, 8)}


def test_what_failed_is_named() -> None:
    with pytest.raises(AssertionError, match="checks failed\ntest_01_"):
        check_strategy(Raises)
