"""SpannerSampling and MTSS on families with closed forms: values, laws, accounts."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

import reroot
from reroot import Budget, InvalidInput
from reroot.access.runner import Attempt
from reroot.families import LinearOptimum, Needle, Rotated, SoftmaxHard, parse
from reroot.learners import BoundLearner
from reroot.learners.spanners.mtss import mtss
from reroot.learners.spanners.softmax import first_accepted, log_density, normalizer
from reroot.learners.spanners.spanner_sampling import spanner_sampling
from reroot.linear.regression import Design
from reroot.testing import check_generator


def balanced(H: int, K: int = 2) -> float:
    return 1 / (H * math.log(K) + 2)


def attempt(learner: BoundLearner, law: LinearOptimum, **more: Any) -> Attempt:
    (found,) = reroot.run(learner, [law.problem()], law, grants=learner.requires, **more).attempts
    return found


def thetas(law: LinearOptimum, beta: float) -> list[np.ndarray]:
    return [law.theta(h, beta) for h in range(1, law.horizon + 1)]


# ---- families ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("law", "beta", "known"),
    [
        (Needle(2, 4), balanced(4), (0.44409, 14.20, 1.9832)),
        (Needle(2, 10), balanced(10), (0.23813, 902.0, 1.9997)),
        (Rotated(2, 4), 1 / 8, (0.7169, 9.63, 1.762)),
        (SoftmaxHard(8), 0.1, (0.50067, 147.43, 147.43)),
        (SoftmaxHard(8, math.exp(-2)), 0.25, (0.52767, 6.615, 6.615)),
    ],
    ids=lambda x: getattr(x, "label", None),
)
def test_closed_forms_have_their_check_values(
    law: LinearOptimum, beta: float, known: tuple[float, float, float]
) -> None:
    found = (law.optimal_value(beta), law.coverage(beta), law.conditional_coverage(beta))
    assert found == pytest.approx(known, rel=5e-4)
    assert law.value(thetas(law, beta), beta) == pytest.approx(known[0], rel=2e-4)


@pytest.mark.parametrize("law", [Needle(3, 4, seed=2), Rotated(3, 4, d=4, seed=2)])
def test_the_optimum_is_linear_in_the_features(law: LinearOptimum) -> None:
    beta, K = 0.2, law.vocab_size
    values = law.optimal_values(beta)
    assert values[0] == pytest.approx([law.optimal_value(beta)], abs=1e-14)
    for h in range(1, law.horizon + 1):
        strings = list(itertools.product(range(K), repeat=h))
        scores = np.array([law.feature(y) @ law.theta(h, beta) for y in strings])
        off = (values[h] - scores).reshape(-1, K)
        assert off - off[:, :1] == pytest.approx(np.zeros_like(off), abs=1e-14)
    ratios = [(values[h].reshape(-1, K) - values[h - 1][:, None]) / beta for h in range(1, 5)]
    assert math.exp(max(r.max() for r in ratios)) == pytest.approx(law.conditional_coverage(beta))
    leaves = np.exp((values[-1] - values[0][0]) / beta)
    assert leaves.max() == pytest.approx(law.coverage(beta))


def test_returns_with_exact_densities_have_no_variance() -> None:
    """Under π*, r(y) − β·Σ_{l>h} log(π*/P) is V*_h(y_{1:h}) for every leaf."""
    law, beta = Needle(2, 5, seed=1), balanced(5)
    values = law.optimal_values(beta)
    for y, place in zip(itertools.product((0, 1), repeat=5), range(32), strict=True):
        at = [values[h][place >> (5 - h)] for h in range(6)]
        ratios = [(at[h] - at[h - 1]) / beta for h in range(1, 6)]
        for h in range(6):
            assert law.mean_reward(y) - beta * sum(ratios[h:]) == pytest.approx(at[h], abs=1e-15)


def test_noisy_rewards_are_bernoulli_and_start_anew_with_each_problem() -> None:
    law, y = Rotated(2, 4, seed=3), reroot.Output((0, 1, 1, 0), "", True)
    first, second = law.problem(), law.problem()
    drawn = [first.reward(y) for _ in range(400)]
    assert set(drawn) == {0.0, 1.0}
    assert drawn == [second.reward(y) for _ in range(400)]
    # Hoeffding: error rate 1e-6
    assert np.mean(drawn) == pytest.approx(law.mean_reward(y.tokens), abs=0.135)


@pytest.mark.slow(1)
@pytest.mark.parametrize(
    "spec", ["needle:K=2,H=4", "rotated:K=3,H=3,d=4", "softmax_hard:K=4,H=1,epsilon=0.1"]
)
def test_families_keep_the_protocol_of_generators(spec: str) -> None:
    with np.errstate(invalid="ignore"):  # the kit compares laws with zeros
        check_generator(lambda: parse(spec)(seed=1), length=3, draws=500)


def test_sizes_are_refused_in_words() -> None:
    for make, message in (
        (lambda: SoftmaxHard(2), "K must be at least 3"),
        (lambda: SoftmaxHard(4, 1.5), "epsilon must lie in"),
        (lambda: Needle(2, 4, d=1), "d must be an integer"),
        (lambda: parse("softmax_hard:K=4,H=2")(), "H must be an integer"),
        (lambda: Needle(2, 20).value([np.zeros(3)] * 20, 0.1), "too many to enumerate"),
    ):
        with pytest.raises(InvalidInput, match=message):
            make()


# ---- the softmax sampler -------------------------------------------------------------------------

P, F, BETA = np.array([0.6, 0.3, 0.1]), np.array([0.0, 0.2, 0.5]), 0.25


def sampler_law(n: int, tries: int, bound: float) -> np.ndarray:
    """(3,) the law of the sampler, over all counts of the N draws for Ẑ."""
    found = np.zeros(3)
    for i in range(n + 1):
        for j in range(n + 1 - i):
            counts = np.array([i, j, n - i - j])
            chance = math.factorial(n) * np.prod(P**counts / [math.factorial(c) for c in counts])
            z = normalizer(np.repeat(F / BETA, counts))
            accept = P * np.minimum(1, np.exp(F / BETA - z.log_z) / bound)
            missed = (1 - accept.sum()) ** tries
            found += chance * ((1 - missed) * accept / accept.sum() + missed * P)
    return found


def test_the_law_of_the_softmax_sampler_by_enumeration() -> None:
    aim = P * np.exp(F / BETA)
    aim /= aim.sum()
    assert aim == pytest.approx([0.29902, 0.33274, 0.36824], abs=5e-6)
    most = float((aim / P).max())
    assert most == pytest.approx(3.6824, abs=5e-5)
    assert sampler_law(4, 16, 2 * most) == pytest.approx([0.33004, 0.32942, 0.34054], abs=2e-3)
    off = [
        0.5 * np.abs(sampler_law(n, tries, c * most) - aim).sum()
        for n, tries, c in ((4, 16, 2), (8, 32, 2), (8, 32, 4))
    ]
    assert off[1] < off[0] / 2
    assert off[2] > 3 * off[1]  # raising M without more tries falls back on P


def test_acceptance_follows_its_probability() -> None:
    rng, z = np.random.default_rng(0), normalizer(np.zeros(4))
    exponents = np.log(np.array([0.0, 1.0, 2.0, 4.0]) + 1e-300)
    hits = [first_accepted(exponents, z, 4.0, rng) for _ in range(4000)]
    counts = np.bincount([i for i in hits if i is not None], minlength=4)
    assert counts.sum() == 4000  # the last is always accepted
    # 0, 1/4, 3/4·1/2, the rest: six standard deviations
    known = 4000 * np.array([0, 0.25, 0.375, 0.375])
    assert (np.abs(counts - known) <= 6 * np.sqrt(known)).all()


def test_the_correction_takes_the_bias_of_log_density_away() -> None:
    """E log ρ over all counts of N = 8 draws, against the exact log ratio."""
    exact = F[0] / BETA - math.log(float(P @ np.exp(F / BETA)))
    plain = corrected = 0.0
    for i in range(9):
        for j in range(9 - i):
            counts = np.array([i, j, 8 - i - j])
            chance = math.factorial(8) * np.prod(P**counts / [math.factorial(c) for c in counts])
            z = normalizer(np.repeat(F / BETA, counts))
            plain += chance * (F[0] / BETA - z.log_z - exact)
            corrected += chance * (log_density(F[0] / BETA, z) - exact)
    assert abs(corrected) < abs(plain) / 3


# ---- regression ----------------------------------------------------------------------------------


def test_the_design_is_ridge_regression() -> None:
    rng = np.random.default_rng(0)
    rows, targets = rng.standard_normal((7, 3)), rng.standard_normal(7)
    design = Design(3, 0.5)
    for row in rows:
        design.add(row)
    sigma = 0.5 * np.eye(3) + rows.T @ rows
    assert design.inverse == pytest.approx(np.linalg.inv(sigma), abs=1e-12)
    known = np.einsum("nd,de,ne->n", rows, np.linalg.inv(sigma), rows)
    assert design.uncertainty(rows) == pytest.approx(known)
    theta = design.fit(targets, 0.1)
    gradient = rows.T @ (rows @ theta - targets) + 0.1 * theta
    assert gradient == pytest.approx(np.zeros(3), abs=1e-12)
    assert Design(3, 0.5).fit(np.empty(0), 0.1).tolist() == [0.0] * 3


# ---- the learners --------------------------------------------------------------------------------


def test_the_spanner_finds_the_needle_with_few_rewards() -> None:
    law, beta = Needle(2, 6), balanced(6)
    found = attempt(spanner_sampling(beta=beta, coverage=law.coverage(beta)), law)
    gap = law.optimal_value(beta) - law.sequence_value(np.array(found.metadata["theta"]), beta)
    assert gap < 1e-3
    assert found.cost.rewards < 60
    assert found.cost.queries == 0  # rollouts alone


@pytest.mark.slow(2)
def test_mtss_finds_the_needle_through_prefixes() -> None:
    law, beta = Needle(2, 5), balanced(5)
    found = attempt(mtss(beta=beta), law)
    rows = [np.zeros(3) if t is None else np.array(t) for t in found.metadata["thetas"]]
    assert found.metadata["complete"]
    assert law.optimal_value(beta) - law.value(rows, beta) < 5e-3
    assert all(1 <= n <= 8 for n in found.metadata["cores"][1:])


def test_the_hard_instance_takes_draws_and_not_rewards() -> None:
    law, beta = SoftmaxHard(8, 0.02), 0.2
    few = spanner_sampling(beta=beta, coverage=2.0, pairs=2, rounds=1)
    enough = spanner_sampling(beta=beta, coverage=law.coverage(beta))
    gaps = []
    for learner in (few, enough):
        found = attempt(learner, law, seed=1)
        theta = np.array(found.metadata["theta"])
        gaps.append(law.optimal_value(beta) - law.sequence_value(theta, beta))
        assert found.cost.rewards < 40
    assert gaps[0] == pytest.approx(law.optimal_value(beta) - law.epsilon)  # y* was not drawn: P
    assert gaps[1] < 1e-2


def test_uniform_pairs_buy_every_reward() -> None:
    law, beta = Needle(2, 4), balanced(4)
    found = attempt(spanner_sampling(beta=beta, coverage=14.2, pairs=30, explore=False), law)
    assert found.cost.rewards == 60
    assert found.metadata["spanner"] == 30


def test_budgets_end_both_with_what_there_is() -> None:
    law = Needle(2, 4)
    for learner in (spanner_sampling(), mtss()):
        for budget in (Budget(rewards=3), Budget(tokens=30), Budget(hidden_states=5)):
            found = attempt(learner, law, budget=budget)
            assert found.metadata["complete"] is False
            assert found.complete
        assert attempt(learner, law, budget=Budget(tokens=0)).output is None
