"""The reach Pr_P(pass) of a problem along a sound process verifier, down to 1e-12 and below."""

from __future__ import annotations

import math
from collections import Counter
from contextlib import suppress

import numpy as np

from ...access.learner import learner
from ...access.session import Session
from ...errors import BudgetExceeded
from ...types import Finding, Prefix, Query
from ..common import COUNT, POSITIVE, checked

_LEAST = 24
"""Particles of a step, at least."""
_SCALE = 100.0
"""Particles of a step where half of the draws are accepted."""
_BATCH = 8
"""Draws of the pilot that are asked for together, for each success that is missing."""


@learner(
    requires=checked(
        "visited/sample+verifier",
        successes=COUNT,
        clouds=COUNT,
        most_clouds=COUNT,
        width=POSITIVE,
        most_draws=COUNT,
    )
)
async def reach_clouds(
    session: Session,
    *,
    successes: int = 16,
    clouds: int = 8,
    most_clouds: int = 64,
    width: float = 0.3,
    most_draws: int = 4096,
) -> Finding:
    """Independent unbiased estimates of the probability that the verifier accepts a rollout all along.

    Pseudo-code (sequential Monte Carlo, sized by a pilot with fixed successes)::

        pilot:  S ← {∅};  at each t draw tokens after random members of S until m are accepted, N_t draws
                ŝ_t = (m − 1)/(N_t − 1);  S ← the m
        cloud:  S ← {∅};  at each t continue n_t members of S, spread evenly, n_t ∝ √((1 − ŝ_t)/ŝ_t);
                S ← the k_t that are accepted;  Ẑ = Π k_t/n_t
        8 clouds, doubled until t·r ≤ width, r the relative error of their mean

    Complete outputs stay in S. The sizes n_t come from the pilot alone, so E Ẑ is the reach for every n_t; a
    relative error ε costs about (Σ_t √((1 − s_t)/s_t))²/ε² tokens, which grows like log²(1/reach).

    The notes: ``log_estimates`` in nats (null: no particle survived), ``acceptance`` ŝ_t of the pilot, and
    ``stuck``, the position at which ``most_draws`` gave no ``successes`` (null: none). The output is an accepted
    one, if there is one.

    Args:
        successes: m ≥ 2.
        clouds: of the first batch.
        most_clouds: at the most.
        width: half-width of the interval of log reach that is aimed at. Where the budget is short, clouds are smaller, then fewer.
        most_draws: of the pilot at one position.
    """
    pilot, stuck, found = await _pilot(session, max(successes, 2), most_draws)
    estimates: list[float | None] = []
    if stuck is None:
        wanted, scale = _affordable(session, pilot, clouds)
        with suppress(BudgetExceeded):
            while len(estimates) < wanted:
                sizes = [_particles(s, scale) for s in pilot]
                more, one = await _clouds(session, sizes, wanted - len(estimates))
                estimates, found = estimates + more, found or one
                if not _sharp(estimates, width):
                    wanted = min(2 * wanted, most_clouds)
    metadata = {"log_estimates": estimates, "acceptance": pilot, "stuck": stuck}
    return Finding(found, metadata)


def _particles(acceptance: float, scale: float) -> int:
    """n_t: where little is accepted, more."""
    return max(_LEAST, math.ceil(scale * math.sqrt(max(1.0 - acceptance, 0.1) / acceptance)))


def _affordable(session: Session, pilot: list[float], clouds: int) -> tuple[int, float]:
    """How many clouds of which scale the budget carries: smaller ones before fewer, and two at least."""
    left = session.remaining("tokens")
    if left is None:
        return clouds, _SCALE
    for scale in _SCALE * 0.5 ** np.arange(0, 3, 0.25):
        if clouds * sum(_particles(s, scale) for s in pilot) <= left:
            return clouds, float(scale)
    fits = left // max(1, sum(_particles(s, 0.0) for s in pilot))
    return (int(fits) if fits >= 2 else 0), 0.0


