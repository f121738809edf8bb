"""Decoys (arXiv 2604.04855): a path that no top-k list with k ≤ decoys ever shows."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..checks import check_between, check_int
from ..errors import InvalidInput
from ..types import FloatArray, IntArray
from .hidden_path import PathFamily

_ROUNDING = 1e-9  # probabilities that differ by less are taken for a tie


class DecoyPath(PathFamily):
    """The decoys 0…k−1 have probability p0 each at every prefix, on the path and off it.

    On the path z_t (never a decoy) has p1 < p0 and the other non-decoys share the rest equally,
    q1 = (1 − k·p0 − p1)/(K − k − 1) each, below p1. Off the path all non-decoys are uniform,
    (1 − k·p0)/(K − k) each. So ARGMAX(k) answers the same at every prefix, whatever z is.

    Attributes:
        path: z, H tokens, none below k.
        k, p0, p1, q1: as above.
        off: probability of each non-decoy off the path.

    Raises:
        InvalidInput: not 1 ≤ k ≤ K − 2, not q1 < p1 < p0, no mass left for the other non-decoys,
            K or H out of range, or ``path`` is no path without decoys.
    """

    family = "decoy_path"

    def __init__(
        self,
        vocab_size: int,
        horizon: int,
        k: int,
        p0: float,
        p1: float,
        path: Iterable[int] | None = None,
        seed: int = 0,
    ) -> None:
        check_int("vocab_size", vocab_size, 3)
        self.k = check_int("k", k, 1, vocab_size - 2)
        super().__init__(vocab_size, horizon, path, seed, decoys=self.k)
        self.p0 = check_between("p0", p0, 0.0, 1.0 / self.k)
        self.off = (1.0 - self.k * self.p0) / (self.vocab_size - self.k)
        least = self.off * (1 + _ROUNDING)
        if not least < self.p0:
            raise InvalidInput(
                f"p0 must exceed 1/K = {1 / self.vocab_size:g} so that decoys lead, got {p0!r}"
            )
        # p1 above the mean of the non-decoys is the same as p1 above each of the others
        self.p1 = check_between("p1", p1, least, min(self.p0, 1.0 - self.k * self.p0))
        self.q1 = (1.0 - self.k * self.p0 - self.p1) / (self.vocab_size - self.k - 1)

    def parameters(self) -> dict[str, int | float]:
        return {"k": self.k, "p0": self.p0, "p1": self.p1}

    def path_laws(self, n: int, on: IntArray, tokens: IntArray) -> FloatArray:
        laws = np.full((n, self.vocab_size), np.log(self.off))
        laws[on] = np.log(self.q1)
        laws[on, tokens] = np.log(self.p1)
        laws[:, : self.k] = np.log(self.p0)
        return laws
