"""Whether tokens that came before come again as often as the law says: what penalties change."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import binom

from .drawn import Drawn, Finding

REPEATS = "repeats"


def again(drawn: Drawn) -> float:
    """Probability, by the stated list, of a token that is in the prefix."""
    seen = np.isin(drawn.ids, drawn.prefix)
    return min(1.0, float(np.exp(drawn.logprobs[seen]).sum()))


def repeats(drawn: Sequence[Drawn], level: float) -> Finding:
    """Do draws repeat listed tokens of their prefix as often as stated?

    The count is a sum of independent binomial variables; its law is their convolution, exact.

    Args:
        level: probability that it is wrongly denied, at most.
    """
    law, count, n = np.ones(1), 0, 0
    for one in drawn:
        seen = one.ids[np.isin(one.ids, one.prefix)]
        if not len(seen) or not len(one.tokens):
            continue
        size = len(one.tokens)
        law = np.convolve(law, binom.pmf(np.arange(size + 1), size, again(one)))
        count, n = count + int(np.isin(one.tokens, seen).sum()), n + size
    mean = float((np.arange(len(law)) * law).sum())
    p = min(1.0, 2 * float(min(law[: count + 1].sum(), law[count:].sum())))
    seen_as = f"{count} of {n} draws repeat a token, {mean:.1f} were expected (p = {p:.2g})"
    return Finding(REPEATS, p >= level, seen_as, p)


def fewer(drawn: Sequence[Drawn]) -> bool:
    """Whether draws repeat listed tokens of their prefix less often than stated."""
    count = sum(
        int(np.isin(one.tokens, one.ids[np.isin(one.ids, one.prefix)]).sum()) for one in drawn
    )
    return count < sum(len(one.tokens) * again(one) for one in drawn)
