"""Certificates of methods that draw independent rollouts and choose among them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from ...learners.root_start import best_of_n, first_success, self_consistency
from ...learners.sampling.adaptive_best_of_n import adaptive_best_of_n
from ...learners.sampling.pessimism import inference_time_pessimism
from ...learners.sampling.soft_best_of_n import soft_best_of_n
from ...learners.sampling.softmax_rejection import softmax_rejection
from ...limits import pessimistic_level
from ...objective import gibbs_policy, laws, pessimistic_law, power_law
from ..case import Aim, Case, given_right, tilted
from ..toys import COINS, LENGTHS, SHORT, TWO, Toy


def rollout_costs(toy: Toy, n: float, rewards: float | None = None) -> dict[str, float]:
    """Currency → expected cost of n rollouts, and as many rewards."""
    found = {"rollouts": n, "tokens": n * toy.mean_length}
    return found | {"rewards": n if rewards is None else rewards}


def best_of_n_cases() -> Iterator[Case]:
    """1[best of n], by outcome reward and by longest verified prefix."""
    yield Case(
        learner=best_of_n(n=3),
        toy=LENGTHS,
        states="P(y)/P(r = r(y))·(F(r(y))^n − F(r(y)⁻)^n)",
        law=LENGTHS.law(laws.best_of_n(LENGTHS.p, LENGTHS.rewards, 3)),
        aim=given_right(LENGTHS),
        costs=rollout_costs(LENGTHS, 3),
    )
    depth = [max(t for t in range(len(y) + 1) if y[:t] in COINS.right) for y in COINS.tree.outputs]

    def deepest(places: Sequence[int]) -> int:
        return max(places, key=depth.__getitem__)

    yield Case(
        learner=best_of_n(n=3, oracle="verifier"),
        toy=COINS,
        states="the first of those with the longest verified prefix, among all n-tuples of outputs",
        law=COINS.law(laws.of_independent_draws(COINS.p, 3, deepest)),
        costs={"rollouts": 3},
    )


def first_success_cases() -> Iterator[Case]:
    """Repeated sampling until an output passes, at most n times."""
    rate = float(LENGTHS.p @ LENGTHS.passes)
    yield Case(
        learner=first_success(batch=1, growth=1.0, max_rollouts=3),
        toy=LENGTHS,
        states="the law of best-of-n",
        law=LENGTHS.law(laws.best_of_n(LENGTHS.p, LENGTHS.rewards, 3)),
        costs=rollout_costs(LENGTHS, laws.expected_proposals(rate, 3)),
    )


def soft_best_of_n_cases() -> Iterator[Case]:
    """Approaches the KL tilt as n grows; its own law is known for every n."""
    for n in (2, 3):
        yield Case(
            learner=soft_best_of_n(n=n, beta=0.5),
            toy=COINS,
            states="P(y)·E[n·e^(r/β)/(e^(r/β) + Σ_j<n e^(r_j/β))]",
            law=COINS.law(laws.soft_best_of_n(COINS.p, COINS.rewards, n, 0.5)),
            aim=tilted(COINS, 0.5),
            costs=rollout_costs(COINS, n),
        )


def adaptive_best_of_n_cases() -> Iterator[Case]:
    """The most likely draw, and when to stop: never early on the first toy, mostly early on the other."""
    for toy, most in ((COINS, 3), (SHORT, 4)):
        law, expected = laws.adaptive_best_of_n(toy.p, 0.5, most)
        mode = toy.law((toy.p == toy.p.max()).astype(float))
        yield Case(
            learner=adaptive_best_of_n(delta=0.5, max_rollouts=most, batch=1, growth=1.0),
            toy=toy,
            states="the chain of the best draw so far, stopped by its probability",
            law=toy.law(law),
            aim=Aim("mode of P", mode),
            costs={"rollouts": expected, "tokens": expected * toy.mean_length},
        )


def self_consistency_cases() -> Iterator[Case]:
    """The most frequent text, the first on ties."""

    def vote(places: Sequence[int]) -> int:
        return max(places, key=lambda i: (places.count(i), -places.index(i)))

    yield Case(
        learner=self_consistency(n=3),
        toy=COINS,
        states="the first of the most frequent, among all n-tuples of outputs",
        law=COINS.law(laws.of_independent_draws(COINS.p, 3, vote)),
        aim=Aim("P², by the power law", COINS.law_of(power_law(COINS.tree, 2.0))),
        costs={"rollouts": 3, "tokens": 3 * COINS.mean_length},
    )


def softmax_rejection_cases() -> Iterator[Case]:
    """Exactly the tilt given acceptance, with Z known; and with Z estimated."""
    beta, bound, n = 0.5, 4.0, 2
    tilt = COINS.of(gibbs_policy(COINS.tree, COINS.rewards, beta))
    log_z = math.log(float(COINS.p @ np.exp(COINS.rewards / beta)))
    missed = (1 - 1 / bound) ** n
    proposals = laws.expected_proposals(1 / bound, n)
    known = softmax_rejection(
        beta=beta, bound=bound, n=n, log_normalizer=log_z, batch=1, growth=1.0
    )
    yield Case(
        learner=known,
        toy=COINS,
        states="(1 − (1 − 1/M)^N)·tilt + (1 − 1/M)^N·P, with Z known",
        law=COINS.law((1 - missed) * tilt + missed * COINS.p),
        aim=tilted(COINS, beta),
        costs=rollout_costs(COINS, proposals + missed, proposals),
    )
    yield Case(
        learner=known,
        toy=COINS,
        states="given acceptance: the tilt, with Z known",
        law={**COINS.law((1 - missed) * tilt), None: missed},
        view=lambda run: (
            run.attempt.output.tokens
            if run.attempt.output is not None and run.attempt.metadata["accepted"]
            else None
        ),
    )
    yield Case(
        learner=softmax_rejection(beta=beta, bound=bound, n=2, batch=1, growth=1.0),
        toy=SHORT,
        states="the mixture of tilts and P over all estimates Ẑ of N draws",
        law=SHORT.law(laws.softmax_rejection(SHORT.p, SHORT.rewards, 2, beta, bound)),
        aim=tilted(SHORT, beta),
    )


def pessimism_cases() -> Iterator[Case]:
    """The χ² tilt, with its level known and estimated; two-valued rewards have a closed form."""
    for beta in (0.2, 1.0):
        level = pessimistic_level(TWO.rewards, TWO.p, beta)
        n, rate = 12, beta / (1.0 - level)
        law = TWO.of(pessimistic_law(TWO.tree, TWO.rewards, beta))
        missed = (1 - rate) ** n
        yield Case(
            learner=inference_time_pessimism(n=n, beta=beta, level=level, batch=1, growth=1.0),
            toy=TWO,
            states=f"with λ known, π(r = 1) = {law[0]:.2f} but for (1 − 1/M)^N·P",
            law=TWO.law((1 - missed) * law + missed * TWO.p),
            aim=Aim(f"χ² tilt, β = {beta:g}", TWO.law(law)),
            costs={"rewards": laws.expected_proposals(rate, n)},
        )
    law = SHORT.of(pessimistic_law(SHORT.tree, SHORT.rewards, 0.5))
    yield Case(
        learner=inference_time_pessimism(n=2, beta=0.5, batch=1, growth=1.0),
        toy=SHORT,
        states="the mixture over all estimates λ of N draws",
        law=SHORT.law(laws.pessimism(SHORT.p, SHORT.rewards, 2, 0.5)),
        aim=Aim("χ² tilt, β = 0.5", SHORT.law(law)),
    )
