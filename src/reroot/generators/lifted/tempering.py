"""Between sampling laws: other temperatures from laws and from draws, and what truncation leaves open.

x = P_τ is the law that is held, P ∝ x^τ the one that is wanted. Bernoulli factory for x^a: Mendo (2019).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ...errors import BackendError, InvalidInput
from ...types import FloatArray
from ..law import log_normalize
from .place import Place


def retempered(law: FloatArray, tau: float) -> FloatArray:
    """(…, K) nats: the law ∝ x^τ of a law x at temperature τ. An error η of x costs TV <= tanh(τη/2)."""
    return log_normalize(tau * law)


def draw_retempered(place: Place, tau: float, rng: np.random.Generator) -> int:
    """One token from ∝ x^τ, by draws from x at the same prefix.

    * τ >= 1, τ = j + a with j an integer: j draws, started again until all are equal, and then the factory
      for x^a: (j + Σ x^(τ-1)·[a > 0])/Σ x^τ draws expected.
    * τ < 1: a uniform proposal and the factory for x^τ: Σ x^(τ-1)/Σ x^τ draws expected; all K tokens
      must be possible, else one proposal may wait for ever.

    Args:
        tau: τ > 0, the ratio of the temperature held to the one wanted.
        rng: of the proposals and the factory.

    Raises:
        BackendError: nothing was accepted in the draws allowed.
    """
    if not tau > 0:
        raise InvalidInput(f"tau must be positive, got {tau!r}")
    equal = math.floor(tau)
    part = tau - equal
    start = place.held.used.draws
    while place.held.used.draws - start <= place.held.most:
        if equal:
            token, *others = [place.token() for _ in range(equal)]
            if any(other != token for other in others):
                continue
        else:
            token = int(rng.integers(place.vocab_size))
        if part < 1e-12 or power_coin(place, token, part, rng):
            return token
    raise BackendError(f"no token was accepted in {place.held.most:,} draws")


def power_coin(place: Place, token: int, power: float, rng: np.random.Generator) -> bool:
    """True with probability x(token)^a, 0 < a < 1, by x^(a-1) expected draws from x.

    x^a = 1 - Σ_i c_i·(1 - x)^i with c_i = (a/i)·Π_{m<i}(1 - a/m): a miss in round i ends the game with a/i.
    """
    for i in range(1, place.held.most):
        if place.token() == token:
            return True
        if rng.random() < power / i:
            return False
    raise BackendError(f"token {token} was not drawn in {place.held.most:,} draws")


def draw_kept(place: Place, kept: Sequence[int]) -> int:
    """One token from the law restricted to ``kept``, by rejection: 1/(1 - m) draws expected.

    Raises:
        BackendError: none of them was drawn in the draws allowed.
    """
    wanted = frozenset(kept)
    for _ in range(place.held.most):
        token = place.token()
        if token in wanted:
            return token
    raise BackendError(f"no token of {sorted(wanted)[:5]}… was drawn in {place.held.most:,} draws")


def biased_law(law: FloatArray, bias: Mapping[int, float]) -> FloatArray:
    """(K,) nats: the law with β added to the logits of some tokens."""
    shift = np.zeros(len(law))
    for token, value in bias.items():
        shift[token] = value
    return log_normalize(law + shift)


def draw_biased(place: Place, bias: Mapping[int, float], rng: np.random.Generator) -> int:
    """One token from P·e^β by rejection: e^(max β)/Σ P·e^β draws expected, β = 0 where none is named.

    Raises:
        BackendError: nothing was accepted in the draws allowed.
    """
    most = max(0.0, *bias.values()) if len(bias) < place.vocab_size else max(bias.values())
    for _ in range(place.held.most):
        token = place.token()
        if rng.random() < math.exp(bias.get(token, 0.0) - most):
            return token
    raise BackendError(f"no token was accepted in {place.held.most:,} draws")


def draws_expected(law: FloatArray, tau: float) -> float:
    """Expected draws of ``draw_retempered`` from x = exp(``law``), (K,) nats."""
    x = law[law > -np.inf]
    equal = math.floor(tau)
    factory = float(np.exp((tau - 1) * x).sum()) if tau - equal >= 1e-12 else 0.0
    return (equal + factory) / float(np.exp(tau * x).sum())


def normalizer_interval(listed: FloatArray, vocab_size: int, tau: float) -> tuple[float, float]:
    """(least, largest) log Σ_i x_i^τ that a top-k list of x at temperature τ leaves open, nats.

    log P of a listed token is τ·log x - log Z with Z in this interval: its width is that of log P.

    Args:
        listed: (k,) log-probabilities under x, with their own mass.
        vocab_size: K.
        tau: τ of the law that is listed.
    """
    x = np.exp(listed)
    n, mass, least = vocab_size - len(x), max(0.0, 1.0 - float(x.sum())), float(x.min())
    head = float((x**tau).sum())
    if not n or mass <= 0:
        return math.log(head), math.log(head)
    whole = math.floor(mass / least + 1e-12)
    flat = n * (mass / n) ** tau
    steep = whole * least**tau + max(0.0, mass - whole * least) ** tau
    low, high = min(flat, steep), max(flat, steep)
    return math.log(head + low), math.log(head + high)


def list_diameter(listed: FloatArray, vocab_size: int) -> float:
    """Largest TV between two laws with this top-k list and its true log-probabilities.

    min(m, c·⌊n/2⌋, nc - m): m the mass outside the list, n its tokens, c the least listed probability.
    """
    n, m, c = _tail(listed, vocab_size)
    return min(m, c * (n // 2), n * c - m)


def list_radius(listed: FloatArray, vocab_size: int) -> float:
    """Least TV to all laws with this list: that of the list with a flat tail.

    max{a(c - m/n), m(1 - (a + 1)/n)}, a = ⌊m/c⌋.
    """
    n, m, c = _tail(listed, vocab_size)
    if not n or m <= 0:
        return 0.0
    a = math.floor(m / c + 1e-12)
    return max(a * (c - m / n), m * (1 - (a + 1) / n))


def flat_tail(ids: Sequence[int], listed: FloatArray, vocab_size: int) -> FloatArray:
    """(K,) nats: the law with this list whose other tokens are equally likely."""
    n, m, _ = _tail(listed, vocab_size)
    law = np.full(vocab_size, math.log(m / n) if n and m > 0 else -np.inf)
    law[list(ids)] = listed
    return log_normalize(law)


def _tail(listed: FloatArray, vocab_size: int) -> tuple[int, float, float]:
    """(n, m, c): how many tokens are not listed, their mass, the least listed probability."""
    p = np.exp(listed)
    return vocab_size - len(p), max(0.0, 1.0 - math.fsum(p.tolist())), float(p.min())
