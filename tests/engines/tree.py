"""Queries as searches make them."""

from __future__ import annotations

import numpy as np


def tree(count: int, seed: int = 0) -> list[tuple[int, ...]]:
    """Prefixes of a random tree that grows in depth: each is one that there is, and one token more."""
    rng = np.random.default_rng(seed)
    nodes: list[tuple[int, ...]] = [()]
    while len(nodes) < count:
        recent = nodes[int(rng.integers(max(0, len(nodes) - 40), len(nodes)))]
        nodes.append((*recent, int(rng.integers(70, 95))))
    order = rng.permutation(count).tolist()
    return [nodes[i] for i in order]
