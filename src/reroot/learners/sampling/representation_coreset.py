"""Representation-based exploration: judge the few rollouts that differ most inside the model."""

from __future__ import annotations

import math

import numpy as np

from ...access.learner import Params, learner
from ...access.session import Session
from ...contract import Contract, Control, Oracle, Report
from ...linear.regression import coreset
from ...types import FloatArray, Prefix
from ..common import (
    COUNT,
    POSITIVE,
    SPENT_ON,
    affordable,
    best_rewarded,
    check,
    collect,
    oracle_of,
)
from ..root_start import longest_verified


def _requires(params: Params) -> Contract:
    check(params, n=COUNT, k=COUNT, dims=COUNT.or_none, ridge=POSITIVE)
    return Contract(Control.ROOT, Report.SAMPLE, oracles=[Oracle.HIDDEN, oracle_of(params)])


@learner(requires=_requires)
async def representation_coreset(
    session: Session,
    *,
    n: int = 64,
    k: int = 8,
    dims: int | None = 512,
    ridge: float = 1.0,
    oracle: str = "reward",
) -> Prefix | None:
    """Roll out n times, judge the k rollouts whose features span the most, return the best.

    Pseudo-code (RepExp at test time, arXiv 2510.11686), with h(y) the mean last-layer state over the
    tokens of y, after a sparse random projection to ``dims`` numbers if it has more::

        y¹ … yⁿ ~ P;   Λ ← I / ridge
        k times:  i ← argmax over those left of h(yⁱ)ᵀ Λ h(yⁱ);   pick yⁱ
                  Λ ← Λ - Λ h hᵀ Λ / (1 + hᵀ Λ h)        for h = h(yⁱ)
        return the best of the k picked, as ``best_of_n`` does

    Λ is the inverse of ridge·I + Σ h hᵀ over what was picked, so that hᵀ Λ h, the elliptic bonus, is
    large where nothing picked is alike. Where features tell answers apart, a rare right answer
    among the n is judged early: n rollouts, but only k calls of the judge.

    Args:
        n: rollouts.
        k: how many of them are judged, at most.
        dims: numbers left by the projection; ``None``: no projection.
        ridge: the λ of the source, which does not state its value.
        oracle: ``"reward"`` (k rewards) or ``"verifier"`` (at most k·⌈log2(H + 1)⌉ verifications).
    """
    outputs = await collect(session, session.root, n)
    longest = len(session.prompt) + session.horizon
    shown = outputs[: affordable(session, len(outputs), hidden_states=1, prefill=longest)]
    picked = outputs[:k]
    if shown:
        features = projected(await session.features(shown), dims, session.rng)
        picked = [shown[i] for i in coreset(features, k, ridge)]
    each = 1 if oracle == "reward" else session.horizon.bit_length()
    judged = picked[: affordable(session, k, **{SPENT_ON[oracle]: each})]
    if not judged:
        return picked[0] if picked else None
    best = best_rewarded if oracle == "reward" else longest_verified
    return await best(session, judged)


def projected(features: FloatArray, dims: int | None, rng: np.random.Generator) -> FloatArray:
    """(n, min(d, dims)): a sparse random projection of (n, d) features, isotropic in expectation.

    Entries are 0 but for a share 1/√d, and ±√(√d / dims) there (Li, Hastie and Church 2006, *Very sparse
    random projections*; the source states no density).
    """
    width = features.shape[1]
    if dims is None or width <= dims:
        return features
    half = 0.5 / math.sqrt(width)
    signs = rng.choice(3, size=(width, dims), p=[half, 1.0 - 2.0 * half, half]) - 1.0
    return features @ signs * math.sqrt(math.sqrt(width) / dims)
