"""The self-check of a task: is its judge right about what is known, before any token is paid?

Of every problem: its demonstration passes; the demonstration with its last number changed fails; the
empty output fails; prompt and output fit the generator; no other problem has the same prompt, or one
that differs in white space, case and punctuation alone; no prompt is in a task to evaluate on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..errors import InvalidInput, OracleError
from ..types import Output
from .base import Problem
from .judges import check, score
from .lines import prompt_words

_LAST_DIGIT = re.compile(r"\d(?=\D*\Z)")
Fit = Callable[[Problem], object]
"""Binds a problem to a generator; raises ``InvalidInput`` or ``OracleError`` where it does not fit."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong with a problem.

    Attributes:
        problem: its id.
        text: what is wrong, with the value.
        bad: whether the problem cannot be used; else it is worth knowing.
    """

    problem: str
    text: str
    bad: bool = True

    def __str__(self) -> str:
        return f"{self.problem}: {self.text}"


def self_check(
    problems: Iterable[Problem],
    *,
    fit: Fit | None = None,
    against: Sequence[Problem] = (),
    limit: float | None = None,
) -> Iterator[Fault]:
    """The faults of ``problems``, as they are found.

    Args:
        problems: of one task.
        fit: binds a problem to the generator that is meant; ``None``: lengths are not checked.
        against: problems to evaluate on, whose prompts must not be among these.
        limit: seconds that one call of a judge may take.
    """
    seen: dict[str, Problem] = {}
    others = {prompt_words(p.prompt): p for p in against}
    for problem in problems:
        if fit is not None:
            try:
                fit(problem)
            except (InvalidInput, OracleError) as error:
                text = str(error).removeprefix(f"problem {problem.id!r}: ")
                yield Fault(problem.id, text)
        yield from _judge(problem, limit)
        key = prompt_words(problem.prompt)
        if key in others:
            where = others[key].id
            yield Fault(problem.id, f"its prompt is that of the evaluation problem {where!r}")
        first = seen.setdefault(key, problem)
        if first is not problem:
            yield _twice(first, problem)


def _judge(problem: Problem, limit: float | None) -> Iterator[Fault]:
    try:
        yield from _of_reward(problem, limit)
    except OracleError as error:
        yield Fault(problem.id, str(error).removeprefix(f"problem {problem.id!r}: "))


def _of_reward(problem: Problem, limit: float | None) -> Iterator[Fault]:
    def reward(text: str) -> float:
        return score(problem, Output((), text, complete=True), limit)

    empty = reward("")
    if empty >= problem.pass_at:
        yield Fault(problem.id, f"the empty output passes, with the reward {empty:g}")
    text = problem.demonstration
    if not isinstance(text, str):
        return
    for stop in problem.stop:
        text = text.partition(stop)[0]
    got = reward(text)
    if got < problem.pass_at:
        answer = f"; the answer is {problem.answer!r}" if problem.answer else ""
        yield Fault(
            problem.id,
            f"its demonstration has the reward {got:g}, and outputs pass from {problem.pass_at:g} on: "
            f"it ends in {text[-60:]!r}{answer}",
        )
        return
    if problem.verifier is not None and not check(problem, Output((), text, True), limit):
        yield Fault(
            problem.id, f"its verifier rejects its demonstration, which ends in {text[-60:]!r}"
        )
    changed = _LAST_DIGIT.sub(lambda found: str((int(found[0]) + 1) % 10), text)
    rule = problem.equality
    elsewhere = rule is not None and rule.find(changed) == rule.find(text)
    if changed != text and not elsewhere and reward(changed) >= problem.pass_at:
        yield Fault(
            problem.id, f"with its last number changed, its demonstration passes: {changed[-60:]!r}"
        )


def _twice(first: Problem, again: Problem) -> Fault:
    same = first.prompt == again.prompt
    how = "the prompt" if same else "nearly the prompt"
    if same and first.answer != again.answer:
        return Fault(
            again.id,
            f"it has the prompt of {first.id!r} and another answer: {again.answer!r}, {first.answer!r}",
            bad=False,
        )
    return Fault(again.id, f"it has {how} of {first.id!r}", bad=False)
