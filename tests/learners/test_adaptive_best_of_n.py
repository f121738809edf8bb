"""When adaptive best-of-n stops: near μ/p draws, p the mass of the mode, μ = ln(2/δ)."""

from __future__ import annotations

import math

import numpy as np
import pytest

import reroot
from reroot.generators.tabular import Tabular
from reroot.learners.sampling.adaptive_best_of_n import adaptive_best_of_n
from reroot.objective import laws
from reroot.tasks.base import Problem

DELTA = 0.02
OTHERS = 40


def law(mode: float) -> np.ndarray:
    """The mode, and outputs that share the rest."""
    return np.array([mode] + [(1.0 - mode) / OTHERS] * OTHERS)


@pytest.mark.slow(1)
@pytest.mark.parametrize("mode", [0.05, 0.1, 0.3])
def test_it_stops_at_mu_over_the_mass_of_the_mode(mode: float) -> None:
    """The mode is missed with probability at most δ/2; then it goes on to at most μ·m/(1 − p), with m other outputs."""
    mu = math.log(2 / DELTA)
    stop = math.ceil(mu / mode)
    problems = [Problem(str(i), (), 1, reward=lambda output: 0.0) for i in range(300)]
    runs = reroot.run(
        adaptive_best_of_n(delta=DELTA, max_rollouts=2_000),
        problems,
        Tabular([law(mode)]),
        grants="root/logprob",
    )
    stops = [a.metadata["rollouts"] for a in runs.attempts]
    assert min(stops) == stop
    late = np.mean([k > stop for k in stops])
    assert late <= DELTA / 2 + 3 * math.sqrt(DELTA / 2 / 300)  # three standard errors
    _, expected = laws.adaptive_best_of_n(law(mode), DELTA, 2_000)
    assert stop <= expected <= stop + DELTA / 2 * mu * OTHERS / (1 - mode)
