"""What is varied in ``base-model-barrier``, the exponents that are stated, and the fits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..diagnosis.likelihood_quantile import explored
from ..randomness import stream_key
from .base import Check, Row, where
from .fits import Line, growth
from .likelihood_events import Gaps, outcome, outcome_fixed, process


@dataclass(frozen=True, slots=True)
class Sweep:
    """One size is varied, and queries are counted.

    Attributes:
        what: against what queries are fitted.
        sizes: of it, as integers.
        stated: exponent that the theorems state.
        apart: most that the measured one is apart from it here; we say where that is much.
        exponential: queries grow as e^(exponent·size), not as a power.
    """

    what: str
    sizes: tuple[int, ...]
    stated: float
    apart: float
    exponential: bool = False


SWEEPS = {
    "or 1/Q": Sweep("outcome: 1/Q", (10, 20, 40, 80, 160), 1.0, 0.1),
    "or 1/eps": Sweep("outcome: 1/ε", (3, 5, 10, 20, 40), 1.0, 0.3),
    "or contexts": Sweep("outcome: contexts, γ⁻² in proportion", (2, 4, 8, 16, 32), 1.0, 0.1),
    "or length": Sweep(
        "outcome: N, uniform base, K = 4, γ fixed (nats a token)",
        (2, 3, 4, 5, 6, 7),
        math.log(4),
        0.3,
        True,
    ),
    "best 1/eps": Sweep("outcome, best of 10/α: 1/ε", (3, 5, 10, 20, 40), 0.0, 0.6),
    "pr length": Sweep("process: N, γ⁻² ∝ N", (2, 4, 8, 16, 32), 2.0, 0.3),
    "pr length shared": Sweep("process: N, γ fixed", (2, 4, 8, 16, 32), 1.0, 0.9),
    "pr tokens": Sweep("process: K, per update", (2, 4, 8, 16, 32), 1.0, 0.15),
    "pr 1/eps": Sweep("process: 1/ε", (3, 5, 10, 20, 40), 0.0, 0.6),
}
"""``best 1/eps`` and ``pr 1/eps``: 1/ε is added to a larger term, so the exponent rises from 0."""


def sweep_row(name: str, at: int, rng: np.random.Generator) -> Row:
    """Queries of one run, or queries per update."""
    way, _, what = name.partition(" ")
    m, N, K, alpha, epsilon = 8, 6, 4, 0.1, 0.1
    if way == "pr":
        m, N = 2, 8
    if what == "1/Q":
        alpha = (2.0 / at) - 4.0**-6  # q = ½·α + ½·4^−6 is then 1/at
    if what == "1/eps":
        epsilon = 1.0 / at
    if what == "contexts":
        m = at
    if what.startswith("length"):
        N = at
    if what == "tokens":
        K = at
    shared = "shared" in what or name == "or length"
    if shared:
        m = 1
    if way == "pr" or name == "or length":
        alpha = float(K) ** -N
    if way == "best":
        alpha = 1e-3
    tokens = np.full((m, N), math.log(alpha) / N)
    policy, goal = Gaps(tokens, K, np.full(m, 1.0 / m), shared), 1.0 - epsilon
    if way == "pr":
        tries = math.ceil(K * math.log(4 * N / epsilon))
        q = np.exp(explored(tokens, math.log(K)))
        found = process(policy, goal, rng, proposals=q, tries=tries)
    else:
        q = np.exp(explored(tokens.sum(axis=1), N * math.log(K)))
        if way == "best":
            found = outcome(policy, goal, rng, proposals=q, m=math.ceil(10 / alpha), own=True)
        elif shared:
            found = outcome(policy, goal, rng, proposals=q)
        else:
            found = outcome_fixed(policy, goal, rng, proposals=q)
    cost = found.queries / found.updates if what == "tokens" else found.queries
    return {"cost": float(cost), "queries": found.queries, "updates": found.updates}


def fitted(
    name: str, costs: Mapping[int, Sequence[float]], exponential: bool = False
) -> Line | None:
    """The growth of costs; ``None`` with fewer than five sizes."""
    if len(costs) < 5:
        return None
    found = growth(costs, stream_key(0, "base-model-barrier", f"fit {name}"))
    return found.exponential if exponential else found.polynomial


def sweep_check(name: str, rows: Sequence[Row]) -> Iterator[Check]:
    """The exponent beside the one that is stated."""
    sweep, costs = SWEEPS[name], dict[int, list[float]]()
    for r in where(rows, sweep=name):
        costs.setdefault(r["at"], []).append(r["cost"])
    line = fitted(name, costs, sweep.exponential)
    if line is None:
        return
    inside = line.low <= sweep.stated <= line.high
    off = f"; stated {sweep.stated:.2f}" + (
        "" if inside else f", off by {line.slope - sweep.stated:+.2f}"
    )
    yield Check(
        f"queries against {sweep.what}: the exponent is within {sweep.apart:g} of the stated one",
        abs(line.slope - sweep.stated) <= sweep.apart,
        f"{line.slope:.2f} ({line.low:.2f} to {line.high:.2f}), {len(costs)} sizes{off}",
    )
