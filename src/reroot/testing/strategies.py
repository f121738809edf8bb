"""What every strategy must honour: where groups start follows from the seed and its state alone."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from .. import specs
from ..access.learner import BoundLearner, learner
from ..access.runner import Attempt
from ..access.session import Session
from ..contract import Contract, Control
from ..errors import InvalidInput
from ..training.strategies import Start, Strategy
from ..types import Finding, Prefix
from .base import Conformance, attempts, check_all, expect, uses_all
from .learners import Places, places

GROUPS = 4
"""Groups that each session starts."""


class StrategyConformance(Conformance, ABC):
    """Subclass it and give ``make``; pytest finds the checks.

    Attributes:
        places: generators with problems that have the oracles it requires.
    """

    places: Places = places()

    @abstractmethod
    def make(self) -> Strategy:
        """A strategy in its first state, as often as a check needs one."""
        ...

    def test_01_starts_under_exactly_what_it_requires(self) -> None:
        for attempt in self._attempts(self.make()):
            expect(attempt.error is None, f"it failed: {attempt.error}")

    def test_02_starts_are_prefixes_that_it_may_ask(self) -> None:
        strategy = self.make()
        for attempt in self._attempts(strategy):
            for start in attempt.metadata.get("starts", ()):
                expect(not start["complete"], f"it starts after the complete output {start}")
                expect(0.0 <= start["share"] <= 1.0, f"the share of {start} is not in [0, 1]")
                root = not strategy.from_root or not start["tokens"]
                expect(root, f"from_root is true, and it starts at {start['tokens']}")
            told = "it starts where its contract lets nobody ask"
            denied = attempt.error is not None and attempt.error.kind == "AccessDenied"
            expect(not denied, f"{told}: {attempt.error}")

    def test_03_requires_the_weakest_contract(self) -> None:
        makes = (self.make, self._failing)
        tried = ((_groups(make), p, g) for g, p in self.places for make in makes)
        uses_all(self.make().requires, tried)

    def _failing(self) -> Strategy:
        """It, after groups on the prompts of ``places`` that found no reward."""
        strategy = self.make()
        for _ in range(6):
            strategy.learn((), Start(Prefix((0,)), 0.5), [0.0, 0.0])
        return strategy

    def test_04_the_seed_decides_whatever_runs_beside_it(self) -> None:
        known = _starts(self._attempts(self.make()))
        for concurrency in (1, 2):
            again = _starts(self._attempts(self.make(), concurrency=concurrency))
            expect(again == known, f"with {concurrency} at a time it starts elsewhere")

    def test_05_starting_changes_no_state(self) -> None:
        strategy = self.make()
        before = json.dumps(strategy.state(), sort_keys=True)
        self._attempts(strategy)
        after = json.dumps(strategy.state(), sort_keys=True)
        expect(after == before, f"start changed the state from {before} to {after}")

    def test_06_its_state_is_all_that_it_has_learnt(self) -> None:
        taught, heir = self.make(), self.make()
        for step in range(6):
            start = Start(Prefix((0,) * (step % 3)), (step % 3) / 4)
            taught.learn((step % 2,), start, [float(step % 2), 0.0])
            taught.learn((), start, [float(step % 2)] * 2)
        heir.restore(json.loads(json.dumps(taught.state())))
        expect(heir.state() == taught.state(), "its state is another after restore")
        same = _starts(self._attempts(heir)) == _starts(self._attempts(taught))
        expect(same, "restored from its state it starts elsewhere")

    def test_07_its_settings_make_it_again(self) -> None:
        strategy = self.make()
        settings: dict[str, Any] = strategy.settings()
        read = dict(specs.parse(str(specs.Spec(strategy.name, settings))).settings)
        expect(read == settings, f"the settings {settings} read back as {read}")
        try:
            again = specs.call(f"strategy {strategy.name!r}", type(strategy), settings)
        except InvalidInput as error:
            raise AssertionError(f"its settings do not make it: {error}") from error
        expect(again.settings() == settings, f"{settings} makes {again.settings()}")

    def _attempts(self, strategy: Strategy, concurrency: int = 64) -> list[Attempt]:
        found: list[Attempt] = []
        for generator, problems in self.places:
            made = attempts(
                _groups(lambda: strategy),
                problems,
                generator,
                strategy.requires,
                concurrency=concurrency,
            )
            found += [made[problem.id] for problem in problems]
        return found


def _groups(make: Callable[[], Strategy]) -> BoundLearner:
    """A learner that starts groups, and draws from each start as training would."""

    @learner(requires=Contract(Control.ROOT, make().requires.report))
    async def groups(session: Session) -> Finding:
        strategy, starts = make(), list[dict[str, Any]]()
        for _ in range(GROUPS):
            start = await strategy.start(session)
            complete = session.is_complete(start.prefix)
            told = {"tokens": list(start.prefix), "share": start.share, "complete": complete}
            starts.append(told)
            if complete:
                continue
            reply = await session.continuations(start.prefix, 2)
            rewards = await session.rewards(reply.outputs())
            if strategy.per_token:
                await strategy.credit(session, reply, rewards)
        return Finding(None, {"starts": starts})

    return groups()


def _starts(made: Sequence[Attempt]) -> list[Any]:
    return [attempt.metadata for attempt in made]


def check_strategy(make: Callable[[], Strategy], places: Places | None = None) -> None:
    """Run every check of ``StrategyConformance``.

    Args:
        make: a class of strategies, or a function that gives one in its first state.
        places: see ``StrategyConformance``.

    Raises:
        AssertionError: names every check that failed, with its reason.
    """
    check_all(StrategyConformance, make, places=places)
