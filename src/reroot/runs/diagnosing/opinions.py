"""The judge seen from outside: would somebody else pass what it fails, and is the answer there at all?

Only problems that name their right answer (``Problem.answer``) can be looked at so.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from ...diagnosis.intervals import upper_bound
from ...tasks.answers import equal
from ...tasks.answers.extract import number_in, pointed

_NUMBER = re.compile(r"[-+]?\$?\d[\d,]*(?:\.\d+)?%?")
_LETTER = re.compile(r"\(?[A-Za-z]\)?")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3})")
_PUNCTUATION = re.compile(r"[^\w\s.+-]|\.(?!\d)")
_SHUFFLED = 20
"""Wrong numbers that are looked for beside the answers of other problems."""
_ACCIDENT_LEVEL = 0.005
"""Error probability of the bound on how often answers stand in outputs by accident."""


@functools.lru_cache(maxsize=1 << 16)
def second_opinion(answer: str, text: str) -> bool:
    """Whether ``text`` plainly gives ``answer``: by another equality than the problem's own.

    What counts is what it points out (``\\boxed``, ``####``, ``<answer>``, "the answer is"), else all of it or its
    last line. Numbers are compared as numbers, letters of options as such, other answers with case, punctuation and
    white space aside. A right number somewhere in a sentence is not enough: see ``holds_anywhere``.
    """
    answer, lines = answer.strip(), text.strip().splitlines()
    if not answer or not lines:
        return False
    shown, whole = pointed(text), (text.strip(), lines[-1].strip())
    if _NUMBER.fullmatch(answer):
        bare = any(_NUMBER.fullmatch(said.rstrip(".").strip("$ ")) for said in whole)
        return (shown is not None or bare) and bool(equal("number", answer, text))
    if _LETTER.fullmatch(answer):
        return shown is not None and bool(equal("choice", answer, shown))
    return any(plain(answer) == plain(said) for said in ((shown,) if shown else whole))


@functools.lru_cache(maxsize=1 << 16)
def holds_anywhere(answer: str, text: str) -> bool:
    """Whether the answer stands anywhere in the text: a number as a number, words between word borders."""
    if _NUMBER.fullmatch(answer.strip()):
        value = number_in(answer)
        return any(number_in(found[0]) == value for found in _NUMBER.finditer(text))
    wanted = plain(answer)
    if not wanted:
        return False
    found = re.search(rf"(?<![\w.]){re.escape(wanted)}(?![\w]|\.\d)", plain(text))
    return found is not None


def plain(text: str) -> str:
    """Text without case, punctuation and surplus white space; points inside numbers stay."""
    return " ".join(_PUNCTUATION.sub(" ", _THOUSANDS.sub("", text)).casefold().split())


def accidents(answer: str, texts: Sequence[str], others: Sequence[str]) -> float:
    """Upper bound f₀ of how often a wrong answer stands in these texts (99.5 %).

    Args:
        answer: the right one.
        texts: outputs of the problem.
        others: right answers of other problems; those that are the same as this one do not count.
    """
    if _NUMBER.fullmatch(answer.strip()):
        value = number_in(answer)
        others = [*others, *(str(value + k) for k in range(1, _SHUFFLED + 1) if value is not None)]
    wrong = [other for other in dict.fromkeys(others) if other and plain(other) != plain(answer)]
    tried = len(wrong) * len(texts)
    if not tried:
        return 1.0
    hits = sum(holds_anywhere(other, text) for other in wrong for text in texts)
    return float(upper_bound(hits, tried, _ACCIDENT_LEVEL))
