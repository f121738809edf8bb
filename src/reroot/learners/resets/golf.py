"""GOLF: optimism over value functions by excess loss, in episodes without a return."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from ...access.learner import learner
from ...access.session import Session
from ...contract import Control
from ...errors import BudgetExceeded
from ...types import Finding, FloatArray
from ..common import COUNT, POSITIVE
from .environment import Environment, Here, lock_of, needs
from .optimism import Optimism, codes_of
from .sim_golf import FAIL


@learner(requires=needs(Control.EPISODE, fail=FAIL, beta=POSITIVE, episodes=COUNT))
async def golf(
    session: Session,
    *,
    actions: int = 4,
    goods: int = 2,
    noise: int = 6,
    base: int = 2,
    decoders: int = 16,
    class_seed: int = 0,
    fail: float = 0.0,
    beta: float = 1.5,
    episodes: int = 40,
) -> Finding:
    """Play the most hopeful value functions that no other of their class backs up much better.

    Pseudo-code (Jin, Liu and Miryoosefi 2021, arXiv 2102.00815)::

        repeat: q_0 … q_{H−1} ← the chain with the highest value at the first observations, of those with
                 loss_h(q_h, q_{h+1}) − min_{q ∈ Q_h} loss_h(q, q_{h+1}) ≤ β at every h
          play a_h = argmax q_h(x_h, ·), and add (x_h, a_h, x_{h+1}) to the data
        loss_h(q, q') = Σ over the data of (q(x, a) − max q'(x'))²

    Where the class is closed under backups, what is left of the class is about right. Where it only
    holds the true values it may stay wrong for ever, as a wrong pair can have no excess loss at all:
    see ``sim_golf``, which needs resets. Value functions are those of ``LockClass.values``.

    Args:
        actions: A.
        goods: G, so S = G + 1 latent states.
        noise: n, bits of noise of an observation.
        base: B, digits of a block.
        decoders: |Φ| = |Q|, members of the public class of each layer.
        class_seed: names that class.
        fail: q, as value functions have it.
        beta: β.
        episodes: how many to play; the last is the output.
    """
    env, known = lock_of(session, goods, actions, noise, base, decoders, class_seed)
    return await golf_on(env, known.values(fail), beta, episodes)


async def golf_on(
    env: Environment, values: Sequence[FloatArray], beta: float, episodes: int
) -> Finding:
    """GOLF with value functions of any kind, see ``Optimism``; the rest as in ``golf``."""
    optimism = Optimism(env, values)
    H = env.layers
    loss = [np.zeros((len(values[h]), len(values[h + 1]) if h + 1 < H else 1)) for h in range(H)]

    async def visit(h: int, place: Here, a: int) -> Here:
        ((after,),) = await env.step([place], [a])
        if h + 1 < H:
            found = optimism.best[h + 1][:, codes_of([after])[0]]
        else:
            found = np.array(await env.rewards([after]))
            optimism.returns.append(float(found[0]))
        loss[h] += (values[h][:, place.code, a][:, None] - found[None]) ** 2
        return after

    def losses(h: int) -> FloatArray:
        return loss[h] - loss[h].min(axis=0)

    left = True
    with suppress(BudgetExceeded):
        left = await optimism.explore(losses, visit, beta, episodes)
    return Finding(env.last, optimism.record(left))
