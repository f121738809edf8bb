"""Projection in relative entropy on the affine hull of a few positive rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..types import FloatArray

_RIDGE = 5e-5
_STEPS = 50
_DONE = 1e-24
"""Newton decrement (twice what the objective may still fall) below which a row is solved."""
_SHARE = 1e-4
_SHORTEST = 1e-6
_ROUNDING = 1e-15


def relative_entropy_projection(rows: FloatArray, wanted: FloatArray) -> FloatArray:
    """argmin over v with Σ v = 1 and r = v·rows > 0 of mean_z [r log(r/r') − r] + λ·‖v − 1/k‖².

    The divergence is that of unnormalized measures (r' is its stationary point although neither sums
    to 1), and it is minimized over its first argument: projections in this order never lead away
    from what lies in the set. λ = 5e-5 keeps v finite where rows hardly differ. Newton's method from
    1/k in the null space of 1ᵀ, halving steps that leave r > 0 or do not descend; every row is
    solved by itself, whatever is solved beside it.

    Args:
        rows: (k, M) positive numbers.
        wanted: (n, M) r', positive.

    Returns:
        (n, k) v.
    """
    k = len(rows)
    if k == 1:
        return np.ones((len(wanted), 1))
    free = np.linalg.qr(np.eye(k) - 1.0 / k)[0][:, : k - 1]  # orthonormal, columns sum to 0
    return 1.0 / k + _newton(free.T @ rows, rows.mean(axis=0), wanted) @ free.T


def _newton(lifted: FloatArray, middle: FloatArray, wanted: FloatArray) -> FloatArray:
    """(n, k − 1) w with v = 1/k + free·w: r = middle + w·lifted."""
    size, count = lifted.shape
    products = (lifted[:, None] * lifted[None]).reshape(-1, count).T / count  # (M, (k − 1)²)
    w = np.zeros((len(wanted), size))
    left = np.arange(len(wanted))
    for _ in range(_STEPS):
        if not len(left):
            break
        here, target = w[left], wanted[left]
        r = middle + here @ lifted
        gradient = np.log(r / target) @ lifted.T / count + 2 * _RIDGE * here
        curvature = ((1.0 / r) @ products).reshape(-1, size, size)
        curvature[:, np.arange(size), np.arange(size)] += 2 * _RIDGE
        step = np.linalg.solve(curvature, gradient[:, :, None])[:, :, 0]
        decrement = (gradient * step).sum(axis=1)
        moved, found = _descended(here, step, decrement, (lifted, middle, target))
        w[left] = found
        left = left[moved & (decrement > _DONE)]
    return w


def _descended(
    w: FloatArray,
    step: FloatArray,
    decrement: FloatArray,
    problem: tuple[FloatArray, FloatArray, FloatArray],
) -> tuple[npt.NDArray[np.bool_], FloatArray]:
    """(whether a row could go down, where it went): steps halved until r > 0 and lower by a share."""
    lifted, middle, wanted = problem

    def value(at: FloatArray, target: FloatArray) -> FloatArray:
        r = middle + at @ lifted
        inside = r.min(axis=1) > 0
        r = np.where(inside[:, None], r, 1.0)
        found = (r * np.log(r / target) - r).mean(axis=1) + _RIDGE * (at * at).sum(axis=1)
        return np.where(inside, found, np.inf)

    before, found, scale = value(w, wanted), w.copy(), 1.0
    before += _ROUNDING * (1 + np.abs(before))
    left = np.arange(len(w))
    while len(left) and scale > _SHORTEST:
        tried = w[left] - scale * step[left]
        down = value(tried, wanted[left]) <= before[left] - _SHARE * scale * decrement[left]
        found[left[down]] = tried[down]
        left, scale = left[~down], scale / 2
    moved = np.ones(len(w), dtype=bool)
    moved[left] = False  # no descent is left above rounding
    return moved, found
