"""The experiments by id. Adding one: a module with an ``EXPERIMENT``, and a line here."""

from __future__ import annotations

from ..errors import InvalidInput, nearest
from . import (
    barrier,
    collapse,
    decoy,
    hidden_path,
    kl_estimators,
    kl_gap,
    ladder,
    noisy_parity,
    settle,
    spanners,
    trie,
)
from .base import Experiment
from .settle_neural.experiment import EXPERIMENT as SETTLE_NEURAL

_EXPERIMENTS: tuple[Experiment, ...] = (
    collapse.EXPERIMENT,
    barrier.EXPERIMENT,
    hidden_path.EXPERIMENT,
    decoy.EXPERIMENT,
    trie.EXPERIMENT,
    kl_gap.EXPERIMENT,
    ladder.EXPERIMENT,
    noisy_parity.EXPERIMENT,
    settle.EXPERIMENT,
    SETTLE_NEURAL,
    kl_estimators.EXPERIMENT,
    spanners.EXPERIMENT,
)
"""In the order in which the page tells the story."""


def list_experiments() -> dict[str, Experiment]:
    """Id → experiment, in the order of the page."""
    return {experiment.id: experiment for experiment in _EXPERIMENTS}


def usual() -> list[str]:
    """The ids of those that are measured where none is named."""
    return [experiment.id for experiment in _EXPERIMENTS if not experiment.alone]


def get_experiment(id: str) -> Experiment:
    """The experiment with this id.

    Raises:
        InvalidInput: there is none; the nearest id is suggested.
    """
    known = list_experiments()
    if id not in known:
        raise InvalidInput(f"unknown experiment {id!r}.{nearest(id, known)}")
    return known[id]
