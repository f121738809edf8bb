"""PCR: policy covers by one-context regression, with resets."""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from ...access.learner import learner
from ...access.session import Session
from ...contract import Control
from ...errors import BudgetExceeded
from ...types import Finding
from ..common import COUNT, POSITIVE
from .covers import Covers, Policy, play
from .environment import firsts, lock_of, needs


@learner(
    requires=needs(
        Control.RESET,
        references=COUNT.or_none,
        shared=COUNT.or_none,
        episodes=COUNT,
        width=POSITIVE.or_none,
        plays=COUNT,
    )
)
async def pcr(
    session: Session,
    *,
    actions: int = 4,
    goods: int = 2,
    noise: int = 6,
    base: int = 2,
    decoders: int = 16,
    class_seed: int = 0,
    episodes: int = 160,
    references: int | None = None,
    shared: int | None = None,
    width: float | None = None,
    plays: int = 1,
) -> Finding:
    """Cover every layer of a block MDP by policies, from regressions on one observation, by resets.

    Pseudo-code (after Rohatgi and Foster 2025, arXiv 2502.08632, with practical sizes; one pass)::

        Ψ_0 = {the empty policy}
        for h = 0 … H−2:
          x_1 … x_m ~ policies of Ψ_h                                        (references, layer h)
          N times: j, a uniform; reset to x_j, take a, see x'
          ŵ(x') ← regression of the one-hot (j, a) on x'                     (one context, m·A outputs)
          centres ← the x' whose ŵ differs by more than γ from those of all centres before
          Ψ_{h+1} ← PSDP on the reward max(0, 1 − |ŵ(x') − ŵ(centre)|/γ), for each centre
        return PSDP on the outcome reward
        PSDP on R at layer h+1: for l = h … 0: N_p episodes: Ψ_l up to layer l, a uniform action,
          then the policy so far; regress R on (x_l, a), take the best action of each cell

    It draws exactly Σ_h [m(h+1) + N + k_h·N_p(h+1)(h+2)] + N_p·H(H+1) observations, k_h centres at h,
    before it plays. A width of 2/m or more takes good states for the bad one.

    Args:
        actions: A.
        goods: G, so S = G + 1 latent states.
        noise: n, bits of noise of an observation.
        base: B, digits of a block.
        decoders: |Φ|, members of the public class of each layer.
        class_seed: names that class.
        episodes: N_p.
        references: m; ``None``: 4A.
        shared: N; ``None``: 4·N_p.
        width: γ; ``None``: 1/(2m).
        plays: episodes that the learned policy plays at the end; the last is the output.
    """
    env, known = lock_of(session, goods, actions, noise, base, decoders, class_seed)
    m = references or 4 * actions
    n, gamma = shared or 4 * episodes, width or 0.5 / m
    covers = Covers(env, known, episodes)
    policy: Policy | None = None
    with suppress(BudgetExceeded):
        for h in range(env.layers - 1):
            places = await covers.roll_in(h, m)
            which, acts = env.rng.integers(m, size=n), env.random_actions(n)
            after = firsts(await env.step([places[j] for j in which], acts.tolist()))
            codes = [place.code for place in after]
            labels = known.labels[h + 1]
            fit = covers.oracle.one_context(
                labels, codes, np.eye(m * actions)[which * actions + acts]
            )
            await covers.extend(h, codes, fit.cells[labels[fit.member]], gamma)
        policy = await covers.optimize(env.layers - 1, None)
        learned = covers.record(policy=[a.tolist() for a in policy])
        found = await play(env, policy, plays)
        return Finding(env.last, {**learned, "reward": float(np.mean(found))})
    return Finding(env.last, covers.record())
