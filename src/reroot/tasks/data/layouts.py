"""Layouts: what columns mean, and how a row becomes an item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .process import LABELLED, Step, read_steps
from .rows import BadRow
from .values import (
    Messages,
    alternatives,
    as_answer,
    as_messages,
    at_path,
    final_answer,
    options_of,
    read_messages,
    read_prompt,
    with_system,
)

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class Item:
    """What a row says.

    Attributes:
        prompt: text, or messages of a chat.
        answers: right answers, each of which will do.
        demonstration: a right output, if there is one; of messages, the assistant's text.
        id, max_tokens, stop: as the row names them.
        solutions: step-labelled texts.
        group: the data set that the row says it is of.
    """

    prompt: str | Messages
    answers: tuple[str, ...]
    demonstration: str | None = None
    id: str | int | None = None
    max_tokens: int | None = None
    stop: object = None
    solutions: tuple[tuple[Step, ...], ...] = ()
    group: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """How rows are read.

    Attributes:
        name: of the data set whose columns these are.
        kind: how answers are compared unless the user says.
        columns: role → column, dotted where it is inside another.
        question: whether prompts are bare questions, which want a frame around them.
        unused: columns that nothing was read from.
    """

    name: str
    kind: str
    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    question: bool = False
    unused: tuple[str, ...] = ()

    def item(self, row: Mapping[str, Any]) -> Item:
        """What ``row`` says.

        Raises:
            BadRow: a column is missing or holds something else than is expected.
        """
        if self.name in LABELLED:
            question, steps, answer = read_steps(self.name, row)
            return _of_steps(question, steps, answer)
        prompt = read_prompt(at_path(row, self.columns["prompt"]), self.columns["prompt"])
        found = options_of(self.columns, row)
        if "system" in self.columns:
            system = at_path(row, self.columns["system"])
            if system is not None and not isinstance(system, str):
                raise BadRow(f"{self.columns['system']} must be text, got {system!r}")
            prompt = with_system(as_messages(prompt), system) if system else prompt
        prompt, answers, shown = self._judged(prompt, row)
        group = row.get("data_source")
        return Item(prompt, answers, shown, group=group if isinstance(group, str) else "", **found)

    def _judged(
        self, prompt: str | Messages, row: Mapping[str, Any]
    ) -> tuple[str | Messages, tuple[str, ...], str | None]:
        shown = self._shown(row)
        if "choices" in self.columns:
            return _multiple_choice(prompt, row, self.columns, shown)
        if "answer" in self.columns:
            given = at_path(row, self.columns["answer"])
            answers = tuple(as_answer(a, self.columns["answer"]) for a in alternatives(given))
        elif shown is None and not isinstance(prompt, str) and prompt[-1]["role"] == "assistant":
            shown, prompt = prompt[-1]["content"], prompt[:-1]
            answers = (shown,)
        elif shown is None:
            raise BadRow("there is neither an answer nor a demonstration")
        else:
            answers = (shown,)
        finals = tuple(final_answer(a) for a in answers)
        if shown is None and finals != answers:
            shown = answers[0]  # a rationale, not an answer
        return prompt, finals, shown

    def _shown(self, row: Mapping[str, Any]) -> str | None:
        if "demonstration" not in self.columns:
            return None
        value = at_path(row, self.columns["demonstration"])
        if isinstance(value, (list, tuple)):
            messages = read_messages(value, self.columns["demonstration"])
            value = messages[-1]["content"]
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            raise BadRow(f"{self.columns['demonstration']} must be text, got {value!r}")
        return value


def _multiple_choice(
    prompt: str | Messages, row: Mapping[str, Any], columns: Mapping[str, str], shown: str | None
) -> tuple[str | Messages, tuple[str, ...], str | None]:
    """The options under the question, and the right one as letter and as text."""
    options, right = at_path(row, columns["choices"]), at_path(row, columns["answer"])
    labels: Sequence[Any] = _LETTERS
    if isinstance(options, Mapping):
        labels, options = options.get("label", _LETTERS), options.get("text")
    if not isinstance(options, (list, tuple)) or not 2 <= len(options) <= len(_LETTERS):
        raise BadRow(f"{columns['choices']} must be a list of 2 to 26 options, got {options!r}")
    if isinstance(right, str) and not (right.isdigit() and right not in labels):
        text = right.strip()
        index = list(labels).index(text) if text in labels else _place(options, text)
    elif isinstance(right, (int, float, str)) and 0 <= float(right) < len(options):
        index = int(float(right))
    else:
        index = -1
    if not 0 <= index < len(options):
        raise BadRow(f"{columns['answer']} must name one of the options, got {right!r}")
    shown_options = "\n".join(f"{_LETTERS[i]}. {o}" for i, o in enumerate(options))
    if isinstance(prompt, str):
        prompt = f"{prompt}\n{shown_options}"
    else:
        last = {**prompt[-1], "content": f"{prompt[-1]['content']}\n{shown_options}"}
        prompt = (*prompt[:-1], last)
    return prompt, (_LETTERS[index], str(options[index])), shown


def _place(options: Sequence[Any], text: str) -> int:
    return next((i for i, o in enumerate(options) if str(o).strip() == text), -1)


def _of_steps(question: str, steps: tuple[Step, ...], answer: str | None) -> Item:
    """Labelled steps: a demonstration where all are right."""
    right = bool(steps) and all(step.label > 0 for step in steps)
    text = "\n".join(step.text for step in steps)
    final = answer if answer is not None else (final_answer(text) if right else None)
    return Item(
        question, () if final is None else (final,), text if right else None, solutions=(steps,)
    )
