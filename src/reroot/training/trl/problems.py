"""What a TRL trainer trains on, as problems: prompts, and the demonstrations of its rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...errors import InvalidInput
from ...tasks.base import Problem
from ...tasks.files import distinct_ids
from ...types import Output
from .frames import Row

Message = Mapping[str, Any]
Prompt = str | Sequence[Message]

COLUMNS = ("demonstration", "completion")
"""Where demonstrations are looked for if no column is named; ``completion`` is TRL's own name for one."""

PROBLEM = "problem"
"""The column that says by its id which problem a row is, where prompts alone do not."""


def name_of(prompt: Prompt) -> str:
    """A text that names a prompt: itself, or the contents of its messages."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(f"{m['role']}: {m.get('content')}" for m in prompt)


def prompt_of(problem: Problem) -> str:
    """The prompt column of a problem: its text, or its id where the prompt is given as tokens."""
    return problem.id if isinstance(problem.prompt, tuple) else str(problem.prompt)


class Known:
    """Problems that rows are of: by id, or by prompt where only one has it.

    Args:
        problems: at least one, with distinct ids.

    Raises:
        InvalidInput: there are none, or two have the same id.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        if not problems:
            raise InvalidInput("there are no problems to train on")
        distinct_ids(problems, "problems")
        self.all = list(problems)
        self._by_id = {problem.id: problem for problem in problems}
        self._by_prompt: dict[str, list[Problem]] = {}
        for problem in problems:
            self._by_prompt.setdefault(prompt_of(problem), []).append(problem)

    def rows(self) -> list[dict[str, str]]:
        """The rows of a data set of them."""
        if len(self._by_prompt) == len(self.all):
            return [{"prompt": prompt_of(p)} for p in self.all]
        return [{"prompt": prompt_of(p), PROBLEM: p.id} for p in self.all]

    def of(self, prompt: Prompt, row: Row) -> Problem:
        """The problem of a row.

        Raises:
            InvalidInput: none has its prompt, or several have and the row does not say which.
        """
        if (problem := self._by_id.get(str(row.get(PROBLEM)))) is not None:
            return problem
        found = self._by_prompt.get(name_of(prompt), [])
        if len(found) == 1:
            return found[0]
        if not found:
            raise InvalidInput(f"no problem has the prompt {name_of(prompt)!r}")
        raise InvalidInput(
            f"problems {found[0].id!r} and {found[1].id!r} have the same prompt: train on dataset(), whose "
            f"column {PROBLEM!r} says which a row is"
        )


def of_row(prompt: Prompt, tokens: Sequence[int], horizon: int, shown: Any) -> Problem:
    """A row of a trainer's data set; what it is worth is said by the trainer's reward functions alone.

    Args:
        prompt: as the trainer has it.
        tokens: as the trainer tokenizes it.
        horizon: most tokens of an output.
        shown: its demonstration.
    """
    return Problem(
        id=name_of(prompt)[:200] or "row",
        prompt=tuple(tokens),
        max_tokens=horizon,
        reward=_by_the_trainer,
        demonstration=shown,
    )


def _by_the_trainer(output: Output) -> float:
    raise InvalidInput("rewards are given by the trainer's reward functions, on the whole batch")


def column_of(names: Sequence[str], column: str | None) -> str | None:
    """The column of demonstrations, if there is one.

    Args:
        names: the columns of the data.
        column: the one that was asked for; ``None``: one of ``COLUMNS``.

    Raises:
        InvalidInput: the one that was asked for is not there.
    """
    if column is None:
        return next((name for name in COLUMNS if name in names), None)
    if column not in names:
        raise InvalidInput(
            f"demonstration_column={column!r}: the training data has no such column, but {list(names)}"
        )
    return column


def demonstration_of(row: Row, prompt: Prompt, column: str | None) -> Any:
    """The demonstration of a row: text, or tokens; ``None``: the row has none.

    It may be written as messages, as in TRL's conversational data: one of the assistant, or the
    whole conversation, which begins with the prompt.

    Raises:
        InvalidInput: it is written in another way.
    """
    shown = None if column is None else row.get(column)
    if shown is None or isinstance(shown, str):
        return shown
    plain = shown.tolist() if hasattr(shown, "tolist") else shown  # an array, or a tensor
    items = [plain] if isinstance(plain, Mapping) else plain
    items = list(items) if isinstance(items, Sequence) else []
    if items and all(isinstance(m, Mapping) for m in items):
        *before, last = items
        said = [(m["role"], _text(m)) for m in before]
        asked = [] if isinstance(prompt, str) else [(m["role"], _text(m)) for m in prompt]
        if last.get("role") == "assistant" and (not before or said == asked):
            return _text(last)
    elif items and all(isinstance(t, int) and not isinstance(t, bool) for t in items):
        return tuple(items)
    raise InvalidInput(
        f"column {column!r}: a demonstration is a text, tokens, or one message of the assistant (after "
        f"those of the prompt, if any), got {shown!r:.200}"
    )


def _text(message: Message) -> str:
    """The text of a message; of one in blocks, that of its text blocks."""
    content = message.get("content")
    if isinstance(content, str) or content is None:
        return content or ""
    return "".join(str(block.get("text", "")) for block in content)


def columns_of(dataset: Any) -> list[str]:
    """The columns of a data set, streamed or not."""
    if (names := getattr(dataset, "column_names", None)) is not None:
        return list(names)
    return list(next(iter(dataset), {}))


def whole(dataset: Any) -> Iterator[tuple[int, Row]]:
    """The rows of a data set that can be read as often as one likes; of a stream none."""
    return enumerate(dataset if hasattr(dataset, "__len__") else ())


def datasets_of(given: Any, what: str) -> Iterator[tuple[str, Any]]:
    """(in words, data set) of what a trainer was given: one, several by name, or none."""
    if isinstance(given, Mapping):
        for name, one in given.items():
            yield f"{what} {name!r}", one
    elif given is not None:
        yield what, given
