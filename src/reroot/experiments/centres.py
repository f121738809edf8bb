"""Contexts at random centres: a base policy that was never trained on some of them, and what lifts those.

The setting of the synthetic experiment of Mousavi-Hosseini & Erdogdu (arXiv 2603.06957): contexts are centres in R^d,
log p_w(a | x, i) is linear in the centre with weights of its own for each position and token, and one random
answer of N tokens is right for each centre. The base is trained by maximum likelihood on all centres but some.

At their size (N = 128, 4 million rollouts) rewards are counted in law: of n rollouts of a context Binomial(n, p_w(y*|x))
are right, and those that are right up to token i thin out by p_w(y*_i | x, y*_<i). The gradient depends on those
counts alone, so nothing is approximated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..randomness import keyed_rng, stream_key
from ..types import FloatArray, IntArray

_FLOOR = 1e-10


@dataclass(frozen=True, slots=True)
class World:
    """Centres, answers and a base policy.

    Attributes:
        vectors: (m, d) centres, of length about 1.
        answers: (m, N) right answers.
        untrained: number of centres, the last ones, that the base has not seen.
        weights: (N, K, d) of the base.
    """

    vectors: FloatArray
    answers: IntArray
    untrained: int
    weights: FloatArray

    def log_laws(self, weights: FloatArray) -> FloatArray:
        """(m, N, K) nats."""
        N, K, d = weights.shape
        logits = (self.vectors @ weights.reshape(N * K, d).T).reshape(-1, N, K)
        logits -= logits.max(axis=2, keepdims=True)
        return logits - np.log(np.exp(logits).sum(axis=2, keepdims=True))

    def token_logs(self, laws: FloatArray) -> FloatArray:
        """(m, N) nats of the right tokens."""
        return np.take_along_axis(laws, self.answers[..., None], axis=2)[..., 0]

    def slots(self) -> IntArray:
        """(m, N, K) for ``LinearSoftmax``: weights of a position and a token, shared by all contexts."""
        N, K, _ = self.weights.shape
        shape = (len(self.answers), N, K)
        return np.broadcast_to(np.arange(N * K).reshape(N, K), shape)


def make(
    N: int, K: int, d: int, centres: int, untrained: int, steps: int, batch: int, seed: int
) -> World:
    """A world whose base took ``steps`` Adagrad steps (rate 0.1) on ``batch`` trained contexts each."""
    rng = keyed_rng(stream_key(seed, "centres", "world"))
    vectors = rng.normal(size=(centres, d)) / np.sqrt(d)
    answers = rng.integers(K, size=(centres, N))
    law = np.zeros(centres)
    law[: centres - untrained] = 1.0 / (centres - untrained)
    world = World(vectors, answers, untrained, np.zeros((N, K, d)))
    ada = Adagrad(world.weights)
    for _ in range(steps):
        counts = rng.multinomial(batch, law)
        credit = np.repeat(counts[:, None], N, axis=1) / batch
        ada.step(gradient(world, world.log_laws(ada.weights), credit))
    return World(vectors, answers, untrained, ada.weights)


def gradient(world: World, laws: FloatArray, credit: FloatArray) -> FloatArray:
    """(N, K, d) Σ_x Σ_i credit(x, i)·∇ log p_w(y*_i | x)."""
    m, N, K = laws.shape
    each = -np.exp(laws) * credit[..., None]
    x, i = np.divmod(np.arange(m * N), N)
    each[x, i, world.answers.ravel()] += credit.ravel()
    return (each.reshape(m, N * K).T @ world.vectors).reshape(N, K, -1)


class Adagrad:
    """w += rate·g/√(Σ g²), entry by entry."""

    def __init__(self, weights: FloatArray, rate: float = 0.1) -> None:
        self.weights, self.rate = weights.copy(), rate
        self._squares = np.zeros(weights.shape)

    def step(self, g: FloatArray) -> None:
        self._squares += g * g
        self.weights += self.rate * g / (np.sqrt(self._squares) + _FLOOR)


@dataclass(frozen=True, slots=True)
class Trained:
    """What on-policy training made of a world.

    Attributes:
        before, after: (m,) nats, log p(y*|x).
        lowest: (m,) nats, the least of it on the way.
        rewarded: (m,) whole right answers that were rewarded.
        queries: rewards or verifications.
    """

    before: FloatArray
    after: FloatArray
    lowest: FloatArray
    rewarded: IntArray
    queries: int


def train(world: World, reward: str, steps: int, batch: int, seed: int) -> Trained:
    """Policy gradient by Adagrad.

    Args:
        world: where it begins.
        reward: ``outcome``: on-policy, whole right answers are credited. ``process``: on-policy, tokens are
            credited where all up to them are right; asks for each up to the first wrong one.
            ``walks``: PG-PR; a rollout that fails is followed by a walk along right prefixes, with tokens half
            uniform, half of p_w, each tried up to K·log(4N/0.1) times.
        steps, batch: rollouts in all: their product.
        seed: names all draws.
    """
    rng = keyed_rng(stream_key(seed, "centres", reward))
    m, N = world.answers.shape
    ada, law, queries = Adagrad(world.weights), np.full(m, 1.0 / m), 0
    before = world.token_logs(world.log_laws(world.weights)).sum(axis=1)
    lowest, rewarded = before.copy(), np.zeros(m, dtype=np.int64)
    for _ in range(steps):
        laws = world.log_laws(ada.weights)
        tokens = world.token_logs(laws)
        lowest = np.minimum(lowest, tokens.sum(axis=1))
        counts = rng.multinomial(batch, law)
        if reward == "walks":
            credit, right, asked = _walks(tokens, counts, world.weights.shape[1], rng)
            queries += asked
        elif reward == "outcome":
            right = rng.binomial(counts, np.exp(tokens.sum(axis=1)))
            credit, queries = np.repeat(right[:, None], N, axis=1), queries + batch
        else:
            credit = np.empty((m, N), dtype=np.int64)
            left = counts
            for i in range(N):
                queries += int(left.sum())
                credit[:, i] = left = rng.binomial(left, np.exp(tokens[:, i]))
            right = left
        rewarded += right
        if credit.any():
            ada.step(gradient(world, laws, credit / batch))
    after = world.token_logs(world.log_laws(ada.weights)).sum(axis=1)
    return Trained(before, after, np.minimum(lowest, after), rewarded, queries)


def _walks(
    tokens: FloatArray, counts: IntArray, K: int, rng: np.random.Generator
) -> tuple[IntArray, IntArray, int]:
    """((m, N) credited tokens, (m,) right rollouts, verifications) of one batch of PG-PR."""
    m, N = tokens.shape
    right = rng.binomial(counts, np.exp(tokens.sum(axis=1)))
    tries = math.ceil(K * math.log(4 * N / 0.1))
    walks = np.repeat(np.arange(m), counts - right)
    q = 0.5 * np.exp(tokens) + 0.5 / K
    asked, credit = int(counts.sum()), np.repeat(right[:, None], N, axis=1)
    for i in range(N):
        drawn = rng.geometric(q[walks, i])
        asked += int(np.minimum(drawn, tries).sum())
        walks = walks[drawn <= tries]
        credit[:, i] += np.bincount(walks, minlength=m)
    return credit, right, asked
