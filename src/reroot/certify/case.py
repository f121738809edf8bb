"""What a certificate is: a learner on a toy, what its law should be, and how far it is from that."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..access.learner import BoundLearner, LearnerFactory
from ..contract import Contract, Sampling
from ..objective import conditioned_law, gibbs_policy
from ..testing import EnumeratedRun
from .toys import Law, Tokens, Toy

EXACT = 1e-10
"""Largest total variation of two laws that are equal but for rounding."""

View = Callable[[EnumeratedRun], Tokens | None]


@dataclass(frozen=True)
class Aim:
    """A law that a method approaches, or is compared with: named, and told how far it is."""

    name: str
    law: Law


def given_right(toy: Toy) -> Aim:
    """P, given that the output passes."""
    return Aim("P given right", toy.law_of(conditioned_law(toy.tree, toy.passes)))


def tilted(toy: Toy, beta: float | None) -> Aim:
    """The KL tilt of P by the rewards; without β, P given the reward."""
    if beta is None:
        return Aim("P given r", toy.law_of(conditioned_law(toy.tree, toy.rewards)))
    tilt = gibbs_policy(toy.tree, toy.rewards, beta)
    return Aim(f"KL tilt, β = {beta:g}", toy.law_of(tilt))


@dataclass(frozen=True, kw_only=True)
class Case:
    """One statement about a method, to be checked.

    Attributes:
        learner: the learner with its parameters.
        toy: where it is checked.
        states: what the law is said to be, in words.
        law: that law; ``None``: nothing is stated, distances to the aim are measured.
        aim: the law that the method's output approximates, if it is another one.
        costs: currency → expected cost, where there is a formula.
        beta: β of the value oracle.
        view: what of a run the law is about (default: the output).
        how: how it is checked.
    """

    learner: BoundLearner
    toy: Toy
    states: str
    law: Law | None
    aim: Aim | None = None
    costs: Mapping[str, float] = field(default_factory=dict[str, float])
    beta: float | None = None
    view: View | None = None
    how: ClassVar[str] = "enumerated"

    @property
    def method(self) -> str:
        """Name of the learner in the registry."""
        return self.learner.name

    @property
    def grants(self) -> Contract:
        """Exactly what the learner requires, draws at temperature 1."""
        needs = self.learner.requires
        return Contract(needs.control, needs.report, Sampling(), needs.oracles)


@dataclass(frozen=True, kw_only=True)
class Chain(Case):
    """A Markov chain, checked step by step: the law of one step leaves the target as it is.

    ``learner`` runs the chain as users do. ``step`` makes one step from a given state, which the
    certificate asks at every state; ``steps`` of them from ``start`` must be what ``learner`` does.

    Attributes:
        step: a learner with one parameter ``state``, granted chosen control.
        stationary: state → probability that a step must leave as it is.
        start: state → probability at which ``learner`` starts its steps.
        steps: steps of ``learner`` between its looks; ``read`` tells outputs from other states.
        read: the law of states at a look → the law of the output (``None``: no output).
    """

    step: LearnerFactory
    stationary: Mapping[Tokens, float]
    start: Mapping[Tokens, float]
    steps: int
    read: Callable[[Mapping[Tokens, float]], Law]
    how: ClassVar[str] = "per step"


@dataclass(frozen=True, kw_only=True)
class Weighted(Case):
    """A properly weighted sample: E[Ẑ·1[output = y]] = P(y)·τ(y), with log Ẑ in the notes.

    Attributes:
        log_z: log E_P[τ].
    """

    log_z: float
    how: ClassVar[str] = "weighted"


@dataclass(frozen=True, kw_only=True)
class Sampled(Case):
    """A law whose randomness is too much to enumerate: many runs, and an interval.

    Attributes:
        samples: runs.
    """

    samples: int = 2_000
    how: ClassVar[str] = "sampled"


def kl_divergence(p: Mapping[Any, float], q: Mapping[Any, float]) -> float:
    """KL(p ‖ q), nats; inf where p has mass that q has not."""
    total = 0.0
    for y, mass in p.items():
        if mass > 0:
            other = q.get(y, 0.0)
            if other <= 0:
                return math.inf
            total += mass * math.log(mass / other)
    return max(0.0, total)


def largest_ratio(p: Mapping[Any, float], q: Mapping[Any, float]) -> float:
    """max p(y)/q(y): how much too often an output can come."""
    found = 0.0
    for y, mass in p.items():
        if mass > 1e-300:
            other = q.get(y, 0.0)
            found = max(found, mass / other if other > 0 else math.inf)
    return found
