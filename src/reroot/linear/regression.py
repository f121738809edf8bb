"""Ridge regression on directions that are added one by one, and what is still uncertain of it."""

from __future__ import annotations

import numpy as np

from ..types import FloatArray


class Design:
    """Σ = ridge·I + Σ_i D_i·D_iᵀ over directions D_i, its inverse, and least squares on them.

    Args:
        size: d, numbers of a direction.
        ridge: above 0.

    Attributes:
        inverse: (d, d) Σ⁻¹.
    """

    def __init__(self, size: int, ridge: float) -> None:
        self.inverse = np.eye(size) / ridge
        self._rows: list[FloatArray] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, direction: FloatArray) -> None:
        """Add a (d,) direction (Sherman and Morrison)."""
        moved = self.inverse @ direction
        self.inverse = self.inverse - np.outer(moved, moved) / (1.0 + direction @ moved)
        self._rows.append(direction)

    def uncertainty(self, directions: FloatArray) -> FloatArray:
        """(n,) the elliptic bonus Dᵀ·Σ⁻¹·D of (n, d) directions: how little is known along each."""
        return np.einsum("nd,de,ne->n", directions, self.inverse, directions)

    def fit(self, targets: FloatArray, ridge: float) -> FloatArray:
        """(d,) argmin_θ Σ_i (⟨θ, D_i⟩ − z_i)² + ridge·‖θ‖² for the (n,) targets of what was added."""
        size = len(self.inverse)
        rows = np.array(self._rows).reshape(-1, size)
        return np.asarray(
            np.linalg.solve(rows.T @ rows + ridge * np.eye(size), rows.T @ targets), np.float64
        )


def coreset(features: FloatArray, k: int, ridge: float) -> list[int]:
    """The min(k, n) rows of (n, d) features that the elliptic bonus picks, in that order.

    The first on ties.
    """
    inverse = np.eye(features.shape[1]) / ridge
    bonus = (features**2).sum(axis=1) / ridge
    left = np.ones(len(features), dtype=bool)
    picked: list[int] = []
    while len(picked) < min(k, len(features)):
        i = int(np.where(left, bonus, -np.inf).argmax())
        direction = inverse @ features[i]
        scale = 1.0 + features[i] @ direction
        bonus = bonus - (features @ direction) ** 2 / scale
        inverse -= np.outer(direction, direction) / scale
        picked.append(i)
        left[i] = False
    return picked
