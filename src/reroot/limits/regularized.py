"""KL-regularized outcome reward on the hidden path: what a policy can be worth.

J_β(π) = E_π[r] - β·KL(π ‖ P) with r(y) = R·1[y = z]. Rewards and values are in reward units, β in
reward per nat.
"""

from __future__ import annotations

import math

import numpy as np

from ..checks import check_between, check_float, check_int
from ..types import FloatArray
from .hidden_path import log_depths, other_probability
from .rollouts import smallest


def balancing_beta(horizon: int, p: float, reward: float = 1.0) -> float:
    """β = R/(2·H·log(1/p)): with it J* stays near R/2 at every horizon.

    Raises:
        InvalidInput: an argument is out of range.
    """
    nats = -check_int("horizon", horizon, 1) * math.log(check_between("p", p, 0.0, 1.0))
    return check_between("reward", reward, 0.0, math.inf) / (2 * nats)


def optimal_value(
    vocab_size: int, horizon: int, p: float, beta: float, reward: float = 1.0
) -> float:
    """J* = β·log(1 - p^H + p^H·e^(R/β)), the value of π*(y) ∝ P(y)·e^(r(y)/β).

    Args:
        vocab_size, horizon, p: K, H, p of the hidden path.
        beta: β > 0.
        reward: R >= 0.

    Raises:
        InvalidInput: an argument is out of range.
    """
    _check(vocab_size, horizon, p, beta, reward)
    return float(_tilted(horizon * math.log(p), np.array(reward / beta), beta))


def root_value_at_depth(
    depth: int, vocab_size: int, horizon: int, p: float, beta: float, reward: float = 1.0
) -> float:
    """J_d: best expected value of an explicit law, given that the deepest rollout matched d tokens.

    n0 = min(H, d + 1) tokens are known, n = H - n0 are uniform given the transcript. The Bayes
    policy is a Gibbs law, J_d = β·log(1 - p^n0 + K^n·exp(c + R/(β·K^n))) with c the expected
    log-probability of a guess. For other learners see ``steered_root_value``.

    Args:
        depth: d, 0…H.
        vocab_size, horizon, p, beta, reward: as for ``optimal_value``.

    Raises:
        InvalidInput: an argument is out of range.
    """
    _check(vocab_size, horizon, p, beta, reward)
    known = min(horizon, check_int("depth", depth, 0, horizon) + 1)
    return float(_explicit(np.array([known]), vocab_size, horizon, p, beta, reward)[0])


def root_value(
    rollouts: int, vocab_size: int, horizon: int, p: float, beta: float, reward: float = 1.0
) -> float:
    """Σ_d Pr(D = d)·J_d: best expected value of any root-start learner that returns an explicit law.

    N rollouts with FULL reports. An explicit law is one that is written down; it may be worth less
    than 0, the value of returning the generator itself. ``steered_root_value`` is the limit for
    learners that return a modification of the generator.

    Args:
        rollouts: N >= 0.
        vocab_size, horizon, p, beta, reward: as for ``optimal_value``.

    Raises:
        InvalidInput: an argument is out of range.
    """
    known, weights = _known_tokens(rollouts, vocab_size, horizon, p, beta, reward)
    return float(weights @ _explicit(known, vocab_size, horizon, p, beta, reward))


def steered_root_value(
    rollouts: int, vocab_size: int, horizon: int, p: float, beta: float, reward: float = 1.0
) -> float:
    """Best expected value of any root-start learner that returns π(a|u) ∝ P(a|u)·e^θ(u, a).

    θ may depend on the transcript of N rollouts with FULL reports in any way; θ = 0 is the
    generator itself. Where the path is unknown θ = 0 is best: by concavity and symmetry
    E_z[π(z_t|u)] <= p, and the KL is least there. So n unknown tokens are worth p^n·R at the end
    of the known ones, and given D = d

        J_d = β·log(1 - p^n0 + p^n0·exp(p^n·R/β)).

    Never less than ``root_value``, never negative. Arguments and errors as there.
    """
    known, weights = _known_tokens(rollouts, vocab_size, horizon, p, beta, reward)
    log_p = math.log(p)
    gain = np.exp((horizon - known) * log_p) * (reward / beta)
    return float(weights @ _tilted(known * log_p, gain, beta))


