"""Sequential Monte Carlo: particles that grow, are weighed by twists, and resampled."""

from __future__ import annotations

import math
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from ...access.learner import Params, learner
from ...access.session import Session
from ...contract import Contract, Control, Report
from ...errors import BudgetExceeded, InvalidInput
from ...types import Finding, FloatArray, Prefix, Query
from ..common import COUNT, affordable, as_many, check, finished
from .choices import choose, relative
from .resampling import RESAMPLERS, effective_size
from .twists import Twists, check_twist


def _requires(params: Params) -> Contract:
    check(params, particles=COUNT.or_none, stride=COUNT)
    oracles = check_twist(params)
    ess, proposal = params["ess"], params["proposal"]
    if isinstance(ess, bool) or not isinstance(ess, (int, float)) or not 0 <= ess <= 1:
        raise InvalidInput(f"ess must lie in [0, 1], got {ess!r}")
    if params["resampler"] not in RESAMPLERS:
        known = ", ".join(RESAMPLERS)
        raise InvalidInput(f"resampler must be one of {known}, got {params['resampler']!r}")
    if proposal not in ("base", "twisted"):
        raise InvalidInput(f"proposal must be 'base' or 'twisted', got {proposal!r}")
    if proposal == "base":
        return Contract(Control.VISITED, Report.SAMPLE, oracles=oracles)
    if params["stride"] != 1:
        raise InvalidInput(f"twisted proposals go token by token, got stride = {params['stride']}")
    return Contract(Control.RESET, Report.FULL, oracles=oracles)


@learner(requires=_requires)
async def smc(
    session: Session,
    *,
    particles: int | None = 8,
    beta: float | None = None,
    twist: str | None = "verifier",
    proposal: str = "base",
    resampler: str = "systematic",
    ess: float = 0.5,
    stride: int = 1,
    decay: float = 1.0,
    samples: int = 4,
) -> Finding:
    """One of n particles steered toward P·τ, with an unbiased estimate of Z = E_P[τ].

    Pseudo-code (twisted SMC, Zhao et al. 2024, arXiv 2404.17546; τ = e^(r/β), or r without β)::

        n times ∅, with weights 1;  log Ẑ ← 0
        until every particle is an output:
            base:    u' ~ P(· | u), some tokens;    weight ×= ψ(u') / ψ(u)
            twisted: u' = uc ∝ P(c | u)·ψ(uc);      weight ×= Σ_c P(c | u)·ψ(uc) / ψ(u)
            when the effective size of the weights is at most ess·n:
                log Ẑ += log mean weight;  resample;  weights ← 1
        log Ẑ += log mean weight;  return a particle drawn by its weight

    ψ(∅) counts as 1 and ψ(y) = τ(y). With any positive twists E[Ẑ·1[output = y]] = P(y)·τ(y): so
    E[Ẑ] = Z, and the law of the output weighted by Ẑ is the target exactly, for every n. Without twist
    and resampling it is importance sampling, soft best-of-n. The note ``log_normalizer`` is log Ẑ
    (null: no particle survived, and the output is one of them all the same).

    Args:
        particles: n; ``None``: as many as the budget can carry to the horizon; and where outputs end
            early, more such clouds, of which one is chosen by its Ẑ (the note is the log of their mean).
        beta: β, in reward per nat; ``None``: the law conditioned on the reward.
        twist: ψ before the end (see ``twists.TWISTS``); one that is 0 on the way to a right output
            loses it.
        proposal: ``"base"`` needs visited/sample, ``"twisted"`` reset/full and the twist of all children.
        resampler: multinomial, systematic, stratified or residual.
        ess: resample at most at this share of the effective size; 1: after each step, 0: never.
        stride: tokens of a step, for base proposals.
        decay, samples: of the twist.
    """
    psi = Twists(session, twist, beta, decay, samples)
    each = _each(session, twist, stride, samples)
    n = as_many(session, particles, "particles", **each)
    found: list[tuple[Prefix, float]] = []
    while n:
        cloud = _Cloud([session.root] * n, np.zeros(n), np.zeros(n))
        with suppress(BudgetExceeded):
            while going := cloud.going(session):
                if proposal == "twisted":
                    cloud = await _twisted(session, cloud, going, psi)
                else:
                    cloud = await _grown(session, cloud, going, stride)
                    cloud = await _weighed(cloud, going, psi)
                cloud = _resampled(session, cloud, resampler, ess)
        found.append(await _drawn(session, cloud))
        n = affordable(session, n, rewards=1, **each) if particles is None else 0
    logs = np.array([log_z for _, log_z in found])
    weights = relative(logs)
    output = found[choose(session, weights)][0] if weights.any() else found[0][0]
    log_z = float(np.logaddexp.reduce(logs)) - math.log(len(found))
    return Finding(output, {"log_normalizer": log_z if weights.any() else None})