def _sharp(estimates: list[float | None], width: float) -> bool:
    """Whether the mean of the estimates is known to ± ``width``, two standard errors."""
    alive = [x for x in estimates if x is not None]
    if not alive or len(estimates) < 2:
        return False
    z = np.array([0.0 if x is None else math.exp(x - max(alive)) for x in estimates])
    return 2.0 * float(z.std(ddof=1)) <= width * float(z.mean()) * math.sqrt(len(z))


async def _pilot(
    session: Session, successes: int, most_draws: int
) -> tuple[list[float], int | None, Prefix | None]:
    """(ŝ of each step, where it got stuck, an accepted output)."""
    survivors, rates = [session.root], list[float]()
    while any(not session.is_complete(u) for u in survivors):
        accepted, draws = list[Prefix](), 0
        try:
            while len(accepted) < successes and draws < most_draws:
                batch = min(_BATCH * (successes - len(accepted)), most_draws - draws)
                if not draws:  # most positions are easy
                    batch = successes
                starts = [survivors[i] for i in session.rng.integers(len(survivors), size=batch)]
                for grown, holds in await _grown(session, starts):
                    draws += 1
                    accepted += [grown] * holds
                    if len(accepted) == successes:
                        break
        except BudgetExceeded:
            return rates, len(rates), None
        if len(accepted) < successes:
            return rates, len(rates), None
        rates.append((successes - 1) / (draws - 1))
        survivors = accepted
    return rates, None, survivors[0]


async def _clouds(
    session: Session, sizes: list[int], count: int
) -> tuple[list[float | None], Prefix | None]:
    """(log Ẑ of each cloud, ``None`` where it died; an accepted output). They grow side by side."""
    clouds: dict[int, list[Prefix]] = {i: [session.root] for i in range(count)}
    logs, t = [0.0] * count, 0
    while any(not session.is_complete(u) for survivors in clouds.values() for u in survivors):
        n = sizes[min(t, len(sizes) - 1)]
        starts = [u for survivors in clouds.values() for u in _spread(session, survivors, n)]
        grown = await _grown(session, starts)
        for place, i in enumerate(list(clouds)):
            here = grown[place * n : (place + 1) * n]
            clouds[i] = [u for u, holds in here if holds]
            if not clouds[i]:
                del clouds[i]
                continue
            logs[i] += math.log(len(clouds[i]) / n)
        t += 1
    found = next((survivors[0] for survivors in clouds.values()), None)
    return [logs[i] if i in clouds else None for i in range(count)], found


def _spread(session: Session, survivors: list[Prefix], n: int) -> list[Prefix]:
    """n of the survivors, each ⌊n/k⌋ or ⌈n/k⌉ times (systematic resampling)."""
    places = (np.arange(n) + session.rng.random()) * len(survivors) / n
    return [survivors[i] for i in np.minimum(places.astype(int), len(survivors) - 1)]


async def _grown(session: Session, starts: list[Prefix]) -> list[tuple[Prefix, bool]]:
    """Each start with one more token, and whether the verifier accepts it; outputs stay as they are."""
    counts = Counter(starts)  # few are distinct where few are accepted
    wanted = {u: n for u, n in counts.items() if not session.is_complete(u)}
    replies = await session.ask(Query(u, n, 1, session.contract.report) for u, n in wanted.items())
    children = {
        (u, t): u.append(t)
        for u, reply in zip(wanted, replies, strict=True)
        for t in np.unique(reply.first_tokens()).tolist()
    }
    holds = await session.verify_all(list(children.values()))
    told = dict(zip(children, zip(children.values(), holds, strict=True), strict=True))
    drawn = {
        u: iter([told[u, t] for t in reply.first_tokens().tolist()])
        for u, reply in zip(wanted, replies, strict=True)
    }
    return [next(drawn[u]) if u in drawn else (u, True) for u in starts]
