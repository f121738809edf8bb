"""SimGolf: optimism over value functions whose backups are averaged by resets."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from ...access.learner import Params, learner
from ...access.session import Session
from ...contract import Contract, Control
from ...errors import BudgetExceeded, InvalidInput
from ...types import Finding, FloatArray
from ..common import COUNT, POSITIVE, Rule
from .environment import Environment, Here, lock_of, needs
from .optimism import Optimism, codes_of

FAIL = Rule("lie in [0, 1)", lambda q: isinstance(q, (int, float)) and 0 <= q < 1)


def _sim_golf(params: Params) -> Contract:
    if params["form"] not in ("mean", "product"):
        raise InvalidInput(f"form must be 'mean' or 'product', got {params['form']!r}")
    if params["form"] == "product" and params["backups"] != 2:
        raise InvalidInput(f"form = 'product' takes backups = 2, got {params['backups']!r}")
    rules = {"fail": FAIL, "backups": COUNT, "beta": POSITIVE, "episodes": COUNT}
    return needs(Control.RESET, **rules)(params)


@learner(requires=_sim_golf)
async def sim_golf(
    session: Session,
    *,
    actions: int = 4,
    goods: int = 2,
    noise: int = 6,
    base: int = 2,
    decoders: int = 16,
    class_seed: int = 0,
    fail: float = 0.0,
    backups: int = 4,
    beta: float = 1.5,
    form: str = "mean",
    episodes: int = 40,
) -> Finding:
    """Play the most hopeful value functions that agree with their own backups, averaged by resets.

    Pseudo-code (after Mhammedi, Foster and Rakhlin 2024, arXiv 2404.15417)::

        repeat: q_0 … q_{H−1} ← the chain with the highest value at the first observations, of those whose
                 loss_h(q_h, q_{h+1}) ≤ β at every h      (a dynamic program over pairs: H·|Q|² steps)
          play a_h = argmax q_h(x_h, ·);  at each (x_h, a_h) draw x' K times; go on from the first
        loss_h = Σ over visited (x, a) of
          mean:     (q_h(x, a) − mean_K max q_{h+1}(x'))²
          product:  (q_h(x, a) − y¹)·(q_h(x, a) − y²),  y = max q_{h+1} of one draw each (K = 2): unbiased;
                    allowed up to β·√(visits)

    The mean form leaves the true values out once T·Var/K > β. Value functions are those that the
    members of the public class of locks stand for (see ``LockClass.values``): more than decoders.

    Args:
        actions: A.
        goods: G, so S = G + 1 latent states.
        noise: n, bits of noise of an observation.
        base: B, digits of a block.
        decoders: |Φ| = |Q|, members of the public class of each layer.
        class_seed: names that class.
        fail: q, as value functions have it.
        backups: K.
        beta: β.
        form: ``"mean"`` or ``"product"``.
        episodes: how many to play; the last is the output.
    """
    env, known = lock_of(session, goods, actions, noise, base, decoders, class_seed)
    return await sim_golf_on(env, known.values(fail), backups, beta, form, episodes)


async def sim_golf_on(
    env: Environment,
    values: Sequence[FloatArray],
    backups: int,
    beta: float,
    form: str,
    episodes: int,
) -> Finding:
    """SimGolf with value functions of any kind, see ``Optimism``; the rest as in ``sim_golf``."""
    optimism = Optimism(env, values)
    H = env.layers
    loss = [np.zeros((len(values[h]), len(values[h + 1]) if h + 1 < H else 1)) for h in range(H)]
    visits = [0] * H

    async def visit(h: int, place: Here, a: int) -> Here:
        (after,) = await env.step([place], [a], backups)
        if h + 1 < H:
            found = optimism.best[h + 1][:, codes_of(after)]
        else:
            found = np.array([await env.rewards(after)])
            optimism.returns.append(float(found[0, 0]))
        off = values[h][:, place.code, a][:, None, None] - found[None]  # (m, m', K)
        loss[h] += off.mean(axis=2) ** 2 if form == "mean" else off[..., 0] * off[..., 1]
        visits[h] += 1
        return after[0]

    def losses(h: int) -> FloatArray:
        return loss[h] if form == "mean" else loss[h] / max(1.0, visits[h]) ** 0.5

    left = True
    with suppress(BudgetExceeded):
        left = await optimism.explore(losses, visit, beta, episodes)
    return Finding(env.last, optimism.record(left))