def first_success_value(
    rollouts: int, vocab_size: int, horizon: int, p: float, beta: float, reward: float = 1.0
) -> float:
    """J* - (1 - p^H)^N·(J* - p^H·R): limit of training that learns nothing before its first success.

    With outcome rewards that are all zero a group-centred policy gradient is zero, and so is the
    KL gradient at π = P: the policy stays at P, which is worth p^H·R. Arguments and errors as for
    ``root_value``.
    """
    best = optimal_value(vocab_size, horizon, p, beta, reward)
    own = p**horizon * reward
    if check_int("rollouts", rollouts) == 0:
        return own
    return own + math.exp(log_depths(rollouts, horizon, p)[-1]) * (best - own)


def root_value_rollouts(
    value: float, vocab_size: int, horizon: int, p: float, beta: float, reward: float = 1.0
) -> int:
    """The smallest N with ``root_value`` >= ``value``.

    Raises:
        InvalidInput: an argument is out of range, or ``value`` is not below J*.
    """
    best = optimal_value(vocab_size, horizon, p, beta, reward)
    check_between("value", value, -math.inf, best)
    return smallest(lambda n: root_value(n, vocab_size, horizon, p, beta, reward) >= value)


def _known_tokens(
    rollouts: int, vocab_size: int, horizon: int, p: float, beta: float, reward: float
) -> tuple[FloatArray, FloatArray]:
    """(n0, its probability) for every depth the rollouts can reach."""
    _check(vocab_size, horizon, p, beta, reward)
    if check_int("rollouts", rollouts) == 0:  # nothing was seen, not even the first token
        return np.zeros(1), np.ones(1)
    known = np.minimum(horizon, np.arange(horizon + 1) + 1.0)
    return known, np.exp(log_depths(rollouts, horizon, p))


def _explicit(
    known: FloatArray, vocab_size: int, horizon: int, p: float, beta: float, reward: float
) -> FloatArray:
    """J_d for each number of known tokens.

    The exponent n·log K + c + R/(β·K^n), less n0·log p, with its large terms cancelled by hand:
    a = log(qK) + S·log(pK) + K^-n·(n·log p + (n - 1)·log K - log q + R/β), where
    S = Σ_{l<n} l·K^-l·(1 - 1/K).
    """
    q, x, n = other_probability(vocab_size, horizon, p), 1.0 / vocab_size, horizon - known
    log_p, log_q, log_k = math.log(p), math.log(q), math.log(vocab_size)
    power = np.exp(-n * log_k)
    steps = x * (1.0 - n * power / x + (n - 1.0) * power) / (1.0 - x)
    rest = power * (n * log_p + (n - 1.0) * log_k - log_q + reward / beta)
    return _tilted(known * log_p, log_q + log_k + steps * (log_p + log_k) + rest, beta)


def _tilted(log_mass: float | FloatArray, gain: FloatArray, beta: float) -> FloatArray:
    """β·log(1 - m + m·e^g) for m = e^log_mass in [0, 1], without cancellation or overflow."""
    mass = np.exp(log_mass)
    small = np.log1p(mass * np.expm1(np.minimum(gain, 1.0)))
    with np.errstate(divide="ignore"):
        large = np.logaddexp(np.log1p(-mass), log_mass + gain)
    return beta * np.where(gain <= 1.0, small, large)


def _check(vocab_size: int, horizon: int, p: float, beta: float, reward: float) -> None:
    other_probability(vocab_size, horizon, p)
    check_between("beta", beta, 0.0, math.inf)
    check_float("reward", reward, 0.0)
