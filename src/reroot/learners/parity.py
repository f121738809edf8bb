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
from .common import COUNT, affordable, between, check, checked, collect

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


def _parity_elimination(params: Params) -> Contract:
    check(params, n=COUNT.or_none, noise=between(0, 0.5).or_none, delta=between(0, 1))
    report = Report.parse(params["report"])
    if report == Report.SAMPLE:
        if params["noise"] is None:
            raise InvalidInput("report = 'sample' needs noise, which says how many draws suffice")
        return Contract(Control.VISITED, report)
    if report != Report.LOGPROB:
        raise InvalidInput(f"report must be 'logprob' or 'sample', got {params['report']!r}")
    return Contract(Control.ROOT, report)


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
    T, asked = _length(session), Report.parse(report)
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
    T = _length(session)
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


@learner(requires=_parity_elimination)
async def parity_elimination(
    session: Session,
    *,
    n: int | None = None,
    noise: float | None = None,
    delta: float = 0.05,
    report: str = "logprob",
) -> Prefix | None:
    """Linear algebra over F2 on n rollouts, once their last bits are freed of noise.

    Pseudo-code::

        (x¹, b¹) … (xⁿ, bⁿ) ~ P                    (fewer when the budget does not allow n)
        LOGPROB: c_j ← the likelier last bit after x^j, by the log-probability of b^j
        SAMPLE:  for linearly independent x^j: c_j ← the majority of m more last bits after x^j
        return a random s ≠ 0 with s·x^j = c_j for all j, and 0

    LOGPROB needs root control only: one log-probability at K = 2 is the law, so each rollout tells a
    noiseless parity. The x^j span all of F2^(T-1) but for a probability of at most 2^(T-1-n); with
    corank r the guess is right with probability at least 2^-r. SAMPLE asks again at prefixes that
    the generator emitted, VISITED control: n rollouts and (T - 1)·m draws, m =
    ``limits.plurality_draws(2, T - 1, 1 - α, delta/2)``. Both take O(n·T) operations on T-bit words.

    Args:
        n: rollouts; ``None``: T - 1 + ⌈log2(1/delta)⌉, with SAMPLE reports log2(2/delta).
        noise: α; needed with SAMPLE reports only.
        delta: failure probability that goes with n = ``None``, and with SAMPLE reports.
        report: ``"logprob"`` or ``"sample"``.

    Raises:
        InvalidInput: the vocabulary is not {0, 1}.
    """
    T, asked = _length(session), Report.parse(report)
    if asked == Report.SAMPLE:
        delta /= 2
    wanted = T - 1 + math.ceil(-math.log2(delta)) if n is None else n
    fits = affordable(session, wanted, rollouts=1, tokens=T)
    if not fits:
        return None
    with suppress(BudgetExceeded):
        reply = await session.rollouts(fits, report=asked)
        strings = reply.tokens[:, :-1]
        if asked == Report.LOGPROB:
            assert reply.logprobs is not None
            bits = np.where(reply.logprobs[:, -1] > -math.log(2), 0, 1) ^ reply.tokens[:, -1]
        else:
            assert noise is not None
            strings = strings[_independent(strings)]
            m = plurality_draws(2, T - 1, 1 - noise, delta)
            queries = [Query(Prefix(tuple(x)), m, 1, asked) for x in strings.tolist()]
            replies = await session.ask(queries)
            bits = np.array([r.plurality(session.rng) for r in replies], dtype=np.int64)
        return Prefix(tuple(_solution(strings, bits, session.rng))).append(0)
    return None


def _words(strings: IntArray) -> list[int]:
    """Each row of bits as one integer, the first bit the most significant."""
    return [int("".join(map(str, row)), 2) for row in strings.tolist()]


def _independent(strings: IntArray) -> list[int]:
    """The rows that are no sum over F2 of rows before them."""
    pivots: dict[int, int] = {}
    return [j for j, word in enumerate(_words(strings)) if _reduced_in(pivots, word)]


def _reduced_in(pivots: dict[int, int], word: int, first: int = 0) -> bool:
    """Add ``word`` to rows in echelon form (leading position → row), if it is not in their span.

    Positions up to ``first`` never lead: there lies a right-hand side.
    """
    while (lead := word.bit_length()) > first:
        if lead not in pivots:
            pivots[lead] = word
            return True
        word ^= pivots[lead]
    return False


def _solution(strings: IntArray, bits: IntArray, rng: np.random.Generator) -> list[int]:
    """(T - 1,) a random s ≠ 0 with s·x = c mod 2 for all rows x and their bits c.

    Equations that contradict those before them are left out.
    """
    size = strings.shape[1]
    pivots: dict[int, int] = {}
    for word in _words(np.column_stack([strings, bits])):
        _reduced_in(pivots, word, first=1)
    while True:
        secret = 0  # position i is worth 2^(i - 1); the right-hand side is at 1
        for lead in range(2, size + 2):
            row = pivots.get(lead)
            if row is None:
                bit = int(rng.integers(2))
            else:
                below = row ^ (1 << (lead - 1))
                bit = (below & (secret | 1)).bit_count() % 2
            secret |= bit << (lead - 1)
        if secret or len(pivots) == size:
            return [int(b) for b in f"{secret >> 1:0{size}b}"]


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


def _length(session: Session) -> int:
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
