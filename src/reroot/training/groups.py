"""Groups of rollouts of any generator, each through a session of its own; no trainer is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..access.episode import Episode, bind, check_oracles
from ..access.runner import Attempt, Job, execute
from ..checks import check_int
from ..contract import Contract
from ..errors import RerootError
from ..generators.base import Generator
from ..runs.inputs import generator_of, problems_of
from ..runs.run import check_run
from ..tasks.base import Problem
from ..types import Budget, Cost
from .granting import granted, oracles_of
from .group import Group, group
from .strategies.base import Strategy


class BudgetSpent(RerootError):
    """The budget of a training run does not allow another step; the last step was taken whole.

    Attributes:
        spent: what was spent on the step before it was refused.
    """

    def __init__(self, text: str, spent: Cost) -> None:
        super().__init__(text)
        self.text, self.spent = text, spent

    def __reduce__(self) -> tuple[type[BudgetSpent], tuple[str, Cost]]:
        return BudgetSpent, (self.text, self.spent)


def run_groups(
    generator: Generator,
    episodes: Sequence[Episode],
    names: Sequence[str],
    at_root: Sequence[bool],
    *,
    strategy: Strategy,
    contract: Contract,
    size: int,
    seed: int,
    budget: Budget | None = None,
    scored: bool = True,
) -> list[Group | BudgetSpent]:
    """One group per episode, all in flight at once; or why a budget did not allow it.

    Args:
        names: unique in the run; together with ``seed`` they key all that is random.
        at_root: which groups start at the empty prefix whatever the strategy.
        budget: the most that each group may spend.

    Raises:
        RerootError: a group failed; a reward or a law that is no number, for one.
        Exception: what the strategy raised, as it is.
    """
    jobs = [
        Job(
            name,
            group(strategy=strategy, size=size, at_root=root, scored=scored),
            replace(episode, problem=replace(episode.problem, id=name)),
            contract,
            budget or Budget(),
            seed,
        )
        for episode, name, root in zip(episodes, names, at_root, strict=True)
    ]
    attempts: dict[str, Attempt] = {}
    raised: dict[str, BaseException] = {}
    execute(
        jobs,
        generator,
        concurrency=max(1, len(jobs)),
        on_attempt=lambda attempt: attempts.update({attempt.key: attempt}),
        on_error=lambda attempt, error: raised.update({attempt.key: error}),
    )
    for job in jobs:
        if job.key in raised:
            raise raised[job.key]
    return [
        _found(attempts[job.key], job.episode.prompt, episode.problem.id)
        for job, episode in zip(jobs, episodes, strict=True)
    ]


def _found(attempt: Attempt, prompt: tuple[int, ...], problem: str) -> Group | BudgetSpent:
    if attempt.stopped == "budget":
        return BudgetSpent(f"the budget does not allow the group {attempt.key!r}", attempt.cost)
    return Group.of_metadata(attempt.metadata, prompt, attempt.cost, problem)


def whole(found: Sequence[Group | BudgetSpent]) -> list[Group]:
    """The groups, if the budget allowed all of them.

    Raises:
        BudgetSpent: it did not; all that was spent is said.
    """
    refused = [one for one in found if isinstance(one, BudgetSpent)]
    if refused:
        raise BudgetSpent(refused[0].text, sum((one.spent for one in found), Cost()))
    return [one for one in found if isinstance(one, Group)]


def collect_groups(
    policy: Generator,
    problems: Sequence[Problem],
    step: int,
    *,
    strategy: Strategy,
    size: int = 8,
    roots: int = 0,
    grants: Contract | str | None = None,
    budget: Budget | None = None,
    seed: int = 0,
) -> list[Group]:
    """The groups of one step of a training loop of your own; the strategy has learnt from them.

    Each problem gets one group of ``size`` rollouts from where the strategy says. What to do with prompt,
    start, tokens, log-probabilities and rewards of a ``Group`` is the loop's: the start is no action
    of the policy, so it gets no gradient. A policy whose weights have changed must know it, as
    ``Transformers.weights_changed`` says.

    Args:
        policy: the live policy.
        problems: one group each, with distinct ids.
        step: number of the step; with ``seed`` and the ids it keys all that is random.
        strategy: where groups start.
        size: rollouts of a group.
        roots: how many groups, the last ones, start at the empty prefix whatever the strategy.
        grants: the contract of every session (``None``: what the strategy requires).
        budget: the most that each group may spend.
        seed: of the run.

    Raises:
        InvalidInput: a value is not what is expected, the policy cannot honour the contract, or a problem
            lacks an oracle that is granted.
        AccessDenied: the strategy requires more than is granted.
        BudgetSpent: a group did not fit its budget.
        Exception: what a reward or the strategy raised, as it is.
    """
    policy, problems = generator_of(policy, "policy"), problems_of(problems)
    check_int("step", step)
    contract = granted(grants, strategy, oracles_of(problems))
    check_run(group(strategy=strategy, size=size), contract, policy, seed)
    for problem in problems:
        check_oracles(problem, contract)
    asked = run_groups(
        policy,
        [bind(problem, policy) for problem in problems],
        [f"{problem.id}@{step}" for problem in problems],
        [i >= len(problems) - check_int("roots", roots) for i in range(len(problems))],
        strategy=strategy,
        contract=contract,
        size=size,
        seed=seed,
        budget=budget,
    )
    found = whole(asked)
    for one in found:
        strategy.learn(one.prompt, one.start, one.rewards)
    return found
