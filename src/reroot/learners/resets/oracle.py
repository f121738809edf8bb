"""Regression over finite classes of decoders: the computational oracle of learners of block MDPs.

A function of an observation that factors through a decoder φ is a value for each cell, that is for
each latent state of φ. The best one under squared loss is the mean of each cell, so a class is
searched by one pass over the rows for each candidate. Every call is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ...types import FloatArray, IntArray


@dataclass(frozen=True)
class Fit:
    """The best function of a class.

    Attributes:
        member: of the decoder of the (later) observation.
        cells: (…, S, d) means by cell; 0 where there are no rows. With two contexts and for each
            action the shape is (A, S, S, d), the earlier observation first.
        loss: Σ squared loss.
        other: of the decoder of the earlier observation, where there are two.
    """

    member: int
    cells: FloatArray
    loss: float
    other: int = 0


@dataclass
class RegressionOracle:
    """Counts what is asked of it.

    Attributes:
        states: S, cells of a decoder.
        calls: regressions that were solved.
        rows: rows in them.
        candidates: decoders, or pairs of decoders, that were compared.
    """

    states: int
    calls: int = field(default=0, init=False)
    rows: int = field(default=0, init=False)
    candidates: int = field(default=0, init=False)

    def counts(self) -> dict[str, int]:
        """The account, as JSON."""
        return {"calls": self.calls, "rows": self.rows, "candidates": self.candidates}

    def one_context(self, labels: IntArray, x: npt.ArrayLike, y: npt.ArrayLike) -> Fit:
        """E[y | x] = f(φ(x)), also for vectors y.

        Args:
            labels: (m, codes) the decoders.
            x: (N,) codes.
            y: (N,) or (N, d) targets.
        """
        y = _columns(y)
        self._count(len(labels), len(y))
        seen = labels[:, np.asarray(x, dtype=np.int64)]
        found = [self._cells(cell, self.states, y) for cell in seen]
        member = int(np.argmin([loss for loss, _ in found]))
        loss, cells = found[member]
        return Fit(member, cells, loss + float((y**2).sum()))

    def by_action(
        self,
        labels: IntArray,
        x: npt.ArrayLike,
        actions: IntArray,
        y: npt.ArrayLike,
        n_actions: int,
    ) -> Fit:
        """E[y | x, a] = f_a(φ(x)), jointly over actions; cells are (A, S, d). Still one context."""
        y, S = _columns(y), self.states
        self._count(len(labels), len(y))
        found = [self._cells(actions * S + c, n_actions * S, y) for c in labels[:, np.asarray(x)]]
        member = int(np.argmin([loss for loss, _ in found]))
        loss, cells = found[member]
        return Fit(member, cells.reshape(n_actions, S, -1), loss + float((y**2).sum()))

    def two_contexts(
        self,
        first: IntArray,
        second: IntArray,
        x: npt.ArrayLike,
        actions: npt.ArrayLike,
        other: npt.ArrayLike,
        y: npt.ArrayLike,
        n_actions: int,
    ) -> Fit:
        """E[y | x, a, x'] = f_a(φ(x), φ'(x')), jointly over actions.

        Args:
            first, second: (m, codes) and (m', codes) the decoders of x and of x'.
            x, actions, other: (N,) codes, actions, codes.
            y: (N,) targets.
            n_actions: A.
        """
        y, S = _columns(y), self.states
        self._count(len(first) * len(second), len(y))
        left, right = first[:, np.asarray(x)], second[:, np.asarray(other)]
        base = np.asarray(actions, dtype=np.int64) * S
        best = (np.inf, np.empty(0), 0, 0)
        for i in range(len(first)):
            before = (base + left[i]) * S
            for k in range(len(second)):
                loss, cells = self._cells(before + right[k], n_actions * S * S, y)
                if loss < best[0]:
                    best = (loss, cells, k, i)
        loss, cells, member, earlier = best
        return Fit(member, cells.reshape(n_actions, S, S, -1), loss + float((y**2).sum()), earlier)

    def _count(self, candidates: int, rows: int) -> None:
        self.calls += 1
        self.rows += rows
        self.candidates += candidates

    @staticmethod
    def _cells(cell: IntArray, n: int, y: FloatArray) -> tuple[float, FloatArray]:
        """(loss less Σ y², (n, d) means) of the best function of the cells."""
        counts = np.bincount(cell, minlength=n).astype(np.float64)
        sums = np.stack([np.bincount(cell, column, n) for column in y.T], axis=1)
        means = sums / np.maximum(counts, 1.0)[:, None]
        return -float((sums * means).sum()), means


@dataclass(frozen=True)
class Fitted:
    """Functions that agree with a fitted one on its inputs, up to the error of the fit.

    Attributes:
        inputs: (N,) codes of the fit.
        values: (N,) the fitted function there.
        slack: most that Σ squared differences on the inputs may be.
    """

    inputs: Sequence[int]
    values: FloatArray
    slack: float

    def widths(self, labels: IntArray, codes: IntArray, means: FloatArray) -> FloatArray:
        """(…,) the most by which such a function with values in [0, 1] can differ from the fitted one in
        the mean over K draws; at most 1.

        Args:
            labels: (m, codes) the decoders through which functions may factor.
            codes: (…, K) the draws.
            means: (…,) means of the fitted function over them.
        """
        widest, S = np.zeros(means.shape), int(labels.max()) + 1
        for phi in labels:
            at = phi[list(self.inputs)]
            counts = np.bincount(at, minlength=S)
            cells = np.bincount(at, self.values, S) / np.maximum(counts, 1)
            left = self.slack - float(((self.values - cells[at]) ** 2).sum())
            if left < 0:
                continue
            share = (phi[codes][..., None] == np.arange(S)).mean(axis=-2)
            unseen = share[..., counts == 0].sum(axis=-1)
            spread = np.sqrt(
                left * (share**2 / np.maximum(counts, 1))[..., counts > 0].sum(axis=-1)
            )
            off = (share * cells)[..., counts > 0].sum(axis=-1) - means
            widest = np.maximum(widest, np.maximum(abs(off + spread + unseen), abs(off - spread)))
        return np.minimum(widest, 1.0)


def _columns(y: npt.ArrayLike) -> FloatArray:
    y = np.asarray(y, dtype=np.float64)
    return y if y.ndim > 1 else y[:, None]
