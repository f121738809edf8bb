"""What a prefix costs from the root: waits, a constant bias, seeds, and seeds with bans."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ...errors import BackendError, InvalidInput
from ...randomness import Key
from ...types import FloatArray, Prefix, Reply
from ..base import Request
from .place import Held


class Wait(NamedTuple):
    """The constant bias under which a prefix is met soonest.

    Attributes:
        beta: (K,) nats.
        log_rollouts: log of the expected rollouts for one answer, nats.
    """

    beta: FloatArray
    log_rollouts: float


def best_constant_bias(
    laws: FloatArray,
    prefix: Sequence[int],
    bound: float,
    tokens: Sequence[int] | None = None,
    temperature: float = 1.0,
) -> Wait:
    """The least wait for u under one bias at every position, |β_i| <= B: a convex program.

    min_β Σ_t [log Σ_a P(a|u_<t)·e^(β_a) - log P(u_t|u_<t) - β(u_t)]. At an inner optimum the expected
    counts of tokens along u equal the actual ones.

    Args:
        laws: (|u|, K) nats, the laws along the prefix, at temperature 1.
        prefix: u.
        bound: B, nats.
        tokens: those that are biased; by default all.
        temperature: of the rollouts, which comes after the bias.
    """
    from scipy import optimize

    u = np.array(prefix, dtype=np.int64)
    if laws.shape[:1] != u.shape:
        raise InvalidInput(f"{len(u)} tokens need as many laws, got shape {laws.shape}")
    laws = laws / temperature
    counts = np.bincount(u, minlength=laws.shape[1]).astype(np.float64)
    own = float(laws[np.arange(len(u)), u].sum())

    def wait(beta: FloatArray) -> tuple[float, FloatArray]:
        shifted = laws + beta
        top = shifted.max(axis=1, keepdims=True)
        weights = np.exp(shifted - top)
        total = weights.sum(axis=1, keepdims=True)
        value = float((np.log(total) + top).sum() - own - counts @ beta)
        return value, (weights / total).sum(axis=0) - counts

    start = np.zeros(laws.shape[1])
    most = np.full(len(start), bound / temperature)
    if tokens is not None:
        most[[token for token in range(len(start)) if token not in set(tokens)]] = 0.0
    found = optimize.minimize(
        wait,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[(-x, x) for x in most.tolist()],
        options={"maxiter": 10_000, "ftol": 1e-15, "gtol": 1e-10},
    )
    return Wait(temperature * np.asarray(found.x), float(found.fun))


def replay(held: Held, request: Request) -> Reply:
    """The rollout of ``request`` once more, with the held report: a seed adds reports, not draws."""
    return held.send(replace(request, report=held.report))


def draws_without_replacement(
    held: Held, prompt: Sequence[int], seed: Key, position: int, most: int
) -> tuple[Prefix, list[int]]:
    """Further tokens at u = y_<t of a rollout y from the root, by the same seed with bans.

    The Gumbel-max race keeps its noise, so the prefix stays, as long as it holds no banned token, and
    the next best token comes at u: the draws are without replacement.

    Args:
        seed: of the rollout.
        position: t.
        most: most draws, the first one included; at most b + 1.

    Returns:
        (u, the tokens in the order in which they came); fewer where a drawn token is in u.

    Raises:
        BackendError: the prefix changed, as it does where a server draws by inverse transform.
    """
    room = held.generator.max_length()
    if room is None:
        raise InvalidInput("rollouts need a generator with a largest length")
    request = Request(
        tuple(prompt),
        (),
        1,
        room - len(prompt),
        held.report,
        held.sampling,
        held.generator.stops(()),
        seed,
    )
    drawn: list[int] = []
    prefix: tuple[int, ...] | None = None
    for _ in range(min(most, held.bias.tokens + 1)):
        reply = held.send(request, dict.fromkeys(drawn, -math.inf))
        tokens = reply.continuation(0)
        if prefix is None:
            prefix = tokens[:position]
        if tokens[:position] != prefix:
            raise BackendError(f"bans turned {Prefix(prefix)} into {Prefix(tokens[:position])}")
        drawn.append(tokens[position])
        if tokens[position] in prefix:
            break  # it may not be banned
    return Prefix(prefix or ()), drawn
