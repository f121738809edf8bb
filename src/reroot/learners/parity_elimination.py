"""Noisy parities by linear algebra over F2, once log-probabilities or more draws have undone the noise."""

from __future__ import annotations

import math
from contextlib import suppress

import numpy as np

from ..access.learner import Params, learner
from ..access.session import Session
from ..contract import Contract, Control, Report
from ..errors import BudgetExceeded, InvalidInput
from ..limits import plurality_draws
from ..types import IntArray, Prefix, Query
from .common import COUNT, affordable, between, check
from .parity import length_in_bits


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
    T, asked = length_in_bits(session), Report.parse(report)
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
