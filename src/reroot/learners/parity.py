"""Learners of a noisy parity (Mahajan et al., arXiv 2302.14753): by asking after chosen bits, and from root samples."""

from __future__ import annotations

import math
from contextlib import suppress

import numpy as np

from ..access.learner import Params, learner
from ..access.session import Session
from ..contract import Contract, Control, Report
from ..errors import BudgetExceeded, InvalidInput
from ..limits import plurality_draws
from ..types import IntArray, Prefix, Query, Reply
from .common import COUNT, between, check, checked, collect

MAX_BITS = 22
"""Most bits over whose secrets ``parity_root`` searches."""


def _parity_probe(params: Params) -> Contract:
    check(params, noise=between(0, 0.5).or_none, delta=between(0, 1))
    report, control = Report.parse(params["report"]), Control.parse(params["control"])
    if report == Report.NONE:
        raise InvalidInput("report must tell something, got 'none'")
    if report == Report.SAMPLE and params["noise"] is None:
        raise InvalidInput("report = 'sample' needs noise, which says how many draws suffice")
    if control < Control.RESET:
        raise InvalidInput(f"control must be 'reset' or 'chosen', got {params['control']!r}")
    return Contract(control, report)


@learner(requires=_parity_probe)
async def parity_probe(
    session: Session,
    *,
    noise: float | None = None,
    delta: float = 0.05,
    report: str = "logprob",
    control: str = "reset",
) -> Prefix | None:
    """Ask which last bit is likelier after T - 1 strings that tell the secret, one bit each.

    Pseudo-code (after Mahajan et al. 2023, arXiv 2302.14753)::

        for i = 0 … T-2:   x_i ← 0ⁱ 1 and T-2-i more bits;   b_i ← the likelier last bit after x_i
        for i = T-2 … 0:   s_i ← b_i + Σ_{k>i} x_ik·s_k  mod 2
        return s·0

    CHOSEN puts zeros for the more bits, so s_i = b_i, in (T - 1)·m queries. RESET asks once at each
    0ⁱ and lets the generator continue 0ⁱ1, so that x_i may be asked: 2·(T - 1) - 1 queries
    more, where appending zeros one by one would take T(T - 1)/2 more, and as many tokens.
    After 0…0 the likelier last bit is 0 whatever the secret (α < 1/2), so it is not asked.

    * ARGMAX, LOGPROB and up: m = 1, right for certain (K = 2: one log-probability is the law).
    * SAMPLE: the majority of m = ``limits.plurality_draws(2, T - 1, 1 - α, delta)`` draws, that is
      ⌈log((T - 1)/δ) / -log(2·√(α(1 - α)))⌉; right with probability at least 1 - delta (Chernoff
      for each i, union over i).

    Args:
        noise: α, the probability that the last bit is flipped; needed with SAMPLE reports only.
        delta: failure probability with SAMPLE reports.
        report: what to ask for, as in a contract: ``"sample"``, ``"logprob"``, ``"full"``, ….
        control: ``"reset"`` or ``"chosen"``.

    Raises:
        InvalidInput: the vocabulary is not {0, 1}.
    """
    T, asked = length_in_bits(session), Report.parse(report)
    m = 1
    if asked == Report.SAMPLE:
        assert noise is not None
        m = plurality_draws(2, T - 1, 1 - noise, delta)
    strings = [Prefix((0,) * i + (1,) + (0,) * (T - 2 - i)) for i in range(T - 1)]
    with suppress(BudgetExceeded):
        if Control.parse(control) == Control.RESET:
            strings = await _continued(session, asked)
        replies = await session.ask([Query(x, m, 1, asked) for x in strings])
        secret = np.zeros(T - 1, dtype=np.int64)
        for i in reversed(range(T - 1)):
            later = np.array(strings[i].tokens) @ secret
            secret[i] = (_likelier(replies[i], session.rng) + later) % 2
        return Prefix(tuple(secret.tolist())).append(0)
    return None


