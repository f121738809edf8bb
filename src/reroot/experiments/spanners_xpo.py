"""An XPO-like baseline of ``spanners``: optimism over whole outputs, with every normalizer enumerated."""

from __future__ import annotations

import math

import numpy as np
from scipy import optimize

from ..families.linear_optimum import LinearOptimum
from ..randomness import keyed_rng, stream_key
from ..types import FloatArray, Output
from .base import Row

_STARTS = 2
"""Random starts of each fit, beside the θ before."""
_MOST = 1000
_RIDGE = 1e-6


def xpo_like(law: LinearOptimum, beta: float, seed: int, gap: float) -> Row:
    """Rewards and evaluated outputs until the policy is within ``gap`` of J*.

    y1 ~ π_θ, y2 ~ P, and θ ← argmin Σ (⟨θ, D⟩ − (r1 − r2))² + ½·β·t^{−1/2}·Σ log π_θ(y2), as in Xie et al.
    (2024, arXiv 2405.21046) with regression in place of preferences. It knows the features of all outputs, drawn or
    not, so each evaluation of the objective and each draw of π_θ reads all K^H of them.

    Returns:
        ``gap``, ``rewards``, ``outputs`` (evaluated) and ``tokens`` (H for each of them).
    """
    features, rewards = law.output_features, law.problem().reward
    rng = keyed_rng(stream_key(seed, law.label, "xpo"))
    outputs = [tuple(y) for y in law.outputs]
    theta, evaluated, bought = np.zeros(law.d), 0, 0
    directions: list[FloatArray] = []
    gains: list[float] = []
    passive: list[FloatArray] = []
    off = law.optimal_value(beta)
    while off > gap and len(gains) < _MOST:
        weights = np.exp(_log_policy(features, theta, beta))
        pair = [
            int(rng.choice(len(outputs), p=weights / weights.sum())),
            int(rng.integers(len(outputs))),
        ]
        first, second = (float(rewards(Output(outputs[i], "", True))) for i in pair)  # pyright: ignore[reportArgumentType]
        bought += 2
        directions.append(features[pair[0]] - features[pair[1]])
        passive.append(features[pair[1]])
        gains.append(first - second)
        theta, calls = _fitted(
            features, np.array(directions), np.array(gains), np.array(passive), beta, theta, rng
        )
        evaluated += (calls + 1) * len(outputs)
        off = law.optimal_value(beta) - law.sequence_value(theta, beta)
    return {
        "gap": off,
        "rewards": bought,
        "outputs": evaluated,
        "tokens": evaluated * law.horizon,
        "rollouts": 0,
    }


def _log_policy(features: FloatArray, theta: FloatArray, beta: float) -> FloatArray:
    logs = features @ theta / beta
    return logs - np.logaddexp.reduce(logs)


def _fitted(
    features: FloatArray,
    directions: FloatArray,
    gains: FloatArray,
    passive: FloatArray,
    beta: float,
    theta: FloatArray,
    rng: np.random.Generator,
) -> tuple[FloatArray, int]:
    """(θ, objective calls): the best of L-BFGS from the last θ and from random starts."""
    bonus = 0.5 * beta / math.sqrt(len(gains))

    def objective(x: FloatArray) -> tuple[float, FloatArray]:
        residual = directions @ x - gains
        logs = features @ x / beta
        top = float(np.logaddexp.reduce(logs))
        mean = np.exp(logs - top) @ features
        value = residual @ residual + _RIDGE * (x @ x)
        value += bonus * float((passive @ x / beta - top).sum())
        slope = 2 * residual @ directions + 2 * _RIDGE * x
        return float(value), slope + bonus * (passive - mean).sum(axis=0) / beta

    best, calls = None, 0
    for start in (theta, *rng.standard_normal((_STARTS, len(theta)))):
        bounds = [(-10.0, 10.0)] * len(theta)
        found = optimize.minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds)
        calls += int(found.nfev)
        if best is None or found.fun < best.fun:
            best = found
    assert best is not None
    return np.asarray(best.x), calls
