"""Certificates of learners that learn a law of low rank and return a draw of it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...families.low_rank import two_states
from ...learners.low_rank.exact import hmm_exact
from ...learners.low_rank.samples import hmm_samples
from ...learners.low_rank.spanner import low_rank_spanner
from ..case import Aim, Sampled
from ..toys import Law, Toy

CHAIN = Toy(
    "two tokens of a chain",
    "two hidden states, K = 2, H = 2: rank 2 between the tokens",
    two_states(2),
    lambda y: float(y[0] == y[1]),
)


def _when_seen(n: int) -> Law:
    """P where n rollouts show both first tokens; where they show a alone, its law for both."""
    p = CHAIN.p.reshape(2, 2)
    first = p.sum(axis=1)
    one = first**n  # all n show this token
    rows = p / first[:, None]
    law = (1 - one.sum()) * p + sum(one[a] * np.outer(first, rows[a]) for a in (0, 1))
    return CHAIN.law(np.asarray(law).ravel())


_STATES = "P, or where all n rollouts begin with a: P(x₁)·P(x₂ | a), with probability P(a)^n"


def low_rank_cases() -> Iterator[Sampled]:
    """Exact next-token laws: nothing but unseen histories is wrong."""
    aim = Aim("P", CHAIN.law(CHAIN.p))
    n = 2
    yield Sampled(
        learner=hmm_exact(n=n),
        toy=CHAIN,
        states=_STATES,
        law=_when_seen(n),
        aim=aim,
        costs={"rollouts": float(n)},
        samples=1000,
    )
    n = 6
    yield Sampled(
        learner=hmm_samples(report="full", histories=n, tests=20, threshold=1e-6),
        toy=CHAIN,
        states=_STATES,
        law=_when_seen(n),
        aim=aim,
        costs={"rollouts": float(n)},
        samples=1000,
    )
    yield Sampled(
        learner=low_rank_spanner(report="full", k=2, tests=20, histories=0),
        toy=CHAIN,
        states="P: no child of a spanner is unseen",
        law=CHAIN.law(CHAIN.p),
        samples=1000,
    )
