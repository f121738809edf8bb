"""Values of prefixes from scores of their steps, as process reward models give them.

An output is cut into steps where a text such as a blank line ends one. What comes after the last of
these is no step yet: models have seen whole steps alone. A complete output has no unfinished step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..errors import InvalidInput
from ..types import Chat, Output

AGGREGATES: dict[str, Callable[[Sequence[float]], float]] = {
    "last": lambda scores: scores[-1],
    "min": min,
    "prod": math.prod,
    "mean": lambda scores: sum(scores) / len(scores),
}
"""How the scores of a prefix's steps make its value."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Steps to be scored.

    Attributes:
        prompt: of the problem.
        steps: from the first on, without the text that ends them.
    """

    prompt: str | Chat
    steps: tuple[str, ...]


class StepScorer(Protocol):
    """What scores steps."""

    def step_scores(self, asked: Sequence[Asked], last: bool) -> list[tuple[float, ...]]:
        """For each its steps' scores in [0, 1]; of the last step alone, with ``last``."""
        ...


@dataclass(frozen=True, slots=True)
class StepRule:
    """How outputs become steps, and scores a value.

    Attributes:
        step: the text with which a step ends in an output.
        of: a key of ``AGGREGATES``.
        unfinished: score what comes after the last whole step as if it were one.

    Raises:
        InvalidInput: a field is not what is described here.
    """

    step: str = "\n\n"
    of: str = "last"
    unfinished: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.step, str) or not self.step:
            raise InvalidInput(f"step must be the text that ends a step, got {self.step!r}")
        if self.of not in AGGREGATES:
            raise InvalidInput(f"of must be one of {', '.join(AGGREGATES)}, got {self.of!r}")
        if not isinstance(self.unfinished, bool):
            raise InvalidInput(f"unfinished must be true or false, got {self.unfinished!r}")

    def cut(self, output: Output) -> tuple[str, ...]:
        """The steps of an output, white space at their ends left out, but for that before the first."""
        *whole, rest = output.text.split(self.step)
        if output.complete or self.unfinished:
            whole.append(rest)
        steps = [text.rstrip() for text in whole if text.strip()]
        return (*steps[:1], *(text.lstrip() for text in steps[1:]))


@dataclass(frozen=True, slots=True)
class StepValue:
    """Value function of one problem: the scores of a prefix's steps put together, in [0, 1].

    A prefix without a step is worth 1, as nothing in it is wrong.

    Attributes:
        scorer: scores steps.
        prompt: of the problem.
        rule: how outputs become steps, and scores a value.
    """

    scorer: StepScorer
    prompt: str | Chat
    rule: StepRule = StepRule()

    def __call__(self, output: Output) -> float:
        return self.batch([output])[0]

    def batch(self, outputs: Sequence[Output]) -> list[float]:
        """The value of each; all are scored together."""
        cuts = [self.rule.cut(output) for output in outputs]
        asked = [Asked(self.prompt, steps) for steps in cuts if steps]
        scores = iter(self.scorer.step_scores(asked, self.rule.of == "last") if asked else ())
        return [AGGREGATES[self.rule.of](next(scores)) if steps else 1.0 for steps in cuts]
