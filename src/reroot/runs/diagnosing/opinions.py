"""The judge seen from outside: would somebody else pass what it fails, and is the answer there at all?

Only problems that name their right answer (``Problem.answer``) can be looked at so.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from ...diagnosis.intervals import upper_bound
from ...tasks.answers import equal

_NUMBER = re.compile(r"[-+]?\$?\d[\d,]*(?:\.\d+)?%?")
_LETTER = re.compile(r"\(?[A-Za-z]\)?")
_PUNCTUATION = re.compile(r"[^\w\s.+-]|(?<=\d),(?=\d{3})|\.(?!\d)")
_ACCIDENT_LEVEL = 0.005
"""Error probability of the bound on how often answers stand in outputs by accident."""


@functools.lru_cache(maxsize=1 << 16)
def second_opinion(answer: str, text: str) -> bool:
    """Whether ``text`` gives ``answer`` by another equality than the problem's own.

    Numbers are compared as numbers and letters of options as such, wherever a text points its answer out; other
    answers with case, punctuation and white space aside, as the whole text or its last line.
    """
    answer = answer.strip()
    if not answer or not text.strip():
        return False
    if _NUMBER.fullmatch(answer):
        return bool(equal("number", answer, text))
    if _LETTER.fullmatch(answer):
        return bool(equal("choice", answer, text))
    wanted, said = plain(answer), text.strip()
    return wanted in (plain(said), plain(said.splitlines()[-1]))


@functools.lru_cache(maxsize=1 << 16)
def holds_anywhere(answer: str, text: str) -> bool:
    """Whether the answer stands anywhere in the text, between word borders, as ``plain`` writes both."""
    wanted = plain(answer)
    if not wanted:
        return False
    found = re.search(rf"(?<![\w.]){re.escape(wanted)}(?![\w]|\.\d)", plain(text))
    return found is not None


def plain(text: str) -> str:
    """Text without case, punctuation and surplus white space; points inside numbers stay."""
    return " ".join(_PUNCTUATION.sub("", text).casefold().split())


def accidents(answer: str, texts: Sequence[str], others: Sequence[str]) -> float:
    """Upper bound f₀ of how often a wrong answer stands in these texts (99.5 %).

    Args:
        answer: the right one.
        texts: outputs of the problem.
        others: right answers of other problems; those that are the same as this one do not count.
    """
    wrong = [other for other in dict.fromkeys(others) if other and plain(other) != plain(answer)]
    tried = len(wrong) * len(texts)
    if not tried:
        return 1.0
    hits = sum(holds_anywhere(other, text) for other in wrong for text in texts)
    return float(upper_bound(hits, tried, _ACCIDENT_LEVEL))
