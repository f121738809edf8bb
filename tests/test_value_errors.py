"""What errors of a value do to methods that trust it token by token, and not to a walk that steps back."""

from __future__ import annotations

import math

import numpy as np
import pytest

from reroot.certify import certify
from reroot.certify.case import largest_ratio
from reroot.certify.cases.chains import vgb_case
from reroot.certify.toys import Toy
from reroot.generators.tabular import Tabular
from reroot.learners.sampling.action_rejection import action_rejection
from reroot.objective import Tree, laws
from reroot.testing import enumerate_runs, law_of, total_variation


def coins(H: int) -> Tabular:
    return Tabular([np.full((2,) * (h + 1), 0.5) for h in range(H)])


def ones(tokens: tuple[int, ...]) -> float:
    return float(np.mean(tokens))


class Late(Toy):
    """V̂(y_1:h) = V*(y_1:h−1): values that lag one token behind."""

    def _values(self, beta: float | None) -> dict[tuple[int, ...], float]:
        exact = super()._values(beta)
        outputs = set(self.tree.outputs)
        return {u: v if u in outputs else exact[u[:-1]] for u, v in exact.items()}


def binomial(H: int, q: float) -> np.ndarray:
    k = np.arange(H + 1)
    ways = np.array([math.comb(H, i) for i in k], dtype=float)
    return ways * q**k * (1 - q) ** (H - k)


def test_a_value_off_on_one_token_of_each_law_costs_the_root_of_the_horizon() -> None:
    """Prop. 3.1 of arXiv 2510.03149: TV ~ ε·√H, here ε·√H/(2√(2π)) to first order; P uniform, τ = 1."""
    eps = 0.05

    def closed(H: int) -> float:  # the number of ones tells the outputs' weights apart
        return 0.5 * float(np.abs(binomial(H, (1 + eps) / (2 + eps)) - binomial(H, 0.5)).sum())

    for H in (2, 5, 9):
        tree = Tree.of(coins(H), horizon=H)
        wrong = np.tile([0.0, math.log1p(eps)], (len(tree.prefixes), 1))
        found = np.exp(laws.weighed(tree, wrong).log_probabilities())
        assert 0.5 * np.abs(found - 0.5**H).sum() == pytest.approx(closed(H), abs=1e-12)
    for H in (64, 256):
        assert closed(H) == pytest.approx(
            eps * math.sqrt(H) / (2 * math.sqrt(2 * math.pi)), rel=0.05
        )
        assert closed(4 * H) == pytest.approx(2 * closed(H), rel=0.12)


@pytest.mark.parametrize("H", [2, 4, 8])
def test_values_one_token_late_leave_the_base_law_at_constant_regret(H: int) -> None:
    """Prop. 3.2: r = mean(y), β = 1/H: the regret log((1 + e)/2) − ½ = 0.120 at every H.

    The last token's value is the reward itself in the walk; the proposition lags there too, as here.
    """
    beta = 1.0 / H
    tree = Tree.of(coins(H), horizon=H)
    rewards = np.array([ones(y) for y in tree.outputs])
    late = np.zeros((len(tree.prefixes), 2))  # both children of a prefix are worth the same
    found = np.exp(laws.weighed(tree, late).log_probabilities())
    np.testing.assert_allclose(found, 0.5**H, rtol=1e-12)
    best = beta * np.log(np.mean(np.exp(rewards / beta)))
    assert best - found @ rewards == pytest.approx(math.log((1 + math.e) / 2) - 0.5, abs=1e-12)


def test_with_late_values_the_learner_draws_nearly_the_base_law_and_the_walk_the_target() -> None:
    H, beta = 3, 1 / 3
    toy = Late("late", "", coins(H), ones)
    runs = enumerate_runs(
        action_rejection(beta=beta, twist="value"),
        toy.problem(beta),
        toy.generator,
        grants="reset/full+value+reward",
        choices=True,
    )
    drawn = law_of(runs, lambda run: run.attempt.output.tokens)  # type: ignore[union-attr]
    # nothing but the last token, where τ is known, leans
    last = np.array([1.0, math.e]) / (1 + math.e)
    assert drawn == pytest.approx({y: 0.25 * last[y[-1]] for y in toy.tree.outputs}, abs=1e-12)
    tilt = np.exp(toy.rewards / beta)
    target = toy.law(toy.p * tilt / (toy.p @ tilt))
    assert total_variation(drawn, target) > 0.15
    assert largest_ratio(drawn, target) > 2.0

    found = certify(vgb_case(toy, "value", beta))
    assert found.holds
    assert found.stated is not None
    assert found.stated.tv < 1e-12
