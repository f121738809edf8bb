"""Rules: what counts as the answer in an output, and when two answers are the same.

| kind | the answer in an output | the same as another |
|---|---|---|
| ``exact`` | all of it | character by character, white space at the ends aside |
| ``number`` | what it points out, else its last number | as exact rational numbers: 1,200 = $1200.00, 5/6 ≠ 0.8333 |
| ``math`` | what it points out, else what math-verify finds | by math-verify, within its time limit |
| ``choice`` | the letter of an option, or its text | the letter |
| ``regex:P`` | the last match of P (its first group, if it has one) | character by character |
| ``FILE.py:F`` | F decides: ``F(answer, output)``, texts → true, false or a number | where F says so |

An output points an answer out by ``<answer>`` tags, ``####``, ``\\boxed{…}`` or "the answer is", in
this order of strength, the last of each. One rule serves the reward, the process verifier, votes
and the check of demonstrations.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Protocol

from ... import specs
from ...errors import InvalidInput, nearest
from ...types import Output
from . import extract
from .math import math_same

KINDS = ("exact", "number", "math", "choice", "regex:PATTERN", "FILE.py:FUNCTION")


class AnswerRule(Protocol):
    """When two answers are the same.

    Attributes:
        kind: the text that names the rule.
    """

    @property
    def kind(self) -> str: ...
    def find(self, text: str) -> str | None:
        """The answer in the text of an output, as text; ``None``: there is none."""
        ...

    def same(self, answer: str, found: str) -> bool | float:
        """Whether ``found``, of an output, is the answer ``answer``."""
        ...


@dataclass(frozen=True, slots=True)
class Exact:
    """The whole text, white space at its ends aside."""

    kind: str = "exact"

    def find(self, text: str) -> str | None:
        return text.strip()

    def same(self, answer: str, found: str) -> bool:
        return answer.strip() == found


_SPACED = re.compile(r"(?<=\d)\s(?=\d{3}(?:\s\d{3})*$)")  # thousands of a whole answer


@dataclass(frozen=True, slots=True)
class Number:
    """A number, compared as the exact rational number that it is."""

    kind: str = "number"

    def find(self, text: str) -> str | None:
        shown = extract.pointed(text)
        if shown is not None and extract.number_in(shown) is not None:
            return shown if _is_latex(shown) else extract.first_number(_SPACED.sub("", shown))
        return shown if shown is not None and _is_latex(shown) else extract.last_number(text)

    def same(self, answer: str, found: str) -> bool:
        right = extract.number_in(_SPACED.sub("", answer), first=True)
        value = extract.number_in(found, first=True)
        if right is None or _is_latex(found):
            return math_same(answer, found)
        # "50%" answers "50" where the question asks for per cent, and "0.5" where it does not
        scale = ("%" in answer) - ("%" in found)
        return value == right or (scale != 0 and value == right * Fraction(100) ** scale)


def _is_latex(text: str) -> bool:
    """Whether a command other than a dollar, a per cent or a thin space is in ``text``."""
    return re.search(r"\\[a-zA-Z]", text) is not None


@dataclass(frozen=True, slots=True)
class Math:
    """A mathematical expression, compared by math-verify."""

    kind: str = "math"

    def find(self, text: str) -> str | None:
        shown = extract.pointed(text) or text
        return (
            shown.strip().rstrip(".,;").rstrip() or None
        )  # the end of a sentence is no mathematics

    def same(self, answer: str, found: str) -> bool:
        return math_same(answer, found)


_LETTERED = re.compile(r"^\(?([A-Za-z])[).:]?$")  # "(B)", "B)"


@dataclass(frozen=True, slots=True)
class Choice:
    """The letter of an option."""

    kind: str = "choice"

    def find(self, text: str) -> str | None:
        pointed = extract.pointed(text)
        shown = extract.plain(pointed or text).strip(" \t\n`'\"*")
        # what is pointed out begins with its letter: "C, since both A and B are wrong"
        end = r"(?<!I)(?![\w']| or | and )" if pointed else r"(?:[).:]|\s*$)"
        start = re.match(rf"\(?([A-Z])(?:{end})", shown)
        return start[1] if start else extract.option_in(shown) or shown.strip()

    def same(self, answer: str, found: str) -> bool:
        answer = _LETTERED.sub(r"\1", answer.strip())
        if len(answer) > 1:  # the text of an option
            return found.strip().strip(".").casefold() == answer.strip().strip(".").casefold()
        return found.upper() == answer.strip().upper() if len(found) == 1 else False


@dataclass(frozen=True, slots=True)
class Regex:
    """What a regular expression finds."""

    kind: str
    pattern: re.Pattern[str] = field(compare=False)

    def find(self, text: str) -> str | None:
        matches = list(self.pattern.finditer(text))
        if not matches:
            return None
        groups = matches[-1].groups()
        found = next((g for g in groups if g is not None), "") if groups else matches[-1][0]
        return found.strip()

    def same(self, answer: str, found: str) -> bool:
        return found == (self.find(answer) or answer.strip())


@dataclass(frozen=True, slots=True)
class Own:
    """A function of the user's."""

    kind: str
    function: Callable[[str, str], Any] = field(compare=False)

    def find(self, text: str) -> str | None:
        return text

    def same(self, answer: str, found: str) -> bool | float:
        said = self.function(answer, found)
        if isinstance(said, (bool, int, float)):
            return said
        raise InvalidInput(
            f"answer {self.kind!r} must return True, False or a number, got {said!r}"
        )


