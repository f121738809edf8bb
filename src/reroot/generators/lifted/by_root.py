"""Laws and outputs from the root, where prefixes are waited for: with a constant bias, or by rejection."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ...contract import Sampling
from ...errors import BackendError, InvalidInput
from ...randomness import Key
from ...types import FloatArray
from ..base import Request
from ..law import log_normalize, sampling_laws
from .by_lists import law_anchored
from .place import Held, Place
from .prefixes import best_constant_bias
from .tempering import biased_law, retempered

_PILOT = 16  # draws that look whether a bias shows a token


class Output(NamedTuple):
    """A whole output, and the laws that its tokens were drawn from, (len(tokens), K) nats."""

    tokens: tuple[int, ...]
    laws: FloatArray


def law_by_constant_bias(place: Place, along: FloatArray) -> FloatArray:
    """The law at a prefix u from the root, which is met sooner under the best constant bias. (K,) nats.

    The tokens of u alone are biased, b of them at most; the FULL report comes biased, and β is taken off.

    Args:
        place: at the root, with a processed bias and FULL reports that leave out no token.
        along: (|u|, K) nats, the laws at the prefixes of u.

    Raises:
        InvalidInput: another report, a raw bias, or a truncated law.
        BackendError: u was not met within the rollouts allowed.
    """
    bias, sampling = place.held.bias, place.held.sampling
    cut = sampling.top_k or sampling.top_p < 1 or not sampling.temperature
    if bias.raw or not place.held.report.has_law or cut:
        raise InvalidInput(
            f"this needs FULL reports of whole laws and a processed bias, got {place.held.interface}"
        )
    shift: dict[int, float] = {}
    if place.prefix:
        tokens = list(dict.fromkeys(place.prefix))[: bias.tokens]
        beta = best_constant_bias(
            along, place.prefix, bias.bound, tokens, sampling.temperature
        ).beta
        shift = {token: float(beta[token]) for token in tokens}
    reply = place.ask(bias=shift)
    assert reply.laws is not None
    law = retempered(reply.laws[0, 0], sampling.temperature)
    return biased_law(law, {token: -value for token, value in shift.items()})


def law_by_lifting(place: Place, gap: float, epsilon: float) -> FloatArray:
    """The law at a path of modes u from the root, where two tokens or more are kept. (K,) nats.

    A bias on one token leaves the mode among those that are kept, at every place: u is still met, and at u
    the token stands beside the mode, from which its log-odds are read or counted. At most
    (K - 1)(k - 1 + e^(R/τ))^(|u| + 1) rollouts, times 4z²/ε² where draws alone are reported.

    Args:
        gap: R, at least the largest log-odds, nats.
        epsilon: nats of log-odds that are counted.

    Raises:
        InvalidInput: R > B, a raw bias, no draws, top-p, or one token that is kept.
        BackendError: u was not met within the rollouts allowed, or R is too small for a token.
    """
    held = place.held
    if held.bias.raw or not held.report.draws or held.sampling.top_p < 1 or held.sampling.top_k < 2:
        raise InvalidInput(f"this needs draws of two tokens or more by top-k, got {held.interface}")
    if gap > held.bias.bound:
        raise InvalidInput(f"this needs R <= B = {held.bias.bound:g}, got R = {gap:g}")
    if held.report.top >= 2:
        return law_anchored(place, lift=gap)
    draws = 1 if held.report.has_law else math.ceil(16 / epsilon**2)
    gaps, mode = np.zeros(place.vocab_size), _mode(place, draws)
    for token in range(place.vocab_size):
        if token != mode:
            gaps[token] = _lifted_gap(place, token, mode, gap, draws)
    return log_normalize(gaps)


def _mode(place: Place, draws: int) -> int:
    """The most likely token, by its report where there is one."""
    reply = place.ask(4 * _PILOT if place.held.report.has_logprob else draws)
    if reply.logprobs is None:
        return reply.plurality()
    return int(reply.tokens[reply.logprobs[:, 0].argmax(), 0])


def _lifted_gap(place: Place, token: int, mode: int, gap: float, draws: int) -> float:
    """log P(token)/P(mode), by the least bias, of steps of τ, under which the token comes as often as not."""
    tau, lift = place.held.sampling.temperature, 0.0
    while True:
        bias = {token: lift}
        reply = place.ask(1 if place.held.report.has_law else _PILOT, bias=bias)
        if reply.laws is not None and reply.laws[0, 0, token] > -np.inf:
            return tau * float(reply.laws[0, 0, token] - reply.laws[0, 0, mode]) - lift
        hits = int((reply.first_tokens() == token).sum())
        if lift >= gap or (hits >= _PILOT // 4 and reply.laws is None):
            break
        lift = min(gap, lift + tau)
    drawn = reply if reply.logprobs is not None else place.ask(draws, bias=bias)
    tokens = drawn.first_tokens()
    counts = [int((tokens == one).sum()) for one in (token, mode)]
    if not all(counts):
        raise BackendError(f"of tokens {token} and {mode} {counts} draws were seen at R = {lift:g}")
    if drawn.logprobs is None:
        return tau * math.log(counts[0] / counts[1]) - lift
    values = [float(drawn.logprobs[tokens == one, 0][0]) for one in (token, mode)]
    return tau * (values[0] - values[1]) - lift


def log_bound(held: Sampling, wanted: Sampling, vocab_size: int, length: int) -> float:
    """log of a bound on sup_y P(y)/P'(y) for outputs of ``length`` tokens, whatever the laws are.

    K^(1 - 1/τ) per token for τ = T'/T >= 1, K/k where k tokens are kept of K, 1/p for top-p. ∞ where a cooler
    law is held (τ < 1): there it depends on the laws.
    """
    if not wanted.temperature:
        wanted = Sampling(held.temperature, 1.0, 1)
    size = min(held.top_k or vocab_size, vocab_size)
    tau = held.temperature / wanted.temperature
    if tau < 1:
        return math.inf
    each = (1 - 1 / tau) * math.log(size)
    if wanted.top_k and wanted.top_k < size:
        each += math.log(size / wanted.top_k)
    return length * (each - math.log(wanted.top_p))


def draw_output(
    held: Held,
    prompt: tuple[int, ...],
    wanted: Sampling,
    bound: float,
    rng: np.random.Generator,
    stream: Key = (0, 0),
) -> Output:
    """One output y from P, by rejection of whole rollouts with FULL reports from P': e^bound expected rollouts.

    Args:
        wanted: of P, whose laws must follow from those held.
        bound: log of a bound on sup_y P(y)/P'(y), nats; see ``log_bound``.
        rng: of the acceptances.
        stream: sets the rollouts of one output apart from those of others.

    Raises:
        InvalidInput: reports without laws, or the bound is exceeded by a rollout.
        BackendError: nothing was accepted in the rollouts allowed.
    """
    room = held.generator.max_length()
    if room is None or not held.report.has_law:
        raise InvalidInput(f"this needs rollouts with FULL reports, got {held.interface}")
    stop, length = held.generator.stops(()), room - len(prompt)
    for i in range(held.most):
        key = held.key(prompt, (), i, stream)
        request = Request(prompt, (), 1, length, held.report, held.sampling, stop, key)
        reply = held.send(request)
        assert reply.laws is not None
        tokens = reply.continuation(0)
        at = np.arange(len(tokens)), list(tokens)
        laws = reply.laws[0, : len(tokens)]
        there = sampling_laws(retempered(laws, held.sampling.temperature), wanted)
        log_ratio = float((there[at] - laws[at]).sum())
        if log_ratio > bound + 1e-9:
            raise InvalidInput(f"the log-ratio of {tokens} is {log_ratio:.6g}, above {bound:.6g}")
        if rng.random() < math.exp(log_ratio - bound):
            return Output(tokens, there)
    raise BackendError(f"no rollout was accepted in {held.most:,}")