def _each(session: Session, twist: str | None, stride: int, samples: int) -> dict[str, int]:
    """What carrying one particle to the horizon costs at most; the twist may roll out at each step."""
    steps = math.ceil(session.horizon / stride)
    more = samples * (steps - 1) if twist == "rollouts" else 0
    return {"tokens": session.horizon * (1 + more), "queries": steps + more}


@dataclass(frozen=True, slots=True, eq=False)
class _Cloud:
    """Particles, their log-weights since the last resampling, their log ψ, and log Ẑ up to there."""

    particles: list[Prefix]
    log_weights: FloatArray
    log_twists: FloatArray
    log_z: float = 0.0

    def going(self, session: Session) -> list[int]:
        """The particles that are alive and no outputs yet."""
        pairs = enumerate(zip(self.particles, self.log_weights, strict=True))
        return [i for i, (u, w) in pairs if w > -np.inf and not session.is_complete(u)]

    @property
    def log_mean(self) -> float:
        return float(np.logaddexp.reduce(self.log_weights)) - math.log(len(self.particles))


def _resampled(session: Session, cloud: _Cloud, resampler: str, ess: float) -> _Cloud:
    weights, n = relative(cloud.log_weights), len(cloud.particles)
    if not weights.any():
        return cloud
    weights = weights / weights.sum()
    fresh = not cloud.log_weights.any()  # equal weights: nothing to gain
    if fresh or effective_size(weights) > ess * n:
        return cloud
    chosen = RESAMPLERS[resampler](session, weights)
    particles = [cloud.particles[i] for i in chosen]
    return _Cloud(particles, np.zeros(n), cloud.log_twists[chosen], cloud.log_z + cloud.log_mean)


async def _grown(session: Session, cloud: _Cloud, going: list[int], stride: int) -> _Cloud:
    """Every particle that goes on grows by draws of P; equal ones are asked together."""
    asked = Counter(cloud.particles[i] for i in going)
    queries = [Query(u, n, stride, Report.SAMPLE) for u, n in asked.items()]
    replies = await session.ask(queries)
    grown = {u: iter(reply.outputs()) for u, reply in zip(asked, replies, strict=True)}
    particles = list(cloud.particles)
    for i in going:
        particles[i] = next(grown[particles[i]])
    return replace(cloud, particles=particles)


async def _weighed(cloud: _Cloud, grown: list[int], twists: Twists) -> _Cloud:
    """The weights of particles after they have grown."""
    weights, logs = cloud.log_weights.copy(), cloud.log_twists.copy()
    logs[grown] = await twists.log([cloud.particles[i] for i in grown])
    weights[grown] += logs[grown] - cloud.log_twists[grown]
    return replace(cloud, log_weights=weights, log_twists=logs)


async def _twisted(session: Session, cloud: _Cloud, going: list[int], twists: Twists) -> _Cloud:
    """Every particle that goes on grows by one token of the twisted law P(c | u)·ψ(uc)."""
    distinct = list(dict.fromkeys(cloud.particles[i] for i in going))
    laws = [r.laws for r in await session.ask(Query(u, 1, 1, Report.FULL) for u in distinct)]
    found: dict[Prefix, tuple[list[Prefix], FloatArray]] = {}
    for u, law in zip(distinct, laws, strict=True):
        assert law is not None
        tokens = np.flatnonzero(law[0, 0] > -np.inf)
        found[u] = [u.append(t) for t in tokens.tolist()], law[0, 0, tokens]
    await twists.log([c for children, _ in found.values() for c in children])  # all at once
    particles = list(cloud.particles)
    weights, logs = cloud.log_weights.copy(), cloud.log_twists.copy()
    for i in going:
        children, law = found[particles[i]]
        ahead = await twists.log(children)
        weights[i] += float(np.logaddexp.reduce(law + ahead)) - logs[i]
        if weights[i] > -np.inf:
            at = choose(session, relative(law + ahead))
            particles[i], logs[i] = children[at], ahead[at]
    return _Cloud(particles, weights, logs, cloud.log_z)


async def _drawn(session: Session, cloud: _Cloud) -> tuple[Prefix, float]:
    """A particle by its weight, and log Ẑ; where none survived, or the budget ended it, log Ẑ is −inf."""
    weights = relative(cloud.log_weights)
    done = np.array([session.is_complete(u) for u in cloud.particles])
    survived = bool(weights.any() and done[weights > 0].all())
    if not survived and done.any():
        weights = np.where(done, np.maximum(weights, 1e-300), 0.0)
    output = cloud.particles[choose(session, weights if weights.any() else np.ones(len(weights)))]
    return await finished(session, output), cloud.log_z + cloud.log_mean if survived else -math.inf
