"""Laws from top-k lists, ids and scores: by logit bias, by bans, by a known image of logits.

Each function asks at one ``Place`` and returns log P(· | u), (K,) nats, of the law at temperature 1
before any bias. B = ``bias.bound``, b = ``bias.tokens``, k = the length of the list. Sources: bias with and
without a reference token, Carlini et al. (arXiv 2403.06634); known image, Finlayson et al. (2403.09539);
bisection, Morris et al. (2311.13647).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from ...errors import BackendError, InvalidInput
from ...types import FloatArray, Reply
from ..law import log_normalize
from .place import Place


def law_anchored(place: Place, first: Sequence[int] = (), lift: float | None = None) -> FloatArray:
    """From lists with processed bias, stably: 1 + ⌈(K - k)/r⌉ calls, r = min(b, k - 1).

    A plain call, then +B on r unseen tokens at a time; the top token a stays in the list:
    log P_i = log P_a + τ·log(x_i/x_a) - B. Where lists are renormalized (top-k sampling) or tempered the
    ratios are normalized at the end. Certifies itself: the listed tokens are the biased ones and a.

    Args:
        first: tokens to bias before all others, where only some are of interest.
        lift: the bias, by default B.

    Raises:
        InvalidInput: lists of one token, or raw reports.
        BackendError: B is smaller than the gap between a and a token, which is named.
    """
    bias = place.held.bias
    k, tau = place.held.report.top, place.held.sampling.temperature
    k = min(k, place.held.sampling.top_k or k)
    r = min(bias.tokens, k - 1)
    if r < 1 or bias.raw or not tau or place.held.sampling.top_p < 1.0:
        raise InvalidInput(
            f"an anchor needs processed lists of two tokens or more without top-p, "
            f"got {place.held.interface}"
        )
    up = bias.bound if lift is None else lift
    listed = _listed(place.ask())
    anchor, top = next(iter(listed.items()))
    gap = {token: tau * (value - top) for token, value in listed.items()}
    for batch in _batches(_unseen(place, gap, first), r):
        listed = _listed(place.ask(bias=dict.fromkeys(batch, up)))
        for token in batch:
            if token not in listed or anchor not in listed:
                raise BackendError(
                    f"a bias of {up:g} nats does not list token {token} beside the top token {anchor}"
                )
            gap[token] = tau * (listed[token] - listed[anchor]) - up
    law = np.array([gap[token] for token in range(place.vocab_size)])
    return law + top if place.held.sampling.is_base else log_normalize(law)


def law_fewest(place: Place) -> FloatArray:
    """From lists with processed bias, in ⌈(K - 1)/k⌉ calls, b >= k; the last token by Σ P = 1.

    +B on k tokens at a time: with s the sum of what is listed, P_i = x_i/(s + e^B(1 - s)). The difference
    1 - s cancels: errors of reports grow by about e^B·P_S/(1 - P_S). For exact arithmetic and small B.

    Raises:
        InvalidInput: b < k, raw reports, or another sampling law than temperature 1.
        BackendError: a biased token is not listed.
    """
    bias, k = place.held.bias, place.held.report.top
    if bias.tokens < k or not k or bias.raw or not place.held.sampling.is_base:
        raise InvalidInput(
            f"this needs processed lists and b >= k, got {place.held.interface}, b = {bias.tokens}"
        )
    law = np.zeros(place.vocab_size)
    for batch in _batches(range(place.vocab_size - 1), k):
        listed = _listed(place.ask(bias=dict.fromkeys(batch, bias.bound)))
        missing = [token for token in batch if token not in listed]
        if missing:
            raise BackendError(f"a bias of {bias.bound:g} nats does not list token {missing[0]}")
        x = np.exp([listed[token] for token in batch])
        law[batch] = x / (x.sum() + math.exp(bias.bound) * (1.0 - x.sum()))
    law[-1] = 1.0 - law[:-1].sum()
    return _log(law)


def law_from_masks(place: Place) -> FloatArray:
    """From lists of k allowed tokens (all others banned), ⌈(K - 1)/(k - 1)⌉ calls: ratios are chained.

    Lists share token 0, which must be possible. Needs masks on K - 1 tokens, no B, and nothing cancels.

    Raises:
        InvalidInput: bans on fewer tokens, lists of one token, or raw reports.
    """
    bias, k, tau = place.held.bias, place.held.report.top, place.held.sampling.temperature
    size = place.vocab_size
    if k < 2 or bias.raw or not bias.bans or bias.tokens < size - 2 or not tau:
        raise InvalidInput(f"this needs bans on {size - 2} tokens and lists of two or more tokens")
    gap = np.zeros(size)
    for batch in _batches(range(1, size), k - 1):
        allowed = {0, *batch}
        banned = {token: -math.inf for token in range(size) if token not in allowed}
        listed = _listed(place.ask(bias=banned))
        for token in batch:
            gap[token] = tau * (listed.get(token, -math.inf) - listed[0])
    return log_normalize(gap)


def longer_list(place: Place, length: int) -> tuple[list[int], FloatArray]:
    """The ``length`` most likely tokens and their log-probabilities, by bans: ⌈L/k⌉ calls, L <= b + k.

    Seen tokens are banned; what is listed then is multiplied by 1 - P(banned).

    Raises:
        InvalidInput: no bans, too few of them, raw reports, or another law than temperature 1.
    """
    bias, k = place.held.bias, place.held.report.top
    if not bias.bans or bias.raw or length > bias.tokens + k or not place.held.sampling.is_base:
        raise InvalidInput(
            f"a list of {length} needs processed reports and bans on {length - k} tokens, "
            f"got {place.held.interface}, b = {bias.tokens}"
        )
    found: dict[int, float] = {}
    while len(found) < min(length, place.vocab_size):
        left = math.log1p(-min(1.0, math.fsum(map(math.exp, found.values())))) if found else 0.0
        listed = _listed(place.ask(bias=dict.fromkeys(found, -math.inf)))
        new = {token: value + left for token, value in listed.items() if token not in found}
        if not new:
            break  # a list that is as long as the vocabulary shows banned tokens
        found.update(new)
    ids = list(found)[:length]
    return ids, np.array([found[token] for token in ids])


def law_from_image(place: Place, image: FloatArray) -> FloatArray:
    """From lists with processed bias where logits are W·h with W known: ⌈d/(k - 1)⌉ calls.

    Differences to the anchor are linear equations in h.

    Args:
        image: (K, d), W up to a change of basis; the differences asked for must determine h.

    Raises:
        InvalidInput: as ``law_anchored``, or the equations do not determine h.
        BackendError: B is too small.
    """
    bias, k = place.held.bias, place.held.report.top
    size, d = image.shape
    if k < 2 or bias.raw or size != place.vocab_size or not place.held.sampling.is_base:
        raise InvalidInput(
            f"an image of shape {image.shape} needs lists of two or more of {place.vocab_size} tokens"
        )
    listed = _listed(place.ask())
    anchor, top = next(iter(listed.items()))
    gap = {token: value - top for token, value in listed.items() if token != anchor}
    unseen = [token for token in _unseen(place, gap) if token != anchor]
    for batch in _batches(unseen[: max(0, d - len(gap))], min(bias.tokens, k - 1)):
        listed = _listed(place.ask(bias=dict.fromkeys(batch, bias.bound)))
        for token in batch:
            if token not in listed or anchor not in listed:
                raise BackendError(f"a bias of {bias.bound:g} nats does not list token {token}")
            gap[token] = listed[token] - listed[anchor] - bias.bound
    ids = list(gap)
    rows = image[ids] - image[anchor]
    h, _, rank, _ = np.linalg.lstsq(rows, np.array([gap[i] for i in ids]), rcond=None)
    if rank < d:
        raise InvalidInput(f"{len(ids)} differences have rank {rank}, less than d = {d}")
    return log_normalize(image @ h)


def law_raw(place: Place, n: int = 1, by_sum: bool = True) -> FloatArray:
    """From raw lists: the bias decides what is drawn, and the drawn token's value is reported.

    +B on min(b, unseen) unseen tokens for n draws a call, the first call included: for n = 1 one new token per
    call while B is large, K - k calls, or K - k - 1 with ``by_sum``, where the last token follows from
    Σ P = 1. The first forced token is a guess: it may be in the list already, which costs one call.

    Raises:
        InvalidInput: processed reports.
        BackendError: tokens were not drawn in the calls allowed.
    """
    bias = place.held.bias
    if not bias.raw or not place.held.report.has_logprob or not place.held.sampling.is_base:
        raise InvalidInput(
            f"this needs raw reports with log-probabilities, got {place.held.interface}"
        )
    size, known = place.vocab_size, dict[int, float]()
    wanted = 1 if n == 1 else bias.tokens
    for _ in range(place.held.most):
        unseen = [token for token in range(size - 1, -1, -1) if token not in known]
        if len(unseen) <= by_sum:
            break
        reply = place.ask(n, bias=dict.fromkeys(unseen[:wanted], bias.bound))
        known |= _listed(reply) | _drawn(reply)
    else:
        raise BackendError(f"{size - len(known)} tokens were not drawn with B = {bias.bound:g}")
    law = np.full(size, -np.inf)
    law[list(known)] = list(known.values())
    if len(known) < size:
        last = next(token for token in range(size) if token not in known)
        law[last] = _log(np.array(1.0 - math.fsum(map(math.exp, known.values()))))
    return law


def law_from_ids(place: Place, gap: float, epsilon: float, draws: int = 1) -> FloatArray:
    """From the most likely id alone, with bias: each gap to the top token bisected to ± ε.

    1 + (K - 1)·⌈log₂(R/2ε)⌉ calls; then log P is within 2ε and TV at most tanh(ε/2). Temperature and
    truncation do not matter: logits are compared. Where tokens are drawn the most frequent of ``draws``
    stands for the most likely one, and the law is right only as often as it is.

    Args:
        gap: R, at least the largest log-odds between the top token and another one, R <= B.
        epsilon: ε nats.
        draws: of each call, where tokens are drawn.

    Raises:
        InvalidInput: R > B, or ε out of range.
    """
    bias = place.held.bias
    if gap > bias.bound or not 0 < epsilon < gap:
        raise InvalidInput(
            f"this needs 0 < ε < R <= B = {bias.bound:g}, got ε = {epsilon}, R = {gap}"
        )
    anchor = place.ask(draws).plurality()
    steps = math.ceil(math.log2(gap / (2 * epsilon)))
    gaps = np.zeros(place.vocab_size)
    for token in range(place.vocab_size):
        low, high = 0.0, gap
        for _ in range(steps if token != anchor else 0):
            middle = (low + high) / 2
            over = place.ask(draws, bias={token: middle}).plurality() == token
            low, high = (low, middle) if over else (middle, high)
        gaps[token] = -(low + high) / 2 if token != anchor else 0.0
    return log_normalize(gaps)


def law_from_scores(place: Place) -> FloatArray:
    """From teacher forcing: K - 1 scored tokens, and the last by Σ P = 1."""
    law = np.zeros(place.vocab_size)
    for token in range(place.vocab_size - 1):
        reply = place.ask(forced=token)
        assert reply.logprobs is not None
        law[token] = np.exp(reply.logprobs[0, 0])
    law[-1] = 1.0 - math.fsum(law[:-1].tolist())
    return _log(law)


def draw_by_scores(place: Place, log_bound: float, rng: np.random.Generator) -> int:
    """One token by rejection of uniform proposals that are scored: K·e^bound expected scores.

    Args:
        log_bound: log of a bound on the largest probability, nats; 0 always holds.
        rng: of proposals and acceptances.

    Raises:
        InvalidInput: a score is above the bound.
        BackendError: nothing was accepted in the calls allowed.
    """
    for _ in range(place.held.most):
        token = int(rng.integers(place.vocab_size))
        reply = place.ask(forced=token)
        assert reply.logprobs is not None
        over = float(reply.logprobs[0, 0]) - log_bound
        if over > 1e-9:
            raise InvalidInput(f"log P({token}) is {over:.3g} nats above the bound {log_bound:.6g}")
        if rng.random() < math.exp(over):
            return token
    raise BackendError(f"no token was accepted in {place.held.most:,} scores")


def _listed(reply: Reply) -> dict[int, float]:
    """Token → reported log-probability, most likely first; impossible tokens left out."""
    if reply.top_tokens is None or reply.top_logprobs is None:
        return {}
    pairs = zip(reply.top_tokens[0, 0].tolist(), reply.top_logprobs[0, 0].tolist(), strict=True)
    return {token: value for token, value in pairs if value > -math.inf}


def _drawn(reply: Reply) -> dict[int, float]:
    """Drawn token → its reported log-probability."""
    assert reply.logprobs is not None
    return dict(zip(reply.tokens[:, 0].tolist(), reply.logprobs[:, 0].tolist(), strict=True))


def _unseen(place: Place, known: Iterable[int], first: Sequence[int] = ()) -> list[int]:
    seen = set(known)
    order = dict.fromkeys((*first, *range(place.vocab_size)))
    return [token for token in order if token not in seen]


def _batches(tokens: Sequence[int], size: int) -> list[list[int]]:
    return [list(tokens[i : i + size]) for i in range(0, len(tokens), size)]


def _log(p: FloatArray) -> FloatArray:
    """log of probabilities that rounding may have made negative."""
    with np.errstate(divide="ignore"):
        return np.log(np.maximum(p, 0.0))
