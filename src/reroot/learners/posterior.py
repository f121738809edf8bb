"""The posterior walk: recovery of the hidden path close to the information floor."""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from ..access.learner import learner
from ..access.session import Session
from ..errors import BudgetExceeded, InvalidInput
from ..types import Prefix
from .common import COUNT, affordable, between, checked
from .path_posterior import PathPosterior

_ROUNDING = 1e-9  # a prefix at the threshold is neither left nor entered again


@learner(
    requires=checked(
        "visited/sample",
        p=between(0, 1).or_none,
        delta=between(0, 1),
        threshold=between(0.5, 1),
        max_draws=COUNT.or_none,
    )
)
async def posterior_walk(
    session: Session,
    *,
    p: float | None = None,
    delta: float = 0.05,
    threshold: float = 0.8,
    max_draws: int | None = None,
) -> Prefix | None:
    """Ask where the hidden path surely passes, go on when its next token is likely, step back if not.

    Pseudo-code (Bayesian search with noisy answers on a tree, after Burnashev & Zigangirov 1974)::

        u ← ∅
        until Pr(u on the path | data) ≥ 1 - delta at a complete u:
            if u is complete:                          u ← the weakest link above; draw there
            elif Pr(u on the path | data) < threshold: u ← parent of u
            elif Pr(ua on the path | data) ≥ threshold for some a:  u ← ua
            else:                                      draw from P(· | u)

    All posteriors are exact (``path_posterior``), so the output is the path with probability at
    least 1 - delta on average over uniform paths; the rule treats all tokens alike, so the same holds
    for each path. It has no log H factor: with the threshold 0.8 it needs 1.7 to 1.9 times the
    capacity floor H·log K/C (``limits.capacity_floor``) at any H, where m draws per token, fixed in
    advance, need 8 (Chernoff) to 32 (Hoeffding) times at K = 16, p = 1/4, H = 64.

    With p unknown the posterior is over paths and a grid of values of p: the promise holds on
    average over that grid.

    Args:
        p: probability of the path token, 1/K < p < 1; ``None``: unknown.
        delta: failure probability.
        threshold: posterior from which a prefix counts as on the path, in (1/2, 1).
        max_draws: most draws in all (``None``: until the budget ends).

    Raises:
        InvalidInput: p is not above 1/K, or K = 1: a single token has no wrong turn.
    """
    if session.vocab_size < 2:
        raise InvalidInput("a hidden path needs a vocabulary of at least 2 tokens, got 1")
    if p is not None and p * session.vocab_size <= 1:
        raise InvalidInput(f"p must lie in (1/{session.vocab_size}, 1), got {p!r}")
    grid = unknown_grid(session.vocab_size) if p is None else [p]
    belief, left = PathPosterior(session.vocab_size, grid), max_draws
    with suppress(BudgetExceeded):
        while left is None or left > 0:
            prefix, view = Prefix(tuple(belief.path)), belief.view(threshold)
            wanted = max(view.needed, view.asked // 8)  # saves half of the round trips for 3 % more
            if session.is_complete(prefix):
                if view.here >= 1.0 - delta:
                    break
                belief.up_to_weakest()
                prefix, wanted = Prefix(tuple(belief.path)), 1
            elif view.here < threshold - _ROUNDING and belief.path:
                belief.up()
                continue
            elif view.likely >= threshold:
                belief.down(view.token)
                continue
            n = affordable(session, min(wanted, left or wanted), tokens=1, queries=1)
            tokens = (await session.draws(prefix, max(1, n))).first_tokens()
            belief.observe(tokens.tolist())
            left = None if left is None else left - len(tokens)
    return Prefix(tuple(belief.path))


def unknown_grid(vocab_size: int, points: int = 10) -> list[float]:
    """Values of p from barely above 1/K to near 1, for a path whose p is not known.

    Evenly spaced in the logarithm of the distance from 1/K, relative to 1 - 1/K, from 2 % to 95 %.
    """
    shares = np.geomspace(0.02, 0.95, points)
    return [float(x) for x in 1.0 / vocab_size + (1.0 - 1.0 / vocab_size) * shares]
