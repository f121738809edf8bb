"""PCE: policy covers by two-context regression, in episodes without a return."""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from ...access.learner import learner
from ...access.session import Session
from ...contract import Control
from ...errors import BudgetExceeded
from ...types import Finding, FloatArray
from ..common import COUNT, FLAG, POSITIVE
from .covers import Covers, Policy, play
from .environment import firsts, lock_of, needs


@learner(
    requires=needs(
        Control.EPISODE,
        pairs=COUNT.or_none,
        episodes=COUNT,
        width=POSITIVE,
        two_contexts=FLAG,
        plays=COUNT,
    )
)
async def pce(
    session: Session,
    *,
    actions: int = 4,
    goods: int = 2,
    noise: int = 6,
    base: int = 2,
    decoders: int = 16,
    class_seed: int = 0,
    episodes: int = 160,
    pairs: int | None = None,
    width: float = 0.25,
    two_contexts: bool = True,
    plays: int = 1,
) -> Finding:
    """Cover every layer of a block MDP by policies, from regressions on two observations, by episodes alone.

    Pseudo-code (after Rohatgi and Foster 2025, arXiv 2502.08632, with practical sizes)::

        Ψ_0 = {the empty policy}
        for h = 0 … H−2:
          N episodes: x ~ policies of Ψ_h, a uniform, x' the next observation; and N more for x''
          f ← regression of 1 on (x, a, x') and 0 on (x, a, x'')             (two contexts: φ(x), φ'(x'))
          w(x') ← f_a(cell, φ'(x')) for all cells of φ and all a
          centres ← the x' whose w differs by more than γ from those of all centres before
          Ψ_{h+1} ← PSDP on the reward max(0, 1 − |w(x') − w(centre)|/γ), for each centre
        return PSDP on the outcome reward                                    (PSDP: see pcr)

    f_a(x, x') estimates P(x' | x, a)/(P(x' | x, a) + μ(x')): observations that are reached alike from
    everywhere are of states that no policy need tell apart.

    Args:
        actions: A.
        goods: G, so S = G + 1 latent states.
        noise: n, bits of noise of an observation.
        base: B, digits of a block.
        decoders: |Φ|, members of the public class of each layer.
        class_seed: names that class.
        episodes: N_p of each regression of PSDP.
        pairs: N; ``None``: 2·N_p.
        width: γ.
        two_contexts: false: regress a alone on x', one context, w(x') = P̂(a | x'); with a uniform
            policy besides those found. Where every action leads to a good state from some good
            state alike (G = A), that says nothing.
        plays: episodes that the learned policy plays at the end; the last is the output.
    """
    env, known = lock_of(session, goods, actions, noise, base, decoders, class_seed)
    covers = Covers(env, known, episodes)
    policy: Policy | None = None
    with suppress(BudgetExceeded):
        for h in range(env.layers - 1):
            codes, weights = await _weights(covers, h, pairs or 2 * episodes, two_contexts)
            await covers.extend(h, codes, weights, width)
            if not two_contexts:
                codes_of = env.shape.codes
                covers.cover[-1].append([env.random_actions(codes_of) for _ in range(h + 1)])
        policy = await covers.optimize(env.layers - 1, None)
        learned = covers.record(policy=[a.tolist() for a in policy])
        found = await play(env, policy, plays)
        return Finding(env.last, {**learned, "reward": float(np.mean(found))})
    return Finding(env.last, covers.record())


async def _weights(
    covers: Covers, h: int, n: int, two_contexts: bool
) -> tuple[list[int], FloatArray]:
    """Observations of layer h + 1, and what the regression says of every code there."""
    env = covers.env
    A, labels = env.shape.actions, covers.labels[h + 1]
    places, acts = await covers.roll_in(h, n), env.random_actions(n)
    before = [place.code for place in places]
    codes = [place.code for place in firsts(await env.step(places, acts.tolist()))]
    if not two_contexts:
        fit = covers.oracle.one_context(labels, codes, np.eye(A)[acts])
        return codes, fit.cells[labels[fit.member]]
    others = await covers.roll_in(h, n)
    apart = [p.code for p in firsts(await env.step(others, env.random_actions(n).tolist()))]
    fit = covers.oracle.two_contexts(
        covers.labels[h],
        labels,
        before * 2,
        np.tile(acts, 2),
        codes + apart,
        np.repeat([1.0, 0.0], n),
        A,
    )
    by_cell = fit.cells[..., 0].transpose(2, 0, 1).reshape(env.shape.states, -1)
    return codes, by_cell[labels[fit.member]]
