"""Where to draw so that hidden settings show.

One setting shows where it cuts before the others do, and where what it cuts off is likely enough to be missed:

* **top-k**: a flat law (entropy >= 4 nats), on which neither 95 % of the mass nor a twentieth of the top
  probability is passed by rank 40. It takes draws enough to see the last token that is kept: about 5/p(rank k).
* **min-p**: one likely token and a long tail of unlikely ones.
* **top-p**: ten to thirty tokens of like probability and little else, as at the last digit of a year.
* **temperature**: any law of 2 nats or more; draws from all prefixes count together.
* **repetition, presence and frequency penalties**: prefixes some of whose tokens are likely to come again, as lists and
  repeated phrases. Of a repetition penalty r, logits above 0 are divided by r and others multiplied, and the
  zero of logits is not in log-probabilities: repeated tokens show that there is a penalty, and how strong it is
  follows once draws with a told penalty have shown where the zero is (``log_partition``): 300 draws of each kind,
  at a prefix where some ten likely tokens include several that are in it. Servers that count only what they wrote themselves
  (presence and frequency, in vLLM and OpenAI's) show it only in draws that follow tokens of the same answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..checks import check_int
from ..errors import InvalidInput
from .drawn import Drawn
from .tempering import Ranked, ranked

_NAMES = ("top_k", "top_p", "min_p")
_USUAL = ((40, 0.95, 0.05), (20, 0.9, 0.05), (50, 0.9, 0.1), (64, 0.95, 0.02))
"""Settings that are common, the first most; where these cut apart, so do their neighbours."""


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
        for name in _NAMES
    ]
    orders.append(sorted(range(len(stated)), key=lambda i: -_repeated(stated[i])))
    chosen: list[int] = []
    for turn in range(len(stated)):
        for kind, order in enumerate(orders):
            shows = kind < len(_NAMES) or _repeated(stated[order[turn]]) > 0
            if order[turn] not in chosen and len(chosen) < most and shows:
                chosen.append(order[turn])
    weights = np.array([_needed(laws[i]) for i in chosen])
    counts = np.maximum(1, np.floor(draws * weights / weights.sum())).astype(int)
    counts[int(counts.argmax())] += draws - int(counts.sum())
    return tuple(zip(chosen, counts.tolist(), strict=True))


def _cuts(law: Ranked, k: int, p: float, m: float) -> tuple[int, int, int]:
    """How many tokens top-k, top-p and min-p would keep, each for itself."""
    mass = np.exp(law.logs)
    by_p = int(np.searchsorted(np.cumsum(mass), p)) + 1
    return k, by_p, int((mass >= m * mass[0]).sum())


def _margin(law: Ranked, name: str) -> float:
    """Share of what the other settings keep that ``name`` alone cuts off, in the mean over usual settings."""
    mass, margins = np.exp(law.logs), [0.0]
    for usual in _USUAL:
        cuts: dict[str, int] = dict(zip(_NAMES, _cuts(law, *usual), strict=True))
        own, others = cuts.pop(name), min(cuts.values())
        margins.append(float(mass[own:others].sum() / mass[:others].sum()))
    return sum(margins) / len(_USUAL)


def _repeated(stated: Drawn) -> float:
    """How telling a prefix is of penalties: the spread of p(a)(1 − p(a)) over tokens that are in it."""
    p = stated.law()[:-1][np.isin(stated.ids, stated.prefix)]
    return float((p * (1 - p)).sum())


def _needed(law: Ranked) -> float:
    """Draws that show the last token that is kept, as a share."""
    p, kept = np.exp(law.logs), min(*_cuts(law, *_USUAL[0]), len(law.logs))
    return float(np.clip(5.0 * p[:kept].sum() / p[kept - 1], 100.0, 1500.0))
