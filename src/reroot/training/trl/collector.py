"""Groups of rollouts of a generator that changes, each through a session of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...access.episode import Episode, check_oracles
from ...checks import check_int
from ...contract import Contract
from ...errors import InvalidInput, RerootError
from ...generators.base import Generator
from ...runs.run import check_run
from ...types import Budget, Cost
from ..group import Group, group
from ..groups import BudgetSpent, run_groups, whole
from ..strategies.base import Strategy

Gather = Callable[[list[Any]], list[Any]]
"""What all processes have, in order, from what this one has."""


def _told_elsewhere(error: Exception) -> RerootError:
    """An error as other processes can have it: one of the user's own need not travel."""
    return RerootError(f"in another process: {type(error).__name__}: {error}")


class Collector:
    """Collects groups step by step, keeps the account, and lets the strategy learn.

    Args:
        generator: the live policy.
        strategy: where groups start.
        contract: of every session.
        budget: the most that all steps together may spend.
        seed: keys all draws.
        scored: whether sessions give the rewards; else whoever calls ``learn`` brings them.

    Attributes:
        spent: what all steps together have spent.
        steps: how many were collected.

    Raises:
        AccessDenied: the strategy requires more than the contract grants.
        InvalidInput: the generator cannot honour the contract, or the strategy is off-policy, or its
            groups must all start in one session.
    """

    def __init__(
        self,
        generator: Generator,
        strategy: Strategy,
        contract: Contract,
        budget: Budget | None = None,
        seed: int = 0,
        scored: bool = True,
    ) -> None:
        if not strategy.on_policy:
            raise InvalidInput(
                f"{strategy} is not on-policy given its starts, and nothing here corrects for that"
            )
        if strategy.one_session:
            raise InvalidInput(f"{strategy} is for training in one session (tabular_training)")
        check_run(group(strategy=strategy, size=1, scored=scored), contract, generator, seed)
        if budget is not None and budget.usd is not None:
            raise InvalidInput("a training run has no budget in usd; limit its tokens and prefill")
        self.scored = scored
        self.generator = generator
        self.strategy = strategy
        self.contract = contract
        self.budget = budget or Budget()
        self.seed = seed
        self.spent = Cost()
        self.steps = 0

    def collect(
        self,
        episodes: Sequence[Episode],
        size: int,
        *,
        roots: int = 0,
        first: int = 0,
        total: int | None = None,
        gather: Gather = list,
    ) -> list[Group]:
        """The groups of the next step, of all processes; they are paid for, and not yet learnt from.

        Args:
            episodes: of the groups of this process.
            size: n, rollouts per group.
            roots: how many groups, the last ones of the step, start at the empty prefix.
            first, total: index of this process's first group in the step, and groups in the step.
            gather: brings the groups of all processes together.

        Raises:
            BudgetSpent: what is left of the budget does not allow the step; what was spent on it is
                charged.
            Exception: see ``run_groups``.
        """
        check_int("size", size, 1)
        total = len(episodes) if total is None else total
        for episode in episodes:
            check_oracles(episode.problem, self.contract)
        mine = {first + i: episode for i, episode in enumerate(episodes)}
        at_root = range(total - roots, total)
        later = Cost() if self.scored else Cost(rewards=size)  # paid for as if given here
        found = self._run(mine, at_root, size, self.share(total, later), gather)
        for place, one in enumerate(found):
            if isinstance(
                one, BudgetSpent
            ):  # shares are equal and needs are not: with all the rest
                here = {place: mine[place]} if place in mine else {}
                owed = sum((later for g in found if isinstance(g, Group)), later)
                found[place] = self._run(here, at_root, size, self.share(1, owed), gather)[0]
        groups = [replace(g, spent=g.spent + later) for g in whole(found)]
        self.spent = sum((later for _ in groups), self.spent)
        self.steps += 1
        return groups

    def _run(
        self,
        episodes: Mapping[int, Episode],
        at_root: Sequence[int],
        size: int,
        budget: Budget,
        gather: Gather,
    ) -> list[Group | BudgetSpent]:
        """Groups of a step, of all processes, with ``budget`` for each; charges them.

        Args:
            episodes: of this process, by their places in the step.
            at_root: places that start at the empty prefix whatever the strategy.
        """
        mine: list[Group | RerootError]
        failure: Exception | None = None
        try:
            mine = [
                *run_groups(
                    self.generator,
                    [*episodes.values()],
                    [f"{e.problem.id}@{self.steps}.{i}" for i, e in episodes.items()],
                    [i in at_root for i in episodes],
                    strategy=self.strategy,
                    contract=self.contract,
                    size=size,
                    seed=self.seed,
                    budget=budget,
                    scored=self.scored,
                )
            ]
        except Exception as error:  # told to all processes, so that none waits for this one
            failure = error
            told = error if isinstance(error, RerootError) else _told_elsewhere(error)
            mine = [told for _ in episodes]
        everywhere: list[Group | RerootError] = gather(mine)
        found = [one for one in everywhere if isinstance(one, (Group, BudgetSpent))]
        self.spent = sum((one.spent for one in found), self.spent)
        for error in everywhere:
            if not isinstance(error, (Group, BudgetSpent)):
                raise failure or error
        return found

    def charge(self, groups: Sequence[Group]) -> None:
        """Charge a step that was taken elsewhere."""
        self.spent = sum((found.spent for found in groups), self.spent)
        self.steps += 1

    def learn(self, groups: Sequence[Group]) -> None:
        """Let the strategy learn from a step whose rewards are known; what got none does not count."""
        for found in groups:
            if rewards := found.known_rewards:
                self.strategy.learn(found.prompt, found.start, rewards)

    def share(self, total: int, owed: Cost | None = None) -> Budget:
        """What each of the ``total`` groups of a step may spend, so that all stay within the budget.

        Args:
            owed: by each of them, later.

        Raises:
            BudgetSpent: what is owed does not fit.
        """
        limits, owed = self.budget.to_dict(), owed or Cost()
        left = {c: max(0, limits[c] - getattr(self.spent, c)) // total for c in limits}
        for currency, each in left.items():
            left[currency] = each - getattr(owed, currency)
            if left[currency] < 0:
                raise BudgetSpent(f"the budget does not allow the {currency} of the step", Cost())
        return Budget(**left)

    def state(self) -> dict[str, Any]:
        """Account and strategy, as JSON values."""
        return {
            "steps": self.steps,
            "spent": self.spent.to_dict(),
            "strategy": str(self.strategy),
            "state": self.strategy.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state`` gave.

        Raises:
            InvalidInput: it is the state of another strategy.
        """
        if state["strategy"] != str(self.strategy):
            raise InvalidInput(
                f"the state to go on from is of {state['strategy']}, not of {self.strategy}"
            )
        self.steps, self.spent = int(state["steps"]), Cost(**state["spent"])
        self.strategy.restore(state["state"])
