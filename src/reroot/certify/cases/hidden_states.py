"""Certificates of methods that look inside the generator: its layers' laws, and features of outputs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

from ...learners.sampling.latent_exploration import latent_exploration
from ...learners.sampling.representation_coreset import representation_coreset
from ...objective import laws
from ...types import FloatArray
from ..case import Aim, Case, given_right
from ..toys import LAYERED, STACK, features
from .independent import rollout_costs


def latent_exploration_cases() -> Iterator[Case]:
    """The product of mixtures, whose parts are worked out from the layers."""
    prefixes = LAYERED.tree.prefixes
    layers = np.exp(STACK.layer_laws([()] * len(prefixes), prefixes, 3))
    for d, renormalize in ((3, False), (3, True), (2, False)):
        tree = laws.explored(LAYERED.tree, layers[:, -d:], 2, renormalize=renormalize)
        law = LAYERED.of(tree)
        length = float(law @ [len(y) for y in LAYERED.tree.outputs])
        yield Case(
            learner=latent_exploration(k=2, d=d, renormalize=renormalize),
            toy=LAYERED,
            states="Π_t max P·P + (1 − max P)·Q, Q the sum of layers of largest entropy"
            + (", renormalized" if renormalize else ""),
            law=LAYERED.law(law),
            aim=Aim("P", LAYERED.law(LAYERED.p)),
            costs={"queries": length, "hidden_states": length},
        )


def representation_coreset_cases() -> Iterator[Case]:
    """The best of those that span the most, among all n-tuples of outputs."""
    inner = np.array([features(y) for y in LAYERED.tree.outputs])
    n, k, ridge = 3, 2, 0.1
    yield Case(
        learner=representation_coreset(n=n, k=k, dims=None, ridge=ridge),
        toy=LAYERED,
        states="the best of k of n draws whose det(ridge·I + Σ h hᵀ) is greedily largest",
        law=LAYERED.law(_coreset_law(inner, n, k, ridge)),
        aim=given_right(LAYERED),
        costs={**rollout_costs(LAYERED, n, k), "hidden_states": n},
    )
    thinned = np.zeros(len(inner))
    for weight, rows in _projections(inner):
        thinned += weight * _coreset_law(rows, 2, 1, ridge)
    yield Case(
        learner=representation_coreset(n=2, k=1, dims=1, ridge=ridge),
        toy=LAYERED,
        states="the same, over every sparse random projection to one number",
        law=LAYERED.law(thinned),
        aim=given_right(LAYERED),
        costs={**rollout_costs(LAYERED, 2, 1), "hidden_states": 2},
    )


def _coreset_law(inner: FloatArray, n: int, k: int, ridge: float) -> FloatArray:
    """(m,) law of the best rewarded of the k picked among n draws."""

    def choice(places: Sequence[int]) -> int:
        picked = _spanning(inner[list(places)], k, ridge)
        return max((places[i] for i in picked), key=lambda y: LAYERED.rewards[y])

    return laws.of_independent_draws(LAYERED.p, n, choice)


def _spanning(rows: FloatArray, k: int, ridge: float) -> list[int]:
    """k rows, each of which makes det(ridge·I + Σ h hᵀ) as large as it can be; the first on ties."""
    picked: list[int] = []
    for _ in range(k):

        def volume(i: int) -> float:
            h = rows[[*picked, i]]
            return round(float(np.linalg.det(ridge * np.eye(h.shape[1]) + h.T @ h)), 12)

        picked.append(max((i for i in range(len(rows)) if i not in picked), key=volume))
    return picked


def _projections(inner: FloatArray) -> Iterator[tuple[float, FloatArray]]:
    """(probability, (m, 1) features) of the entries 0 and ±√(√d), that differ from 0 with 1/√d."""
    width = inner.shape[1]
    for signs in product((-1.0, 0.0, 1.0), repeat=width):
        rare = 0.5 / math.sqrt(width)
        probability = math.prod(rare if s else 1.0 - 2.0 * rare for s in signs)
        yield probability, inner @ np.array(signs)[:, None] * width**0.25
