"""Certificates of Markov chains: each step must leave the target as it is."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping

import numpy as np

from ...access.learner import LearnerFactory, learner
from ...access.session import Session
from ...contract import Contract, Control, Oracle, Report
from ...learners.sampling.power_sampling import power_move, power_sampling
from ...learners.sampling.suffixes import Scored
from ...learners.sampling.twists import Twists
from ...learners.sampling.vgb import VgbWalk, vgb
from ...objective import power_law, temperature_law
from ...tasks.judges import estimate
from ...testing import EnumeratedRun
from ...types import Output, Prefix
from ..case import Aim, Case, Chain, Sampled, tilted
from ..toys import COINS, LENGTHS, LONGER, PRINTED, SHORT, Law, Tokens, Toy


def power_sampling_cases() -> Iterator[Case]:
    """P^α on outputs of any length; with draws of P and with tempered proposals as well."""
    yield _power(LENGTHS, 2.0, None)
    yield _power(LENGTHS, 4.0, None)
    yield _power(PRINTED, 2.0, None)
    yield _power(SHORT, 2.0, 0.5)
    yield Sampled(
        learner=power_sampling(alpha=2.0, moves=12, block=2),
        toy=LONGER,
        states="P^2, nearly, after 12 moves in each of three blocks",
        law=LONGER.law_of(power_law(LONGER.tree, 2.0)),
        aim=Aim("P", LONGER.law(LONGER.p)),
    )


def _power(toy: Toy, alpha: float, temperature: float | None) -> Case:
    target = toy.law_of(power_law(toy.tree, alpha))
    horizon = toy.generator.horizon
    proposal = toy.p if temperature is None else toy.of(temperature_law(toy.tree, temperature))
    return Chain(
        learner=power_sampling(alpha=alpha, moves=1, temperature=temperature),
        toy=toy,
        states=f"P^{alpha:g}, which every move leaves as it is",
        law=target,
        aim=Aim(f"P^{alpha:g}, after one move", target),
        step=power_step(alpha, temperature, horizon),
        stationary=_plain(target),
        start=_plain(toy.law(proposal)),
        steps=1,
        read=lambda states: {**states},
    )


def power_step(alpha: float, temperature: float | None, horizon: int) -> LearnerFactory:
    """One move from a given output."""

    @learner(requires=Contract(Control.CHOSEN, Report.LOGPROB))
    async def move(session: Session, *, state: Tokens) -> Prefix:
        x = await scored(session, state, temperature)
        return (await power_move(session, x, alpha, horizon, temperature)).tokens

    return move


async def scored(session: Session, state: Tokens, temperature: float | None) -> Scored:
    """A given output with the log-probabilities of its tokens."""
    logp = await session.score(session.root, state)
    if temperature is None:
        return Scored(Prefix(state), logp, logp)
    laws = np.array([await session.law(Prefix(state[:t])) for t in range(len(state))])
    cooled = laws / temperature
    cooled -= np.logaddexp.reduce(cooled, axis=1, keepdims=True)
    return Scored(Prefix(state), logp, cooled[np.arange(len(state)), list(state)])


def vgb_cases() -> Iterator[Case]:
    """The target at the leaves, whatever the values inside are."""
    yield vgb_case(LENGTHS, "value", 0.5)
    yield vgb_case(COINS, "verifier", None)
    yield vgb_case(COINS, "value", None)
    yield _vgb_whole()


def vgb_case(toy: Toy, twist: str, beta: float | None) -> Case:
    """The walk on one toy."""
    target, steps = tilted(toy, beta), 3
    return Chain(
        learner=vgb(beta=beta, twist=twist, steps=steps, checks=1, complete=False),
        toy=toy,
        states=f"{target.name}, at the leaves of the stationary law"
        + (", values off by a factor 1.5" if toy.noise and twist == "value" else ""),
        law=target.law,
        aim=Aim(f"{target.name}, after {steps} steps", target.law),
        beta=beta,
        step=vgb_step(twist, beta),
        stationary=vgb_stationary(toy, twist, beta),
        start={(): 1.0},
        steps=steps,
        read=lambda law: _leaves(toy, law),
        view=_leaf,
    )


def vgb_step(twist: str, beta: float | None) -> LearnerFactory:
    """One step of the walk from a given prefix."""
    oracles = [Oracle.REWARD, Oracle.VERIFIER if twist == "verifier" else Oracle.VALUE]

    @learner(requires=Contract(Control.CHOSEN, Report.FULL, oracles=oracles))
    async def step(session: Session, *, state: Tokens) -> Prefix:
        walk = VgbWalk(session, Twists(session, twist, beta, 1.0, 1), None)
        return await walk.step(Prefix(state))

    return step


def vgb_stationary(toy: Toy, twist: str, beta: float | None) -> dict[Tokens, float]:
    """∝ P(v)·V̂(v) + Σ_c P(c)·V̂(c) inside (the first term not at ∅), P(y)·τ(y) at outputs."""
    problem = toy.problem(beta)
    tau = dict(
        zip(
            toy.tree.outputs,
            toy.rewards if beta is None else np.exp(toy.rewards / beta),
            strict=True,
        )
    )
    p = dict(zip(toy.tree.outputs, toy.p, strict=True))
    reach = dict(zip(toy.tree.prefixes, toy.tree.visits(), strict=True)) | p

    def value(u: Tokens) -> float:
        if u in tau:
            return float(tau[u])
        if twist == "verifier":
            return float(u in toy.right)
        assert problem.value is not None
        return estimate(problem, Output(u, "", False))

    edges = {u: reach[u] * value(u) for u in reach if u}  # of the edge to the parent
    weights = dict.fromkeys(reach, 0.0)
    for u, edge in edges.items():
        weights[u] += edge
        weights[u[:-1]] += edge
    total = math.fsum(weights.values())
    return {u: float(w / total) for u, w in weights.items()}


def _vgb_whole() -> Case:
    return Sampled(
        learner=vgb(beta=None, twist="value", steps=40),
        toy=COINS,
        states="P given r, nearly, at the first look after 40, 80, … steps that sees a leaf",
        law=tilted(COINS, None).law,
        aim=Aim("P", COINS.law(COINS.p)),
    )


def _plain(law: Law) -> dict[Tokens, float]:
    return {y: v for y, v in law.items() if y is not None and v > 0}


def _leaves(toy: Toy, law: Mapping[Tokens, float]) -> Law:
    found: dict[Tokens | None, float] = defaultdict(float)
    outputs = set(toy.tree.outputs)
    for state, mass in law.items():
        found[state if state in outputs else None] += mass
    return found


def _leaf(run: EnumeratedRun) -> Tokens | None:
    output = run.attempt.output
    assert output is not None
    return output.tokens if run.attempt.metadata["leaf"] else None
