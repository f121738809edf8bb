"""Log-probabilities and laws from draws, with and without bias, and lists from drawn log-probabilities."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ...checks import check_int
from ...errors import BackendError, InvalidInput
from ...types import FloatArray, IntArray
from ..law import log_normalize
from .place import Place


class Counted(NamedTuple):
    """``hits`` of ``draws`` were the token; ``log_estimate`` of its probability in nats."""

    hits: int
    draws: int
    log_estimate: float


def logprob_by_hits(place: Place, token: int, hits: int) -> Counted:
    """log P(token) by draws until r hits: 1/p·r expected, unbiased (r - 1)/(N - 1), r >= 2.

    The relative standard deviation is about 1/√(r - 2), whatever p.

    Raises:
        BackendError: too few hits in the draws allowed.
    """
    wanted, found = check_int("hits", hits, 2), 0
    for drawn in range(1, place.held.most + 1):
        found += place.token() == token
        if found == wanted:
            return Counted(wanted, drawn, math.log((wanted - 1) / (drawn - 1)))
    raise BackendError(f"token {token} was drawn {found} times in {place.held.most:,} draws")


def logprob_by_counts(place: Place, token: int, draws: int) -> Counted:
    """log P(token) by its frequency in a number of draws: ± ε takes z²(1 - p)/(p·ε²).

    ``hits`` and ``draws`` give an exact interval by ``reroot.diagnosis.clopper_pearson``.
    """
    hits = int((place.ask(check_int("draws", draws, 1)).first_tokens() == token).sum())
    return Counted(hits, draws, math.log(hits / draws) if hits else -math.inf)


def logprobs_by_bias(place: Place, biases: Mapping[int, float], draws: int) -> dict[int, float]:
    """log P of the biased tokens from draws: odds to all others, each divided by its e^β.

    Others share one count, the anchor. One token at q = 1/2 takes 4z²/ε² draws, b of them at once
    (1 + √b)²z²/ε² with the anchor at 1/(1 + √b).

    Raises:
        BackendError: one of the biased tokens, or no other one, was never drawn.
    """
    tokens = place.ask(check_int("draws", draws, 1), bias=biases).first_tokens()
    counts = np.bincount(tokens, minlength=place.vocab_size)
    ids = list(biases)
    rest = draws - int(counts[ids].sum())
    if not rest or not counts[ids].all():
        raise BackendError(f"counts {counts[ids].tolist()} and {rest} others of {draws} draws")
    log_odds = np.log(counts[ids] / rest) - np.array([biases[i] for i in ids])
    log_rest = -np.log1p(np.exp(log_odds).sum())
    return dict(zip(ids, (log_odds + log_rest).tolist(), strict=True))


def logprobs_by_search(
    place: Place, tokens: IntArray, draws: int, pilot: int = 64
) -> dict[int, float]:
    """As ``logprobs_by_bias``, b tokens at a time, with biases found by doubling and halving.

    Pilot calls of ``pilot`` draws move each token's bias until its share and that of the anchor are
    near 1/(√b(1 + √b)) and 1/(1 + √b).

    Raises:
        BackendError: B is too small for a token to be drawn.
    """
    b = min(place.held.bias.tokens, len(tokens))
    found: dict[int, float] = {}
    for i in range(0, len(tokens), b):
        batch = [int(token) for token in tokens[i : i + b]]
        biases = _tuned(place, batch, pilot * (1 + math.isqrt(len(batch))) ** 2)
        found |= logprobs_by_bias(place, biases, draws * len(batch))
    return found


def _tuned(place: Place, batch: list[int], draws: int) -> dict[int, float]:
    """Biases under which each token of ``batch`` is about as likely as is best."""
    bound, root = place.held.bias.bound, math.sqrt(len(batch))
    aims = np.full(len(batch), 1.0 / root)  # odds to the anchor
    beta = np.zeros(len(batch))
    for _ in range(2 * math.ceil(bound)):
        bias = dict(zip(batch, beta.tolist(), strict=True))
        counts = np.bincount(place.ask(draws, bias=bias).first_tokens(), minlength=place.vocab_size)
        rest = draws - int(counts[batch].sum())
        odds = (counts[batch] + 0.5) / (rest + 0.5)
        move = np.clip(np.log(aims / odds), -4.0, 4.0)
        if np.abs(move).max() < 0.7:
            return bias
        if (counts[batch][beta >= bound] == 0).any():
            break
        beta = np.clip(beta + move, -bound, bound)
    raise BackendError(f"no biases within ±{bound:g} make tokens {batch[:3]}… likely")


def law_by_counts(place: Place, draws: int) -> FloatArray:
    """Frequencies of a number of draws: TV ≈ √((K - 1)/(2πN)) in the mean, at most. (K,) nats."""
    counts = np.bincount(
        place.ask(check_int("draws", draws, 1)).first_tokens(), minlength=place.vocab_size
    )
    with np.errstate(divide="ignore"):
        return np.log(counts / draws)


def law_by_biased_counts(place: Place, draws: int) -> FloatArray:
    """Every token by ``logprobs_by_search``, ``draws`` draws for each, then normalized. (K,) nats."""
    found = logprobs_by_search(place, np.arange(place.vocab_size - 1), draws)
    law = np.array([found[token] for token in range(place.vocab_size - 1)])
    top = int(law.argmax())  # the last token beside the top one, so that nothing cancels
    last = logprobs_by_search(place, np.array([place.vocab_size - 1, top]), draws)
    gap = last[place.vocab_size - 1] - last[top]
    return log_normalize(np.append(law, law[top] + gap))


def list_by_collecting(place: Place, k: int) -> tuple[list[int], FloatArray]:
    """The k most likely tokens and their log-probabilities, exactly, from drawn log-probabilities.

    Draws until the k-th largest value seen is at least the unseen mass: no unseen token is larger.

    Raises:
        BackendError: not certain within the draws allowed.
    """
    seen: dict[int, float] = {}
    for _ in range(place.held.most):
        _collect(place, seen)
        ranked = sorted(seen, key=lambda token: (-seen[token], token))[:k]
        mass = math.fsum(map(math.exp, seen.values()))
        if len(ranked) == k and math.exp(seen[ranked[-1]]) >= 1.0 - mass - 1e-12:
            return ranked, np.array([seen[token] for token in ranked])
    raise BackendError(f"{len(seen)} tokens seen do not settle the {k} most likely")


def law_by_collecting(place: Place) -> FloatArray:
    """The law, exactly, from drawn log-probabilities: until one token is unseen, or no mass is. (K,) nats.

    Raises:
        BackendError: not all was seen within the draws allowed.
        InvalidInput: reports without log-probabilities.
    """
    seen: dict[int, float] = {}
    for _ in range(place.held.most):
        _collect(place, seen)
        mass = math.fsum(map(math.exp, seen.values()))
        if len(seen) >= place.vocab_size - 1 or mass >= 1.0 - 1e-12:
            law = np.full(place.vocab_size, -np.inf)
            law[list(seen)] = list(seen.values())
            if len(seen) == place.vocab_size - 1 and mass < 1.0:
                law[np.flatnonzero(law == -np.inf)[0]] = math.log1p(-mass)
            return law
    raise BackendError(f"{len(seen)} of {place.vocab_size} tokens were seen")


def _collect(place: Place, seen: dict[int, float]) -> None:
    """One draw; with what its list shows, if there is one."""
    reply, i = place.draw()
    if reply.logprobs is None:
        raise InvalidInput(f"this needs log-probabilities, got {place.held.interface}")
    seen[int(reply.tokens[i, 0])] = float(reply.logprobs[i, 0])
    if reply.top_tokens is not None and reply.top_logprobs is not None:
        pairs = zip(reply.top_tokens[0, 0].tolist(), reply.top_logprobs[0, 0].tolist(), strict=True)
        seen.update({token: value for token, value in pairs if value > -math.inf})
