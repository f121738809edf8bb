"""Certificates of reinforcement learning on a combination lock that is small enough to write down."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...access.learner import BoundLearner
from ...families import CombinationLock
from ...learners.resets.golf import golf
from ...learners.resets.pce import pce
from ...learners.resets.pcr import pcr
from ...learners.resets.rvfs import rvfs
from ...learners.resets.sim_golf import sim_golf
from ...objective import conditioned_law
from ..case import Sampled
from ..toys import Toy

_SIZES: dict[str, Any] = {"actions": 2, "goods": 2, "noise": 0, "decoders": 4}
_LOCK = CombinationLock(2, **_SIZES, seed=1)
LOCK = Toy(
    "lock",
    "two actions at two good states and a bad one, twice; 8 of 256 outputs are right",
    _LOCK,
    lambda y: float(_LOCK.latent(y) < _LOCK.goods),
)
SAMPLES = 60
STATES = "uniform over right outputs: the best policy, whose value is (1 − q)^H = 1"


def _learned(learner: BoundLearner, **costs: float) -> Sampled:
    law = LOCK.law_of(conditioned_law(LOCK.tree, LOCK.passes))
    return Sampled(learner=learner, toy=LOCK, states=STATES, law=law, costs=costs, samples=SAMPLES)


def resets_cases() -> Iterator[Sampled]:
    """What is played once learning is over, and what it took: H = 2 layers."""
    H, episodes, K = 2, 30, 4
    yield _learned(rvfs(**_SIZES))
    yield _learned(pcr(**_SIZES, episodes=40))
    yield _learned(pce(**_SIZES, episodes=60))
    yield _learned(golf(**_SIZES, episodes=episodes), queries=episodes * (H + 1), rewards=episodes)
    yield _learned(
        sim_golf(**_SIZES, episodes=episodes, backups=K),
        queries=episodes * (1 + H * K),
        rewards=episodes * K,
    )
