"""The step of exact training, by enumeration of every batch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from reroot import (
    InvalidInput,
    objective,
)
from reroot.generators.softmax_policy import SoftmaxPolicy
from reroot.generators.tabular import IntegerGenerator, Tabular
from reroot.objective import Tree
from reroot.randomness import keyed_rng, stream_key
from reroot.training import Rule
from reroot.training.advantages import centred
from reroot.training.policy_gradient import Rows, kl_rows, reward_rows, step
from reroot.types import PAD, FloatArray, Prefix, Reply

BETA = 0.3


class Case:
    """A policy away from its base, written out, with a reward for each output."""

    def __init__(self, base: IntegerGenerator, spread: float = 0.7) -> None:
        self.horizon = base.horizon
        self.policy = SoftmaxPolicy(base)
        self.tree = Tree.of(base, horizon=base.horizon, stop=base.stops(()))
        rng = keyed_rng(stream_key(3, "t", "case"))
        for y in self.tree.outputs:
            row = np.full((1, base.horizon), PAD)
            row[0, : len(y)] = y
            weights = rng.normal(scale=spread, size=row.shape) * (row != PAD)
            self.policy.update(row, weights, 1.0, 100.0)
        self.laws = self.policy.log_laws((), self.tree.prefixes)
        self.written = self.tree.with_laws(self.laws)
        self.masses = np.exp(self.written.log_probabilities())
        self.rewards = np.round(rng.random(len(self.tree.outputs)), 2)
        self.row = {u: i for i, u in enumerate(self.tree.prefixes)}

    def gradient(self, beta: float) -> FloatArray:
        return objective.gradient(self.written, self.tree, self.rewards, beta)

    def reward_gradient(self) -> FloatArray:
        """∇E[r]: the gradient of J is affine in β."""
        return 2 * self.gradient(1.0) - self.gradient(2.0)

    def reply(self, outputs: Sequence[tuple[int, ...]], start: tuple[int, ...] = ()) -> Reply:
        lengths = np.array([len(y) - len(start) for y in outputs])
        tokens = np.full((len(outputs), lengths.max()), PAD)
        for row, y in zip(tokens, outputs, strict=True):
            row[: len(y) - len(start)] = y[len(start) :]
        return Reply(Prefix(start), tokens, lengths)

    def followed(self, rows: Rows) -> FloatArray:
        """(prefixes, K) Σ c·∇ log π with respect to θ."""
        found = np.zeros(self.laws.shape)
        for y, c in zip(rows.tokens, rows.coefficients, strict=True):
            for t in np.flatnonzero(y != PAD):
                at = self.row[tuple(y[:t].tolist())]
                found[at] -= c[t] * np.exp(self.laws[at])
                found[at, y[t]] += c[t]
        return found

    def expected(self, n: int, make: Callable[[list[int]], Rows], start: tuple[int, ...] = ()):
        """E Σ c·∇ log π over all batches of n outputs drawn after ``start``."""
        mine = [i for i, y in enumerate(self.tree.outputs) if y[: len(start)] == start]
        total, mass = np.zeros(self.laws.shape), self.masses[mine].sum()
        for batch in itertools.product(mine, repeat=n):
            total += np.prod(self.masses[list(batch)] / mass) * self.followed(make(list(batch)))
        return total

    def group(self, batch: list[int], start: tuple[int, ...] = ()) -> Rows:
        outputs = [self.tree.outputs[i] for i in batch]
        return reward_rows(self.reply(outputs, start), self.rewards[batch].tolist(), self.horizon)

    def priced(self, batch: list[int]) -> Rows:
        outputs = [self.tree.outputs[i] for i in batch]
        return kl_rows(self.reply(outputs), self.policy, BETA, self.horizon)


def ended() -> Case:
    return Case(Tabular.random(3, 2, seed=4, end=(2,)))


@pytest.mark.parametrize("n", [2, 3])
def test_the_reward_part_is_unbiased(n: int) -> None:
    case = ended()
    assert np.abs(case.reward_gradient()).max() > 0.01
    assert case.expected(n, case.group) == pytest.approx(case.reward_gradient(), abs=1e-12)


def test_the_reward_part_from_a_prefix_is_the_gradient_of_its_own_mean() -> None:
    """∇E[r | u]: the share of the visits to u, and nothing above it."""
    case = Case(Tabular.random(2, 3, seed=4))
    start = (1,)
    below = [u[:1] == start for u in case.tree.prefixes]
    known = case.reward_gradient() / case.written.visits()[case.row[start]]
    known[~np.array(below)] = 0.0
    found = case.expected(2, lambda batch: case.group(batch, start), start)
    assert np.abs(known).max() > 0.01
    assert found == pytest.approx(known, abs=1e-12)
    rows = case.group([4, 7], start)
    assert rows.tokens[:, 0].tolist() == [1, 1]
    assert not rows.coefficients[:, 0].any()  # the tokens of the start are not updated
    assert rows.coefficients[:, 1:].all()


@pytest.mark.parametrize("M", [1, 2, 3])
def test_the_kl_part_is_unbiased_with_and_without_its_baseline(M: int) -> None:
    """One rollout alone has no baseline: the baseline changes no expectation."""
    case = ended()
    known = case.gradient(1.0 + BETA) - case.gradient(1.0)  # −β·∇KL
    assert np.abs(known).max() > 0.01
    assert case.expected(M, case.priced) == pytest.approx(known, abs=1e-12)


def test_the_kl_part_is_what_it_says() -> None:
    """−(β/M)·(L_it − b_it) by its definition, where rollouts share longer and shorter beginnings."""
    case = Case(Tabular.random(2, 4, seed=4, end=(1,)), spread=1.0)
    longest = (0, 0, 0, 0)
    outputs = [longest, (0, 0, 1), (0, 1), longest, (0, 0, 0, 1), (1,)]
    rows, M = kl_rows(case.reply(outputs), case.policy, BETA, 4), len(outputs)
    ratios = case.policy.log_ratios(rows.tokens)
    for i, y in enumerate(outputs):
        for t in range(4):
            sharing = [
                j for j, z in enumerate(outputs) if j != i and z[:t] == y[:t] and len(z) >= t
            ]
            centre = np.mean([ratios[j, t:].sum() for j in sharing]) if sharing else 0.0
            known = -BETA / M * (ratios[i, t:].sum() - centre) if t < len(y) else 0.0
            assert rows.coefficients[i, t] == pytest.approx(known, abs=1e-15)


def test_the_baseline_of_the_kl_lowers_the_variance() -> None:
    case = ended()

    def power(M: int) -> float:
        """M·E|step − E step|²; equal for all M if rollouts did not help each other."""
        mean, total = case.expected(M, case.priced), 0.0
        for batch in itertools.product(range(len(case.masses)), repeat=M):
            off = case.followed(case.priced(list(batch))) - mean
            total += float(np.prod(case.masses[list(batch)])) * float((off**2).sum())
        return M * total

    assert power(3) < power(2)


def test_advantages_leave_one_out() -> None:
    assert centred([1.0, 0.0, 0.0]) == pytest.approx([1.0, -0.5, -0.5])
    assert not centred([0.1] * 7).any()
    with pytest.raises(InvalidInput):
        centred([1.0])


def test_a_step_takes_every_gradient_at_the_present_policy() -> None:
    case, other = ended(), ended()
    rows = [case.group([0, 3]), case.priced([1, 4])]
    before = np.array([case.policy.theta(u) for u in case.tree.prefixes])
    step(case.policy, Rule(BETA, rate=0.3, most=100.0), rows)
    step(other.policy, Rule(BETA, rate=0.3, most=100.0), rows[::-1])
    after = np.array([case.policy.theta(u) for u in case.tree.prefixes])
    known = before + 0.3 * sum(case.followed(r) for r in rows)
    assert after == pytest.approx(known, abs=1e-12)
    again = np.array([other.policy.theta(u) for u in case.tree.prefixes])
    assert again == pytest.approx(after, abs=1e-12)


def test_groups_that_agree_within_themselves_give_no_step() -> None:
    case = ended()
    for reward in (0.0, 1.0):
        assert not reward_rows(case.reply([(2,), (0, 1)]), [reward, reward], 2).coefficients.any()