@learner(requires=checked("root/sample", n=COUNT))
async def parity_root(session: Session, *, n: int = 256) -> Prefix | None:
    """The secret that agrees with most of n rollouts, by search over all 2^(T-1) - 1 of them.

    Pseudo-code (maximum likelihood; fast Walsh-Hadamard transform)::

        (x¹, b¹) … (xⁿ, bⁿ) ~ P                    (fewer when the budget does not allow n)
        return argmax_{s ≠ 0} Σ_j (-1)^(b^j + s·x^j), and 0      (ties: the smallest s, s_0 first)

    This is the Bayes rule for a uniform secret, whatever α < 1/2. It is right with probability at
    least 1 - δ once n ≥ ((T - 1)·log 2 + log(1/δ)) / -log(1/2 + √(α(1 - α))) (Chernoff, union over
    the secrets), and rarely with a quarter of ``limits.parity_sample_floor``. It takes
    2^(T-1)·(T - 1) additions: a few samples suffice, and what is hard is to read them.

    Args:
        n: rollouts.

    Raises:
        InvalidInput: T - 1 > 22, or the vocabulary is not {0, 1}.
    """
    T = length_in_bits(session)
    if T - 1 > MAX_BITS:
        raise InvalidInput(
            f"parity_root searches 2^(T - 1) secrets and takes T - 1 <= {MAX_BITS} bits, got "
            f"{T - 1}: all known ways to learn a parity with noise take time exponential in T, up "
            f"to constants and a logarithm in the exponent (Blum, Kalai and Wasserman 2003)"
        )
    outputs = await collect(session, session.root, n)
    if not outputs:
        return None
    scores = _agreement(np.array([output.tokens for output in outputs]))
    best = 1 + int(scores[1:].argmax())
    return Prefix(tuple(int(bit) for bit in f"{best:0{T - 1}b}")).append(0)


def _agreement(strings: IntArray) -> IntArray:
    """(2^(T-1),) Σ_j (-1)^(b_j + s·x_j): strings that agree with s less those that do not, each s.

    Args:
        strings: (n, T) bits; the last of each row is b_j, the others x_j. In the index s, as in
            x_j, the first bit is the most significant.
    """
    bits = strings.shape[1] - 1
    at = strings[:, :-1] @ (1 << np.arange(bits)[::-1])
    scores = np.zeros(1 << bits, dtype=np.int64)
    np.add.at(scores, at, 1 - 2 * strings[:, -1])
    for i in range(bits):  # one butterfly for each bit of the index
        even, odd = np.moveaxis(scores.reshape(-1, 2, 1 << i), 1, 0)
        even[:], odd[:] = even + odd, even - odd
    return scores


async def _continued(session: Session, report: Report) -> list[Prefix]:
    """0ⁱ1 for i = 0 … T - 2, each continued by the generator to T - 1 bits."""
    bits = session.horizon - 1
    starts = [Prefix((0,) * i + (1,)) for i in range(bits)]
    zeros = [Query(start.parent, 1, 1, report) for start in starts]  # so that starts may be asked
    longer = [Query(start, 1, bits - len(start), report) for start in starts[:-1]]
    replies = await session.ask([*zeros, *longer])
    return [reply.outputs()[0] for reply in replies[bits:]] + starts[-1:]


def length_in_bits(session: Session) -> int:
    """T, if the session's tokens are bits (else ``InvalidInput``)."""
    if session.vocab_size != 2 or session.horizon < 2:
        raise InvalidInput(
            f"a parity is over bits: K = 2 and T >= 2 tokens, got K = {session.vocab_size} and "
            f"T = {session.horizon}"
        )
    return session.horizon


def _likelier(reply: Reply, rng: np.random.Generator) -> int:
    """The likelier bit: by the log-probability of a draw, or the most frequent one (ARGMAX: it)."""
    if reply.logprobs is None:
        return reply.plurality(rng)
    drawn = int(reply.tokens[0, 0])
    return drawn if reply.logprobs[0, 0] > -math.log(2) else 1 - drawn
