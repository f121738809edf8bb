"""Layouts: what columns mean, and how a row becomes an item."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .choices import multiple_choice
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
    told_answer,
    with_system,
)

CHATS = ("messages", "conversations")
"""Columns of whole chats: an assistant's message that ends one is an output, no part of the prompt."""
SAID = "'the answer is'"


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
        behind: what the answers stand behind in their texts, where most of these are rationales.
        unused: columns that nothing was read from.
    """

    name: str
    kind: str
    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    question: bool = False
    behind: str = ""
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
        if "context" in self.columns:
            prompt = self._with_context(prompt, at_path(row, self.columns["context"]))
        if "system" in self.columns:
            system = at_path(row, self.columns["system"])
            if system is not None and not isinstance(system, str):
                raise BadRow(f"{self.columns['system']} must be text, got {system!r}")
            prompt = with_system(as_messages(prompt), system) if system else prompt
        prompt, answers, shown = self._judged(prompt, row)
        group = row.get("data_source")
        return Item(prompt, answers, shown, group=group if isinstance(group, str) else "", **found)

    def _with_context(self, prompt: str | Messages, context: object) -> str | Messages:
        if context is None or context == "":
            return prompt
        if not isinstance(context, str) or not isinstance(prompt, str):
            raise BadRow(f"{self.columns['context']} must be text beside a text, got {context!r}")
        behind = self.columns["prompt"].lower() == "instruction"
        return "\n".join((prompt, context) if behind else (context, prompt))

    def _judged(
        self, prompt: str | Messages, row: Mapping[str, Any]
    ) -> tuple[str | Messages, tuple[str, ...], str | None]:
        shown = self._shown(row)
        answered = not isinstance(prompt, str) and prompt[-1]["role"] == "assistant"
        if answered and shown is None and self.columns["prompt"].lower() in CHATS:
            shown, prompt = as_messages(prompt)[-1]["content"], as_messages(prompt)[:-1]
            if not prompt:
                raise BadRow(f"{self.columns['prompt']} has no message before the assistant's")
        if "choices" in self.columns:
            return *multiple_choice(prompt, row, self.columns), shown
        if "answer" in self.columns:
            given = at_path(row, self.columns["answer"])
            answers = tuple(as_answer(a, self.columns["answer"]) for a in alternatives(given))
        elif shown is None:
            raise BadRow("there is neither an answer nor a demonstration")
        else:
            answers = (shown,)
        finals = tuple(self._final(a) for a in answers)
        if shown is None and finals != answers:
            shown = answers[0]  # a rationale, not an answer
        return prompt, finals, shown

    def _final(self, text: str) -> str:
        """The answer in the text of an answer: all of it, unless it is a rationale."""
        found = told_answer(text) if self.behind == SAID else final_answer(text)
        if found is None and self.behind and ("\n" in text.strip() or len(text.split()) > 2):
            raise BadRow(
                f"there is no answer behind {self.behind} in the text that ends in {text[-60:]!r}"
            )
        return text.strip() if found is None else found

    def _shown(self, row: Mapping[str, Any]) -> str | None:
        if "demonstration" not in self.columns:
            return None
        value = at_path(row, self.columns["demonstration"])
        if isinstance(value, (list, tuple)) and value and isinstance(value[0], str):
            value = value[0]  # of several solutions
        if isinstance(value, (list, tuple)):
            messages = read_messages(value, self.columns["demonstration"])
            value = messages[-1]["content"]
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            raise BadRow(f"{self.columns['demonstration']} must be text, got {value!r}")
        return value


def _of_steps(question: str, steps: tuple[Step, ...], answer: str | None) -> Item:
    """Labelled steps: a demonstration where all are right."""
    right = bool(steps) and all(step.label > 0 for step in steps)
    text = "\n".join(step.text for step in steps)
    final = answer if answer is not None else (told_answer(text) if right else None)
    return Item(
        question, () if final is None else (final,), text if right else None, solutions=(steps,)
    )
