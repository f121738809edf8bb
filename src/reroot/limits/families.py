"""Decoys, the hidden trie and the noisy parity: what each report can and cannot do there."""

from __future__ import annotations

import math

from ..checks import check_between, check_int
from ..errors import InvalidInput


def log_blind_success(reward_queries: int, candidates: int, horizon: int) -> float:
    """log min(1, (M + 1)/n^H), nats: naming one of n^H equally likely paths that no report shows.

    On ``DecoyPath`` with k decoys n = K - k: ARGMAX(k) answers the same at every prefix, whatever
    the path is, so M rewards and a last guess are all there is, at every control level.

    Args:
        reward_queries: M >= 0.
        candidates: n >= 1 possible tokens per place.
        horizon: H >= 1 tokens.

    Raises:
        InvalidInput: an argument is out of range.
    """
    guesses = check_int("reward_queries", reward_queries) + 1
    nats = check_int("horizon", horizon, 1) * math.log(check_int("candidates", candidates, 1))
    return min(0.0, math.log(guesses) - nats)


def decoy_draws(
    vocab_size: int, horizon: int, decoys: int, p0: float, p1: float, delta: float
) -> int:
    """m: draws per prefix with which the most frequent non-decoy is the path, 1 - δ in all.

    Chernoff between p1 and q1 = (1 - k·p0 - p1)/(K - k - 1), union over (K - k - 1)·H pairs.

    Args:
        vocab_size, horizon: K, H.
        decoys: k, 1…K - 2.
        p0, p1: probability of a decoy and of the path token.
        delta: δ in (0, 1).

    Raises:
        InvalidInput: an argument is out of range, or p1 does not exceed q1.
    """
    rivals = (
        check_int("vocab_size", vocab_size, 3) - check_int("decoys", decoys, 1, vocab_size - 2) - 1
    )
    q1 = (1.0 - decoys * check_between("p0", p0, 0.0, 1.0 / decoys) - p1) / rivals
    if not 0.0 <= q1 < p1:
        raise InvalidInput(f"p1 must exceed the other non-decoys' {q1:g}, got {p1!r}")
    nats = math.log(
        rivals * check_int("horizon", horizon, 1) / check_between("delta", delta, 0.0, 1.0)
    )
    return math.ceil(nats / -math.log1p(-((math.sqrt(p1) - math.sqrt(q1)) ** 2)))


def trie_draws(vocab_size: int, nodes: int, a: float, b: float, delta: float) -> int:
    """m = ⌈2·log(2KS/δ)/(a - b)²⌉: draws per node with which the trie is found, but for δ/2.

    By Hoeffding every frequency is on its side of (a + b)/2, for K tokens at each of S nodes.

    Args:
        vocab_size: K.
        nodes: S, most internal nodes.
        a, b: least probability of a child token, largest of any other; 0 <= b < a <= 1.
        delta: δ in (0, 1).

    Raises:
        InvalidInput: an argument is out of range.
    """
    if not 0.0 <= b < a <= 1.0:
        raise InvalidInput(f"a trie needs 0 <= b < a <= 1, got a = {a!r} and b = {b!r}")
    pairs = 2 * check_int("vocab_size", vocab_size, 2) * check_int("nodes", nodes, 1)
    return math.ceil(2 * math.log(pairs / check_between("delta", delta, 0.0, 1.0)) / (a - b) ** 2)


def parity_sample_floor(horizon: int, noise: float) -> float:
    """(T - 1)·log 2 / (log 2 - h(α)), samples: what naming the secret of a noisy parity takes.

    An information floor for complete samples (Fano, up to a vanishing term). It is polynomial: what
    makes root-start samples hard is not information but computation (learning parity with noise).

    Args:
        horizon: T >= 2 tokens, the last one the parity.
        noise: α in (0, 1/2), probability that the parity is flipped.

    Raises:
        InvalidInput: an argument is out of range.
    """
    alpha = check_between("noise", noise, 0.0, 0.5)
    entropy = -alpha * math.log(alpha) - (1 - alpha) * math.log1p(-alpha)
    return (check_int("horizon", horizon, 2) - 1) * math.log(2) / (math.log(2) - entropy)
