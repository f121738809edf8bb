"""Where in a text its answer stands: tags, ``####``, ``\\boxed``, a phrase, the last number, a regex."""

from __future__ import annotations

import re
from collections import deque
from fractions import Fraction

_TAGGED = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL | re.IGNORECASE)
_SAID = re.compile(
    r"(?:final\s+answer|answer)\s*(?:is|=|:)\s*:?\s*(.+?)(?=\.\s|\.?$|\n)",
    re.IGNORECASE | re.MULTILINE,
)
_NUMBER = re.compile(
    r"""(?P<sign>[-+−–]?)\s?(?:[$€£]|\\\$)?\s?
    (?:(?P<units>\d+)[ \u00a0](?=\d+/\d))?  # of a mixed number, 1 1/2
    (?P<whole>\d{1,3}(?:(?:,|\{,\}|\\,|\u2009|\u202f|\u00a0)\d{3})+(?!\d)|\d+)?
    (?P<rest>\.\d+)?(?P<power>[eE][-+]?\d{1,3})?
    (?:\s?/\s?(?P<below>\d+(?:\.\d+)?))?(?P<percent>\s?\\?%)?""",
    re.VERBOSE,
)
_GROUPING = re.compile(r"[^\d]")
_OPTION = re.compile(r"(?<![A-Za-z])\(?([A-Z])\)?(?=[).:,*\]\s]|$)")
_WORDLIKE = re.compile(r"(?<![A-Za-z(])[AI](?= [a-z])")


def tagged(text: str) -> str | None:
    """Inside the last ``<answer>…</answer>`` (a stop text may have cut its end off)."""
    found = _TAGGED.findall(text)
    return found[-1].strip() if found else None


def marked(text: str) -> str | None:
    """The line behind the last ``####``."""
    _, mark, rest = text.rpartition("####")
    line = rest.strip().split("\n")[0].strip()
    return line if mark and line else None


def boxed(text: str) -> str | None:
    """Inside the last ``\\boxed{…}`` whose braces close (also ``\\boxed 5`` and ``\\fbox``)."""
    for start in reversed([m.end() for m in re.finditer(r"\\(?:boxed|fbox)\s*", text)]):
        if text[start : start + 1] != "{":
            word = re.match(r"[^\s$]+", text[start:])
            if word:
                return word[0]
            continue
        depth = 0
        for at in range(start, len(text)):
            depth += {"{": 1, "}": -1}.get(text[at], 0) if text[at - 1] != "\\" else 0
            if depth == 0:
                return text[start + 1 : at].strip()
    return None


def said(text: str) -> str | None:
    """Behind the last "the answer is" or "Answer:", to the end of the sentence."""
    found = _SAID.findall(text)
    return found[-1].strip().strip("*").strip() if found else None


def pointed(text: str) -> str | None:
    """What ``text`` points out as its answer, by the strongest sign that it has."""
    return next((f for f in (tagged(text), marked(text), boxed(text), said(text)) if f), None)


def plain(text: str) -> str:
    """``text`` without the commands of LaTeX that only choose a font."""
    return re.sub(r"\\(?:text|mathrm|mathbf|textbf|mathit)\{([^{}]*)\}", r"\1", text)


def number_in(text: str, first: bool = False) -> Fraction | None:
    """The last number in ``text`` (or the first), exactly; separators of thousands, currencies and a
    point at the end do not count, and ``a/b`` is one number. A per cent is its hundredth part."""
    match = _number(text, first)
    if match is None:
        return None
    whole = _GROUPING.sub("", match["whole"] or "0")
    value = Fraction(f"{whole}{match['rest'] or ''}{match['power'] or ''}")
    below = Fraction(match["below"]) if match["below"] else Fraction(1)
    if below == 0:
        return None
    value = (value / below + int(match["units"] or 0)) / (100 if match["percent"] else 1)
    minus = match["sign"] in ("-", "−", "–") and not _between(text, match.start())
    return -value if minus else value


def first_number(text: str) -> str | None:
    """The first number of ``text``, as a fraction, or as ``n%``."""
    return _written(text, first=True)


def last_number(text: str) -> str | None:
    """The last number of ``text``, as a fraction, or as ``n%``."""
    return _written(text, first=False)


def _written(text: str, first: bool) -> str | None:
    value, match = number_in(text, first), _number(text, first)
    if value is None or match is None:
        return None
    return f"{value * 100}%" if match["percent"] else str(value)


def _number(text: str, first: bool) -> re.Match[str] | None:
    matches = (m for m in _NUMBER.finditer(text) if m["whole"] or m["rest"])
    return next(matches, None) if first else next(iter(deque(matches, maxlen=1)), None)


def _between(text: str, at: int) -> bool:
    """Whether a dash stands between two things, so that it is no sign (``3-4``, ``10 - 4``)."""
    before = text[:at].rstrip()[-1:]
    return before.isalnum() or before in (")", "]")


def option_in(text: str, letters: str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ") -> str | None:
    """The letter of the option that ``text`` names last; "A" and "I" as words are none."""
    words = {m.start() for m in _WORDLIKE.finditer(text)}
    found = [m[1] for m in _OPTION.finditer(text) if m.start(1) not in words and m[1] in letters]
    if found:
        return found[-1]
    alone = text.strip().strip("().: ")
    return alone.upper() if len(alone) == 1 and alone.upper() in letters else None
