"""Where to draw so that hidden settings show.

One setting shows where it cuts before the others do, and where what it cuts off is likely enough to be missed:

* **top-k**: a flat law (entropy >= 4 nats), on which neither 95 % of the mass nor a twentieth of the top
  probability is passed by rank 40. It takes draws enough to see the last token that is kept: about 5/p(rank k).
* **min-p**: one likely token and a long tail of unlikely ones.
* **top-p**: a few tokens of like probability and a short tail.
* **temperature**: any law of 2 nats or more; draws from all prefixes count together.
* **repetition, presence and frequency penalties**: prefixes some of whose tokens are likely to come again, as lists and
  repeated phrases. Of a repetition penalty r, logits above 0 are divided by r and others multiplied, and the
  zero of logits is not in log-probabilities: one repeated token shows that there is a penalty, and several of
  different probability, how strong it is. Servers that count only what they wrote themselves
  (presence and frequency, in vLLM and OpenAI's) show it only in draws that follow tokens of the same answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..checks import check_int
from ..errors import InvalidInput
from .drawn import Drawn
from .tempering import Ranked, ranked

_USUAL = {"top_k": 40, "top_p": 0.95, "min_p": 0.05}
"""Settings that are common; where these cut apart, so do their neighbours."""


def plan(stated: Sequence[Drawn], draws: int = 2500, most: int = 6) -> tuple[tuple[int, int], ...]:
    """Which prefixes to draw at, and how often, so that each setting shows somewhere.

    Args:
        stated: candidate prefixes with their stated laws; their draws do not matter (there may be none).
        draws: how many tokens may be drawn.
        most: how many prefixes may be used.

    Returns:
        (index of a candidate, number of draws), at least one; the draws sum to ``draws``.

    Raises:
        InvalidInput: there are no candidates, or fewer draws than prefixes.
    """
    if not stated:
        raise InvalidInput("a plan needs candidate prefixes, got none")
    check_int("most", most, 1)
    check_int("draws", draws, most)
    laws = [ranked(one.take(one.ids[:0])) for one in stated]
    orders = [
        sorted(range(len(stated)), key=lambda i, name=name: -_margin(laws[i], name))
        for name in _USUAL
    ]
    orders.append(sorted(range(len(stated)), key=lambda i: -_repeated(stated[i])))
    chosen: list[int] = []
    for turn in range(len(stated)):
        for kind, order in enumerate(orders):
            shows = kind < len(_USUAL) or _repeated(stated[order[turn]]) > 0
            if order[turn] not in chosen and len(chosen) < most and shows:
                chosen.append(order[turn])
    weights = np.array([_needed(laws[i]) for i in chosen])
    counts = np.maximum(1, np.floor(draws * weights / weights.sum())).astype(int)
    counts[int(counts.argmax())] += draws - int(counts.sum())
    return tuple(zip(chosen, counts.tolist(), strict=True))


def _cuts(law: Ranked) -> tuple[int, int, int]:
    """Ranks at which the usual settings cut."""
    p = np.exp(law.logs)
    sums = np.cumsum(p)
    by_p = int(np.searchsorted(sums, _USUAL["top_p"])) + 1
    by_m = int((p >= _USUAL["min_p"] * p[0]).sum())
    return int(_USUAL["top_k"]), by_p, by_m


def _margin(law: Ranked, name: str) -> float:
    """By how much ``name`` cuts before the others (nats of mass or of ratio), at most what it cuts off."""
    cuts = dict(zip(_USUAL, _cuts(law), strict=True))
    p = np.exp(law.logs)
    at = cuts.pop(name)
    if at >= len(p):
        return -np.inf
    off = 1.0 - float(p[:at].sum())
    ahead = min(np.log(cut / at) for cut in cuts.values())
    return float(ahead + min(0.0, np.log(max(off, 1e-9) / 0.02)))


def _repeated(stated: Drawn) -> float:
    """How telling a prefix is of penalties: the spread of p(a)(1 − p(a)) over tokens that are in it."""
    p = stated.law()[:-1][np.isin(stated.ids, stated.prefix)]
    return float((p * (1 - p)).sum())


def _needed(law: Ranked) -> float:
    """Draws that show the last token that is kept, as a share."""
    p, kept = np.exp(law.logs), min(*_cuts(law), len(law.logs))
    return float(np.clip(5.0 * p[:kept].sum() / p[kept - 1], 100.0, 1500.0))
