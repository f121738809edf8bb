"""Groups for a training loop of one's own: no trainer is needed, and nothing is shared between steps."""

from __future__ import annotations

from typing import Any

import pytest

import toys
from reroot import AccessDenied, Budget, InvalidInput, Problem
from reroot.families import HiddenPath
from reroot.training import BudgetSpent, Group, collect_groups, strategies

PATH = HiddenPath(vocab_size=3, horizon=5, p=0.5)


def two() -> list[Problem]:
    return [PATH.problem(id="a"), PATH.problem(id="b")]


def drawn(groups: list[Group]) -> list[Any]:
    return [(g.start, g.tokens, g.rewards) for g in groups]


def test_seed_step_and_id_say_what_is_drawn() -> None:
    first = drawn(collect_groups(PATH, two(), 0, strategy=strategies.Root(), seed=1))
    assert [len(tokens) for _, tokens, _ in first] == [8, 8]
    assert first[0] != first[1]
    assert drawn(collect_groups(PATH, two(), 0, strategy=strategies.Root(), seed=1)) == first
    assert (
        drawn(collect_groups(PATH, two()[::-1], 0, strategy=strategies.Root(), seed=1))
        == first[::-1]
    )
    for step, seed in ((1, 1), (0, 2)):
        other = collect_groups(PATH, two(), step, strategy=strategies.Root(), seed=seed)
        assert drawn(other) != first


def test_the_strategy_learns_and_the_last_groups_may_start_at_the_root() -> None:
    strategy = strategies.AdaBack()
    before = strategy.state()
    groups: list[Group] = []
    for step in range(6):
        mine = collect_groups(PATH, two(), step, strategy=strategy, size=4, roots=1)
        assert not mine[1].start.prefix
        groups += mine
    assert strategy.state() != before
    assert any(group.start.prefix for group in groups)
    for group in groups:  # the start belongs to the output and is no action
        for tokens, reward in zip(group.tokens, group.rewards, strict=True):
            whole = (*group.start.prefix, *tokens)
            assert len(whole) == PATH.horizon
            assert reward == float(whole == PATH.path)


def test_rollouts_that_are_drawn_one_by_one_are_those_of_one_query() -> None:
    """Where the budget does not hold eight outputs of the greatest length, fewer are asked for at once."""
    policy, problem = toys.tree(), toys.problem()
    for strategy in (strategies.Root(), strategies.SelfReset()):
        (free,) = collect_groups(policy, [problem], 0, strategy=strategy)
        spent, horizon = free.spent.tokens, problem.max_tokens
        assert spent < 8 * horizon  # some of the outputs end early
        tight = Budget(tokens=spent + horizon - 1)
        (found,) = collect_groups(policy, [problem], 0, strategy=strategy, budget=tight)
        assert drawn([found]) == drawn([free])
        assert found.spent.tokens == spent


def test_what_cannot_be_had_is_refused() -> None:
    with pytest.raises(AccessDenied, match="adaback"):
        collect_groups(PATH, two(), 0, strategy=strategies.AdaBack(), grants="root/sample+reward")
    with pytest.raises(BudgetSpent, match="does not allow the group 'a@3'"):
        collect_groups(PATH, two(), 3, strategy=strategies.Root(), budget=Budget(tokens=7))
    with pytest.raises(InvalidInput, match="step must be an integer"):
        collect_groups(PATH, two(), -1, strategy=strategies.Root())
    with pytest.raises(InvalidInput, match="policy must be a Generator"):
        collect_groups("smollm2", two(), 0, strategy=strategies.Root())  # type: ignore[arg-type]
