"""Prices in closed form, in calls (requests) or draws.

K tokens, k of them in a list, b biased by a call, B nats at most, n choices of a call; ε an error in nats or of
total variation; z a normal quantile; p the probability of a token. Attributions of constants: the bias
reductions to Carlini et al. (2403.06634), the image to Finlayson et al. (2403.09539), (K - 1)/(2πε²) to Kamath et
al. (2015), the factory to Mendo (2019).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Z = 1.959963984540054
"""Normal quantile of 95 %."""

# ---- laws from lists ---------------------------------------------------------------------------------


def anchored_calls(K: int, k: int, b: int) -> int:
    """1 + ⌈(K - k)/min(b, k - 1)⌉; ⌈(K - 1)/(k - 1)⌉ where b >= k - 1. Processed reports, k >= 2."""
    return 1 + math.ceil((K - k) / min(b, k - 1)) if k < K else 1


def fewest_calls(K: int, k: int) -> int:
    """⌈(K - 1)/k⌉, the least for lists with processed reports."""
    return math.ceil((K - 1) / k)


def anchored_calls_with_choices(K: int, k: int, b: int, n: int) -> float:
    """About 1 + (K - k)/(k - 1 + (b - k)(1 - (1 - 1/b)^n)) expected: drawn tokens count too."""
    return 1 + (K - k) / (k - 1 + (b - k) * -math.expm1(n * math.log1p(-1 / b)))


def raw_calls(K: int, k: int) -> int:
    """K - k, for raw lists and large B: a forced token per call, the first included."""
    return max(1, K - k)


def raw_draws_of_one(p: float, B: float) -> float:
    """1 + (1 - p)/(p·e^B): expected calls until a token of probability p is drawn under +B."""
    return 1 + (1 - p) / (p * math.exp(B))


def raw_calls_with_choices(K: int, k: int, b: int, n: int) -> float:
    """About (K - 1 - k)/(b(1 - (1 - 1/b)^n)) expected; at least ⌈(K - 1 - k)/n⌉."""
    return (K - 1 - k) / (b * -math.expm1(n * math.log1p(-1 / b)))


def masked_calls(K: int, k: int) -> int:
    """⌈(K - 1)/(k - 1)⌉ for lists of allowed tokens, which share one."""
    return math.ceil((K - 1) / max(1, k - 1))


def image_calls(d: int, k: int) -> int:
    """⌈d/(k - 1)⌉ for logits in a known d-dimensional image."""
    return math.ceil(d / (k - 1))


def longer_list_calls(length: int, k: int) -> int:
    """⌈L/k⌉ calls with bans, L <= b + k."""
    return math.ceil(length / k)


def bisection_calls(K: int, gap: float, epsilon: float) -> int:
    """1 + (K - 1)·⌈log₂(R/2ε)⌉ from ids alone."""
    return 1 + (K - 1) * math.ceil(math.log2(gap / (2 * epsilon)))


def bisection_floor(K: int, gap: float, epsilon: float, b: int) -> int:
    """⌈(K - 1)·log(R/2ε)/log(b + 1)⌉: an answer is one of b + 1 ids."""
    return math.ceil((K - 1) * math.log(gap / (2 * epsilon)) / math.log(b + 1) - 1e-9)


# ---- from draws --------------------------------------------------------------------------------------


def counted_draws(p: float, epsilon: float, z: float = Z) -> float:
    """z²(1 - p)/(pε²) draws for log p ± ε."""
    return z**2 * (1 - p) / (p * epsilon**2)


def biased_draws(epsilon: float, q: float = 0.5, z: float = Z) -> float:
    """z²/(ε²q(1 - q)) draws with the biased token at q; 4z²/ε² at one half."""
    return z**2 / (epsilon**2 * q * (1 - q))


def biased_draws_together(b: int, epsilon: float, z: float = Z) -> float:
    """(1 + √b)²z²/ε² draws for b tokens at once, the anchor at 1/(1 + √b)."""
    return (1 + math.sqrt(b)) ** 2 * z**2 / epsilon**2


def frequency_draws(K: int, epsilon: float) -> float:
    """(K - 1)/(2πε²) draws for a mean total variation of ε, at most, to first order."""
    return (K - 1) / (2 * math.pi * epsilon**2)


def unseen_draws(K: int, mass: float) -> float:
    """K/(e·mass) draws leave at most that mass unseen in the mean, whatever the law."""
    return K / (math.e * mass)


def collecting_draws(K: int) -> float:
    """K(H_K - 1): expected draws until one of K even tokens is unseen, H_K = 1 + 1/2 + … + 1/K."""
    if K > 10_000:
        harmonic = math.log(K) + 0.5772156649015329 + 1 / (2 * K)
    else:
        harmonic = math.fsum(1 / i for i in range(1, K + 1))
    return K * (harmonic - 1)


# ---- prefixes ----------------------------------------------------------------------------------------


def waited_rollouts(surprises: Sequence[float], m: int = 1) -> float:
    """m/P(u) rollouts from the root; ``surprises`` are -log P(u_t|u_<t), nats."""
    return m * math.exp(math.fsum(surprises))


def redrawn_calls(surprises: Sequence[float], m: int = 1, continuing: bool = False) -> float:
    """Σ_t 1/P(u_t|u_<t) + m visited draws; 1 + Σ_t (1/P - 1) calls to u with continuing rollouts."""
    if continuing:
        return 1 + math.fsum(math.expm1(s) for s in surprises)
    return math.fsum(map(math.exp, surprises)) + m


def passed_calls(surprises: Sequence[float], m: int = 1) -> float:
    """m·(1 + Σ_t 1/Π_{s >= t} P(u_s|u_<s)), t and s odd: calls of passes that put in every second token.

    A pass draws u_1, puts in u_2, draws u_3, …; where it draws another token it is given up. So the
    draw at t is made as often as those from t on must be tried.
    """
    drawn = surprises[::2]
    return m * (1 + math.fsum(math.exp(math.fsum(drawn[i:])) for i in range(len(drawn))))


def walked_calls(length: int, m: int = 1) -> int:
    """|u| + m with resets."""
    return length + m


def lifted_rollouts(K: int, k: int, length: int, R: float) -> float:
    """At most (K - 1)(k - 1 + e^R)^(|u| + 1) rollouts that pass u, a path of modes, and draw the mode once more.

    One token is put ahead by R nats, of k that are kept.
    """
    return math.exp(
        min(700.0, math.log(K - 1) + (length + 1) * float(np.logaddexp(math.log(k - 1), R)))
    )


def constant_bias_rollouts(K: int, length: int, p: float, B: float) -> float:
    """(1 + (n - 1)q/p + (K - n)q/(p·e^B))^n: rollouts for a prefix of n distinct tokens under +B on them.

    Each has probability p at its place, all other tokens q = (1 - p)/(K - 1).
    """
    q = (1 - p) / (K - 1)
    each = (length - 1) * q / p + max(0, K - length) * q / p * math.exp(-B)
    return math.exp(min(700.0, length * math.log1p(each)))
