"""What seeds buy where the noise of a sampler is known: one value of a cumulative law by bisection."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...checks import check_between, check_int
from ...errors import BackendError
from ...randomness import Uniforms
from ..base import Request
from .place import Place

_SEEDS = 8  # times as many seeds as the error needs, so that one is near every middle


class Bounds(NamedTuple):
    """``low`` <= F <= ``high``, by ``calls`` calls."""

    low: float
    high: float
    calls: int


def cumulative_by_seeds(place: Place, token: int, epsilon: float) -> Bounds:
    """F(a) = Pr(token <= a) to ± ε from draws by inverse transform: about ⌈log₂(1/2ε)⌉ calls.

    The uniform behind each seed is known: the seed is asked for whose uniform is nearest to the middle; its draw is
    at most a if and only if the uniform is below F(a). Without known noise z²F(1 - F)/ε² draws are needed.

    Args:
        place: a prefix that may be asked again.
        token: a.
        epsilon: ε, in (0, 1/2).

    Raises:
        BackendError: draws are not those of inverse transform of these uniforms.
    """
    check_int("token", token, 0, place.vocab_size - 1)
    seeds = int(_SEEDS / check_between("epsilon", epsilon, 0.0, 0.5))
    held = place.held
    key = held.key(place.prompt, place.prefix, 0, place.stream)
    noise = Uniforms().column(key, 0, seeds, 0)
    low, high, calls = 0.0, 1.0, 0
    while high - low > 2 * epsilon:
        inside = np.flatnonzero((noise > low) & (noise < high))
        if not len(inside):
            break
        i = int(inside[np.abs(noise[inside] - (low + high) / 2).argmin()])
        stop = held.generator.stops(())
        request = Request(
            place.prompt, place.prefix, 1, 1, held.report, held.sampling, stop, key, i
        )
        below = int(held.send(request).tokens[0, 0]) <= token
        low, high, calls = (
            (float(noise[i]), high, calls + 1) if below else (low, float(noise[i]), calls + 1)
        )
    if high - low > 2 * epsilon:
        raise BackendError(f"no seed of {seeds:,} lies between {low:.6g} and {high:.6g}")
    return Bounds(low, high, calls)
