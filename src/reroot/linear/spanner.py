"""Barycentric spanners (Awerbuch & Kleinberg 2008): few rows that all others are small mixtures of."""

from __future__ import annotations

import numpy as np

from ..errors import InvalidInput
from ..types import FloatArray

_FLAT = 1e-10
"""Share of the longest row below which what is left of a row is rounding."""


def barycentric_spanner(rows: FloatArray, most: float = 1.1) -> tuple[list[int], FloatArray]:
    """A ``most``-approximate barycentric spanner of the rows, and their coefficients in it.

    The rows are first chosen by largest residual, then exchanged while a coefficient is larger than
    ``most``: each exchange multiplies the volume that they span by more than that, so there are at
    most k·log(k)/log(most) or so of them.

    Args:
        rows: (n, d) numbers; k is their rank.
        most: C > 1, the largest coefficient that is left.

    Returns:
        (the k rows chosen, (n, k) coefficients of all rows, at most C in absolute value).

    Raises:
        InvalidInput: no rows, rows that are all 0 or not finite, or C is not above 1.
    """
    if not most > 1.0:
        raise InvalidInput(f"most must be a number above 1, got {most!r}")
    if rows.ndim != 2 or not np.isfinite(rows).all() or not np.any(rows):
        raise InvalidInput(f"a spanner needs finite rows, not all 0, got shape {rows.shape}")
    chosen = _greedy(rows)
    basis = np.linalg.qr(rows[chosen].T)[0]
    flat: FloatArray = rows @ basis
    while True:
        coefficients: FloatArray = np.asarray(np.linalg.solve(flat[chosen].T, flat.T).T, np.float64)
        row, place = np.unravel_index(np.abs(coefficients).argmax(), coefficients.shape)
        if abs(coefficients[row, place]) <= most:
            return chosen, coefficients
        chosen[int(place)] = int(row)


def _greedy(rows: FloatArray) -> list[int]:
    """As many rows as the rank, each the longest after those before are projected out."""
    left, chosen = rows.astype(np.float64), list[int]()
    floor = _FLAT * np.linalg.norm(rows, axis=1).max()
    while len(chosen) < min(rows.shape):
        lengths = np.linalg.norm(left, axis=1)
        i = int(lengths.argmax())
        if lengths[i] <= floor:
            break
        chosen.append(i)
        direction = left[i] / lengths[i]
        left = left - np.outer(left @ direction, direction)
    return chosen
