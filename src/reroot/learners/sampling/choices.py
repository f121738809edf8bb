"""What sampling methods decide by themselves, always through ``session.rng.choice``: so their coins can
be enumerated like the generator's draws (``testing.enumerate_runs(choices=True)``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np
import numpy.typing as npt

from ...access.session import Session
from ...errors import BudgetExceeded
from ...types import FloatArray, Prefix
from ..common import affordable, collect

_LARGEST_BATCH = 256


def choose(session: Session, weights: npt.ArrayLike) -> int:
    """An index drawn with probability proportional to ``weights`` (>= 0, one positive)."""
    p = np.asarray(weights, dtype=np.float64)
    return int(session.rng.choice(len(p), p=p / p.sum()))


def accepts(session: Session, probability: float) -> bool:
    """True with this probability; nothing is drawn where it is 0 or 1 (or beyond)."""
    if not 0.0 < probability < 1.0:
        return probability >= 1.0
    return choose(session, (1.0 - probability, probability)) == 1


def relative(log_weights: npt.ArrayLike) -> FloatArray:
    """Weights from their logarithms, the largest 1; all 0 where every logarithm is −inf."""
    logs = np.asarray(log_weights, dtype=np.float64)
    top = logs.max(initial=-np.inf)
    return np.zeros(logs.shape) if top == -np.inf else np.exp(logs - top)


async def sampled_rewards(session: Session, n: int) -> tuple[list[Prefix], list[float]]:
    """Up to n rollouts and their rewards, within half of what the budget allows.

    Rewards are empty where the budget has rollouts but no rewards.
    """
    each = {"rollouts": 1, "tokens": session.horizon, "rewards": 1}
    fits = affordable(session, 2 * n + 1, **each)
    outputs = await collect(session, session.root, min(n, max(1, fits // 2)))
    rewards: list[float] = []
    with suppress(BudgetExceeded):
        rewards = await session.rewards(outputs)
    return outputs, rewards


async def first_accepted(
    session: Session,
    n: int,
    probability: Callable[[float], float],
    *,
    batch: int,
    growth: float,
    spare: Sequence[Prefix] = (),
) -> tuple[Prefix | None, bool]:
    """Rejection sampling: the first of n rollouts that is accepted, else one more rollout.

    Rollouts are judged one after the other, so that batches change the cost in rollouts alone.

    Args:
        n: most proposals.
        probability: outcome reward → probability of acceptance.
        batch, growth: rollouts of the first batch, and the factor from each to the next.
        spare: rollouts made before; the first one is returned where the budget allows no other.

    Returns:
        The output (``None``: the budget did not allow any), and whether it was accepted.
    """
    last: Prefix | None = None
    drawn = 0
    with suppress(BudgetExceeded):
        while drawn < n:
            each = {"rollouts": 1, "tokens": session.horizon, "rewards": 1}
            count = affordable(session, min(batch, n - drawn), **each)
            if not count:
                break
            for output in (await session.rollouts(count)).outputs():
                last = output
                if accepts(session, probability(await session.reward(output))):
                    return output, True
            drawn += count
            batch = max(batch, min(_LARGEST_BATCH, int(batch * growth)))
        if last is None or drawn >= n:
            last = ((await collect(session, session.root, 1)) or [last])[0]
    return next((y for y in (last, *spare) if y is not None), None), False
