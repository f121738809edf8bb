"""The exact posterior over hidden paths, kept along one prefix at a time.

Model: on the path its token has probability p and each of the other K - 1 tokens q; off the path
all tokens are uniform; the path is uniform on V^H. p is known, or has a prior on a grid. Relative to
the law in which every draw is uniform, the data below a prefix u have the weight

    W(u) = (1/K)·Σ_a (pK)^n_u(a) · (qK)^(n_u - n_u(a)) · W(ua),      W = 1 where nothing was asked,

n_u(a) the number of times that a was drawn at u. For each prefix on the way from the root to the
current one, u, what is kept is its factor f = (1/K)·(pK)^n(a)·(qK)^(n - n(a)) towards the next token
a and the weight A of all other tokens. With B the product of the factors, and R = Σ_i A_i/(f_i⋯)
the weight of all that leaves the way, relative to B,

    Pr(u on the path | data) = W(u)/(W(u) + R).

A draw changes W(u) alone, a step down or up only what belongs to one prefix: the work per draw does not
depend on how long the way or how large the tree is. All weights are natural logarithms; with a
grid of p they are arrays over it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..types import FloatArray


class _Node:
    """Draws at one prefix, and what is known below it; rows are the tokens seen there."""

    __slots__ = ("below", "children", "counts", "row", "tokens", "total", "weight")

    def __init__(self, points: int) -> None:
        self.row: dict[int, int] = {}
        self.tokens: list[int] = []
        self.counts = np.zeros((4, 1))
        self.below = np.zeros((4, points))  # log W of each child
        self.children: dict[int, _Node] = {}
        self.total = 0
        self.weight = np.zeros(points)  # log W of this prefix

    def add(self, token: int) -> None:
        row = self.row.setdefault(token, len(self.row))
        if row == len(self.tokens):
            self.tokens.append(token)
        if row == len(self.counts):
            self.counts = np.concatenate([self.counts, np.zeros_like(self.counts)])
            self.below = np.concatenate([self.below, np.zeros_like(self.below)])
        self.counts[row] += 1
        self.total += 1


@dataclass(frozen=True, slots=True)
class _Step:
    """A prefix that the way has passed: the token it left by, log f, log A, log B and log R there."""

    node: _Node
    token: int
    others: FloatArray
    product: FloatArray
    against: FloatArray


@dataclass(frozen=True, slots=True)
class View:
    """What the data say at the current prefix.

    Attributes:
        here: posterior probability that it lies on the path.
        token, likely: the likeliest next token of the path among those seen here, and the posterior
            probability of the prefix with it; (-1, 0.0) where nothing was seen.
        needed: fewest draws here that can bring ``likely`` up to the threshold, or ``here`` below it.
            Fewer cannot change what to do next, so they may be asked at once.
        asked: draws here so far.
    """

    here: float
    token: int
    likely: float
    needed: int
    asked: int


class PathPosterior:
    """Where the path may be, seen from a current prefix that can be moved one token at a time.

    Args:
        vocab_size: K.
        grid: values of p, all in (1/K, 1); one value if p is known.

    Attributes:
        path: tokens of the current prefix.
        moves: steps down and up so far.
    """

    def __init__(self, vocab_size: int, grid: Sequence[float]) -> None:
        p = np.array(grid, dtype=np.float64)
        q = (1.0 - p) / (vocab_size - 1)
        self._vocab = vocab_size
        self._log_ratio = np.log(p / q)
        self._log_hit = np.log(p * vocab_size)
        self._log_miss = np.log(q * vocab_size)
        self._log_vocab = math.log(vocab_size)
        self._way: list[_Step] = []
        # log B and log R; B starts with the prior over p, so that it says how likely each p is
        self._product = np.full(len(p), -math.log(len(p)))
        self._against = np.full(len(p), -np.inf)
        self.path: list[int] = []
        self.moves = 0
        self._enter(_Node(len(p)))

    def _enter(self, node: _Node) -> None:
        """Make ``node`` the current one, and weigh what is stored there."""
        seen = len(node.row)
        left = self._vocab - seen
        self._node = node
        self._base = node.total * self._log_miss - self._log_vocab  # log (qK)^n / K
        # (rows, points) log of (p/q)^n(a)·W(ua); the last row is all that was not seen, at 1 each
        self._terms = np.empty((seen + 1, len(self._product)))
        self._terms[:seen] = node.counts[:seen] * self._log_ratio + node.below[:seen]
        self._terms[seen] = math.log(left) if left else -np.inf
        self._sum = _log_sum(self._terms)
        node.weight = self._base + self._sum

    def observe(self, tokens: Sequence[int]) -> None:
        """Draws at the current prefix."""
        for token in tokens:
            self._node.add(token)
        self._enter(self._node)

    def view(self, threshold: float) -> View:
        """The current prefix and what to expect of it, for decisions at ``threshold``."""
        node = self._node
        everything = self._product + np.logaddexp(node.weight, self._against)
        top = everything.max()
        total = float(np.exp(everything - top).sum())
        scale = self._product - top
        here = float(np.exp(scale + node.weight).sum()) / total
        if not node.row:
            return View(here, -1, 0.0, self._needed(threshold, np.zeros(len(scale))), 0)
        shares = np.exp(scale + self._base + self._terms[:-1]).sum(axis=1)
        row = int(shares.argmax())
        needed = self._needed(threshold, np.maximum(self._terms[row], 0.0))
        return View(here, node.tokens[row], float(shares[row]) / total, needed, node.total)

    def _needed(self, threshold: float, best: FloatArray) -> int:
        limit = math.log((1.0 - threshold) / threshold)
        # odds against a child: R/(base·term) falls by pK a draw, (others)/term by p/q
        others = self._sum + np.log(-np.expm1(np.minimum(best - self._sum, -1e-12)))
        rise = np.maximum(
            (self._against - self._base - best - limit) / self._log_hit,
            (others - best - limit) / self._log_ratio,
        ).min()
        # odds against this prefix: R/W grows by at most 1/(qK) a draw
        fall = ((limit - self._against + self._node.weight) / -self._log_miss).min()
        return max(1, math.ceil(min(rise, fall)))

    def down(self, token: int) -> None:
        """To the child prefix by ``token``, which was seen here."""
        node = self._node
        row = node.row[token]
        others = self._base + _log_sum(np.delete(self._terms, row, axis=0))
        factor = self._base + node.counts[row] * self._log_ratio
        self._way.append(_Step(node, token, others, self._product, self._against))
        self._against = np.logaddexp(self._against, others) - factor
        self._product = self._product + factor
        self.path.append(token)
        self.moves += 1
        self._enter(node.children.setdefault(token, _Node(len(self._product))))

    def up(self) -> None:
        """To the parent prefix."""
        step, child = self._way.pop(), self._node
        self._product, self._against = step.product, step.against
        step.node.below[step.node.row[step.token]] = child.weight
        self.path.pop()
        self.moves += 1
        self._enter(step.node)

    def up_to_weakest(self) -> None:
        """To the prefix on the way at which the alternatives to the way weigh most."""
        weights = [float(_log_sum(step.product + step.others)) for step in self._way]
        depth = int(np.argmax(weights))
        while len(self._way) > depth:
            self.up()


def _log_sum(terms: FloatArray) -> FloatArray:
    """log Σ exp over the first axis; not all may be log 0."""
    top = terms.max(axis=0)
    return top + np.log(np.exp(terms - top).sum(axis=0))
