"""Simultaneous bisection: gaps of b tokens at once from the most likely id, near the floor of calls."""

from __future__ import annotations

import math

import numpy as np

from ...errors import BackendError, InvalidInput
from ...randomness import keyed_rng, stream_key
from ...types import FloatArray
from ..law import log_normalize
from .place import Place

_PARTICLES = 128
_ROUNDS = 60  # of equalizing b + 1 outcomes
_SWEEPS = 2  # of moves of one token or of several together after each answer


def law_from_ids_together(place: Place, gap: float, epsilon: float, seed: int = 0) -> FloatArray:
    """As ``law_from_ids``, b tokens at a time: an answer is one of b + 1 ids, about equally likely ones.

    What is known of the gaps g to the top token are bounds of differences: that i came under β says
    g_i - g_j <= β_i - β_j for all j. Of gaps drawn evenly within them β is chosen so that each id is as
    likely as every other one. At least (K - 1)·log(R/2ε)/log(b + 1) calls are needed.

    Args:
        place: whose most likely id is shown, and nothing is drawn.
        gap: R, at least the largest log-odds between the top token and another one, R <= B.
        epsilon: ε nats, of each gap.
        seed: of the particles.

    Raises:
        InvalidInput: R > B, ε out of range, or tokens are drawn.
        BackendError: an answer contradicts the others.
    """
    bias, report, sampling = place.held.bias, place.held.report, place.held.sampling
    if gap > bias.bound or not 0 < epsilon < gap:
        raise InvalidInput(
            f"this needs 0 < ε < R <= B = {bias.bound:g}, got ε = {epsilon}, R = {gap}"
        )
    if report.draws and sampling.temperature and sampling.top_k != 1:
        raise InvalidInput(f"this needs the most likely id, got {place.held.interface}")
    anchor = int(place.ask().tokens[0, 0])
    others = [token for token in range(place.vocab_size) if token != anchor]
    gaps = np.zeros(place.vocab_size)
    rng = keyed_rng(stream_key(seed, "", "bisection together", place.prefix))
    for i in range(0, len(others), bias.tokens):
        batch = others[i : i + bias.tokens]
        gaps[batch] = -_settled(place, anchor, batch, gap, epsilon, rng)
    return log_normalize(gaps)


def _settled(
    place: Place,
    anchor: int,
    batch: list[int],
    gap: float,
    epsilon: float,
    rng: np.random.Generator,
) -> FloatArray:
    """(b,) gaps of a batch to ± ε. Place 0 of all arrays is the anchor's, with gap 0."""
    size = len(batch) + 1
    bounds = np.full((size, size), gap)  # g_i - g_j <= bounds[i, j]
    bounds[0, :] = 0.0
    np.fill_diagonal(bounds, 0.0)
    particles = np.zeros((_PARTICLES, size))
    particles[:, 1:] = rng.uniform(0.0, gap, (_PARTICLES, len(batch)))
    for _ in range(64 * size * math.ceil(math.log2(gap / epsilon) + 1)):
        if (bounds[1:, 0] + bounds[0, 1:]).max() <= 2 * epsilon:
            return (bounds[1:, 0] - bounds[0, 1:]) / 2
        beta = _equalized(particles, bounds, epsilon)
        top = place.ask(bias=dict(zip(batch, beta[1:].tolist(), strict=True)))
        won = int(top.tokens[0, 0])
        i = 0 if won == anchor else 1 + batch.index(won) if won in batch else -1
        if i < 0:
            break
        bounds[i] = np.minimum(bounds[i], beta[i] - beta)
        bounds = np.minimum(bounds, bounds[:, i, None] + bounds[i])
        for j in range(size):  # all shortest paths
            bounds = np.minimum(bounds, bounds[:, j, None] + bounds[j])
        if bounds.diagonal().min() < -1e-9:
            break
        particles = _resampled(particles, bounds, beta, i, rng)
    raise BackendError(f"answers of tokens {batch[:3]}… contradict each other (R = {gap:g})")


def _equalized(particles: FloatArray, bounds: FloatArray, epsilon: float) -> FloatArray:
    """(b + 1,) β under which no token leads in a much larger share of the particles than others."""
    size = particles.shape[1]
    width = bounds[:, 0] + bounds[0]
    left = width > 2 * epsilon
    left[0] = True
    step = np.maximum(particles.std(axis=0), epsilon / 8)
    beta = np.where(
        left, particles.mean(axis=0), -bounds[0] - epsilon
    )  # what is settled never leads
    best, least = beta, math.inf
    for turn in range(_ROUNDS):
        lead = np.bincount((beta - particles).argmax(axis=1), minlength=size)
        if lead.max() < least:
            best, least = beta, float(lead.max())
        share = (lead + 0.5) * left.sum() / (len(particles) + 0.5 * size)
        moved = beta - step * np.clip(np.log(share), -1.0, 1.0) * 4 / (4 + turn)
        beta = np.where(left, np.clip(moved - moved[0], -bounds[0], bounds[:, 0]), beta)
    return best


def _resampled(
    particles: FloatArray, bounds: FloatArray, beta: FloatArray, won: int, rng: np.random.Generator
) -> FloatArray:
    """Particles within the bounds: those that fit the answer, chosen again, and moved, one by one and together."""
    fits = np.flatnonzero((beta - particles).argmax(axis=1) == won)
    if len(fits):
        moved = particles[rng.choice(fits, len(particles))]
    else:  # every shortest path is a corner of what is allowed: their means are inside
        corners = np.concatenate([bounds[:, :].T, -bounds]) - 0.0
        corners = corners - corners[:, :1]
        weights = rng.dirichlet(np.ones(len(corners)), len(particles))
        moved = weights @ corners
    size = particles.shape[1]
    for _ in range(_SWEEPS):
        alone = rng.permutation(np.eye(size, dtype=bool)[1:])
        some = rng.random((size, size)) < 0.5
        some[0], some[:, 0] = (
            True,
            False,
        )  # all but the anchor move together: gaps may be known of each other alone
        for mask in (*some, *alone):
            if mask.any():
                slack = bounds - (moved[:, :, None] - moved[:, None, :])
                up = slack[:, mask][:, :, ~mask].min(axis=(1, 2))
                down = slack[:, ~mask][:, :, mask].min(axis=(1, 2))
                move = -down + (up + down) * rng.random(len(moved))
                moved[:, mask] += move[:, None]
    return moved