def rule(kind: str) -> AnswerRule:
    """The rule that ``kind`` names: exact, number, math, choice, regex:PATTERN or FILE.py:FUNCTION.

    Raises:
        InvalidInput: there is no such rule, the pattern is none, or the file has no such function.
    """
    plain: dict[str, Callable[[], AnswerRule]] = {
        "exact": Exact,
        "number": Number,
        "math": Math,
        "choice": Choice,
    }
    if kind in plain:
        return plain[kind]()
    head, colon, pattern = kind.partition(":") if isinstance(kind, str) else ("", "", "")
    if head == "regex" and colon:
        try:
            return Regex(kind, re.compile(pattern, re.DOTALL))
        except re.error as error:
            raise InvalidInput(f"answer {kind!r}: not a regular expression: {error}") from None
    if isinstance(kind, str) and specs.is_file(kind):
        return Own(kind, specs.load(kind, "answer rule", default="equal"))
    names = [k.partition(":")[0] for k in KINDS[:-1]]
    hint = nearest(kind, names) if isinstance(kind, str) else ""
    raise InvalidInput(f"answer must be one of {', '.join(KINDS)}, got {kind!r}.{hint}")


def equal(kind: str, answer: str, output: str) -> bool:
    """Whether the text ``output`` gives the right answer ``answer``.

    Args:
        kind: ``exact``, ``number``, ``math``, ``choice``, ``regex:PATTERN`` or ``FILE.py:FUNCTION``.
        answer: the right answer.
        output: what was generated, with whatever stands around its answer.

    Raises:
        InvalidInput: no such kind.
        MissingDependency: ``math`` without the package math-verify.
    """
    for name, text in (("answer", answer), ("output", output)):
        if not isinstance(text, str):
            raise InvalidInput(f"{name} must be text, got {text!r}")
    return judged(rule(kind), (answer,), output) >= 1.0


def judged(by: AnswerRule, answers: Sequence[str], text: str) -> float:
    """1.0 where ``text`` gives one of ``answers``, else 0.0; or what a function of the user's says."""
    found = by.find(text)
    return 0.0 if found is None else max(float(by.same(answer, found)) for answer in answers)


@dataclass(frozen=True, slots=True)
class GivesAnswer:
    """Outcome reward: does a complete output give one of the right answers?"""

    by: AnswerRule
    answers: tuple[str, ...]

    def __call__(self, output: Output) -> float:
        return judged(self.by, self.answers, output.text) if output.complete else 0.0


@dataclass(frozen=True, slots=True)
class MayGiveAnswer:
    """Process verifier that goes with ``GivesAnswer``: while an output is not complete, it can still
    come to give the right answer, whatever it has said."""

    by: AnswerRule
    answers: tuple[str, ...]

    def __call__(self, output: Output) -> bool:
        return not output.complete or judged(self.by, self.answers, output.text) >= 1.0
