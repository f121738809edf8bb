"""Few-shot string tasks with a horizon knob, for language models that follow patterns.

The raw prompt shows four solved examples and a question, and ends right after ``Output:``::

    Input: 3 4 5
    Output: 3 7 12
    …
    Input: 2 9 1
    Output:

A right output is the answer, ended by a line break: the demonstration is ``" 2 11 12\\n"``. White
space around the answer does not count, inside it is single spaces. Examples are drawn anew for
every problem, from the same law as the question and never equal to it: an average over problems is
then an average over prompts too, and no single lucky prompt decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from ..checks import check_int
from ..randomness import keyed_rng, stream_key
from .base import ExactText, Problem, TextPrefix

SHOTS = 4
LONGEST = 1000
_STOP = "\n"
_SLACK = 4  # tokens beyond one per character of the answer: room for stray white space

WORDS = tuple(
    """apple artist bread bridge butter button candle castle chair cheese cherry circle cloud coffee
    copper cotton crown doctor eagle evening farmer field flower forest fruit garden glass glove
    golden grape grass green honey horse house jacket king knight leaf leather lemon letter light
    line lion market metal milk mirror moon morning mountain mouse music night north number ocean
    orange paper peach pencil pepper pocket point prince queen rabbit rain ring river root salt
    sheep shirt shoe silk silver snake snow south square star stone storm street sugar summer table
    teacher tiger tower tree valley village water whale wind window winter wood wool""".split()  # noqa: SIM905
)

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class StringTask:
    """A few-shot task on strings.

    Attributes:
        name: registry name.
        unit: what the horizon counts.
        description: one line for listings.
        draw: (generator, horizon) → (question, answer).
        unique: whether other tokenizations of an answer carry negligible mass. Measured with
            SmolLM2: at most 0.3 % of the demonstration's on digits and common lower-case words, up
            to 27 % on capitals, which it splits into pieces in many ways.
    """

    name: str
    unit: str
    description: str
    draw: Callable[[np.random.Generator, int], Pair]
    unique: bool = True

    def problems(self, horizon: int, count: int, seed: int) -> list[Problem]:
        """``count`` problems; problem i depends on (task, horizon, seed, i) alone.

        Raises:
            InvalidInput: horizon outside 1…1000, count below 1, or a seed that is no integer >= 0.
        """
        horizon = check_int(f"the horizon of {self.name} ({self.unit})", horizon, 1, LONGEST)
        count = check_int("count", count, 1)
        seed = check_int("seed", seed)
        return [self._problem(horizon, seed, i) for i in range(count)]

    def _problem(self, horizon: int, seed: int, index: int) -> Problem:
        id = f"{self.name}/h{horizon}/s{seed}/{index}"
        rng = keyed_rng(stream_key(seed, id, "problem"))
        *examples, (question, answer) = self._distinct(rng, horizon)
        demonstration = f" {answer}{_STOP}"
        shown = "".join(f"Input: {q}\nOutput: {a}\n" for q, a in examples)
        return Problem(
            id=id,
            prompt=f"{shown}Input: {question}\nOutput:",
            max_tokens=len(demonstration) + _SLACK,
            reward=ExactText(answer, strict_end=True),
            verifier=TextPrefix(answer, strict_end=True),
            demonstration=demonstration,
            unique=self.unique,
            stop=(_STOP,),
            horizon=horizon,
            answer=answer,
        )

    def _distinct(self, rng: np.random.Generator, horizon: int) -> list[Pair]:
        """Examples and, last, the question: all different."""
        pairs: dict[str, str] = {}
        while len(pairs) <= SHOTS:
            question, answer = self.draw(rng, horizon)
            pairs.setdefault(question, answer)
        return list(pairs.items())


def _spaced(items: Iterable[object]) -> str:
    return " ".join(map(str, items))


def _digits(rng: np.random.Generator, n: int, least: int = 0) -> Iterator[int]:
    return map(int, rng.integers(least, 10, size=n))


def _words(rng: np.random.Generator, n: int) -> list[str]:
    return [WORDS[i] for i in rng.integers(len(WORDS), size=n)]


def _count_on(rng: np.random.Generator, terms: int) -> Pair:
    start = int(rng.integers(1, 100))
    return str(start), _spaced(range(start + 1, start + 1 + terms))


def _copy(rng: np.random.Generator, words: int) -> Pair:
    text = _spaced(_words(rng, words))
    return text, text


def _increment(rng: np.random.Generator, digits: int) -> Pair:
    given = list(_digits(rng, digits))
    return _spaced(given), _spaced(d + 1 for d in given)


def _running_sum(rng: np.random.Generator, digits: int) -> Pair:
    given = list(_digits(rng, digits, least=1))
    return _spaced(given), _spaced(accumulate(given))


def _add(rng: np.random.Generator, digits: int) -> Pair:
    a, b = (_number(rng, digits) for _ in range(2))
    return f"{a} + {b}", str(a + b)


def _number(rng: np.random.Generator, digits: int) -> int:
    """A number of exactly ``digits`` digits, uniform."""
    lead, *rest = _digits(rng, digits)
    while lead == 0:
        lead = int(rng.integers(10))
    return int("".join(map(str, [lead, *rest])))


def _uppercase(rng: np.random.Generator, words: int) -> Pair:
    text = _spaced(_words(rng, words))
    return text, text.upper()


STRING_TASKS: dict[str, StringTask] = {
    task.name: task
    for task in (
        StringTask("count_on", "terms", "continue counting from a number: 7 → 8 9 10", _count_on),
        StringTask("copy", "words", "repeat a list of words", _copy),
        StringTask("increment", "digits", "add 1 to each digit: 3 9 1 → 4 10 2", _increment),
        StringTask("running_sum", "digits", "running sums of digits: 3 4 5 → 3 7 12", _running_sum),
        StringTask("add", "digits", "add two numbers: 12 + 34 → 46", _add),
        StringTask("uppercase", "words", "write a list of words in capitals", _uppercase, False),
    )
}
