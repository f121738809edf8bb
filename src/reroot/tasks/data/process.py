"""Step-labelled data: PRM800K, Math-Shepherd, OpenR, and steps beside labels as TRL has them.

A step is a piece of a solution with a label: 1 right, 0 neutral, −1 wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...types import Output
from ..answers import AnswerRule, MayGiveAnswer
from .rows import BadRow

PRM800K, SHEPHERD, OPENR, STEPWISE = "prm800k", "math-shepherd", "openr", "stepwise"
LABELLED = (PRM800K, SHEPHERD, OPENR, STEPWISE)
"""The layouts whose steps have labels."""
MARK = "ки"
"""The token that Math-Shepherd and OpenR put where a step is judged."""

_LABELS = {"+": 1, "-": -1, "1": 1, "0": -1, "-1": -1, "true": 1, "false": -1}
_WORDS = {"good": 1, "neutral": 0, "bad": -1}


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a solution.

    Attributes:
        text: without marks.
        label: 1 right, 0 neutral, −1 wrong.
    """

    text: str
    label: int


@dataclass(frozen=True, slots=True)
class LabelledSteps:
    """Process verifier of step-labelled solutions: an output that has gone through a solution up to its
    first wrong step, word for word, is rejected. What leaves the labelled texts is not known to be
    wrong and passes; a complete output must give a right answer.

    Attributes:
        by, answers: when a complete output is right.
        solutions: labelled solutions of one question.
    """

    by: AnswerRule
    answers: tuple[str, ...]
    solutions: tuple[tuple[Step, ...], ...]

    def __call__(self, output: Output) -> bool:
        said = _squeezed(output.text)
        if any(said.startswith(end) for end in map(wrong_end, self.solutions) if end is not None):
            return False
        return MayGiveAnswer(self.by, self.answers)(output)


def wrong_end(steps: Sequence[Step]) -> str | None:
    """The text up to the end of the first wrong step, white space squeezed; ``None``: none is wrong."""
    wrong = next((i for i, step in enumerate(steps) if step.label < 0), None)
    return None if wrong is None else _squeezed(" ".join(s.text for s in steps[: wrong + 1]))


def _squeezed(text: str) -> str:
    return " ".join(text.split())


def read_steps(layout: str, row: Mapping[str, Any]) -> tuple[str, tuple[Step, ...], str | None]:
    """(question, steps, right answer if it is known) of one row.

    Raises:
        BadRow: the row is not what the layout says.
    """
    try:
        return _READERS[layout](row)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise BadRow(f"not a row of {layout}: {type(error).__name__}: {error}") from None
    except ValueError as error:
        raise BadRow(str(error)) from None


def _prm800k(row: Mapping[str, Any]) -> tuple[str, tuple[Step, ...], str | None]:
    """One completion per step: the human's, else the chosen one, else the first."""
    steps: list[Step] = []
    for step in row["label"]["steps"]:
        human, chosen = step.get("human_completion"), step.get("chosen_completion")
        options = step.get("completions") or []
        if human:
            steps.append(Step(human["text"] if isinstance(human, Mapping) else human, 1))
        elif options:
            taken = options[chosen if isinstance(chosen, int) else 0]
            rating = taken.get("rating")
            steps.append(Step(taken["text"], 0 if rating is None else int(rating)))
    if row["label"].get("finish_reason", "solution") not in ("solution", None):
        steps.append(Step("", 0))  # given up: right as far as it went, and no demonstration
    answer = row["question"].get("ground_truth_answer")
    return row["question"]["problem"], tuple(steps), None if answer is None else str(answer)


def _shepherd(row: Mapping[str, Any]) -> tuple[str, tuple[Step, ...], str | None]:
    """Marks in ``input`` stand where ``label`` has + or −."""
    parts = row["input"].split(MARK)
    labels = _marked_labels(parts, row["label"])
    question, first = _before_steps(parts[0])
    texts = [t.strip() for t in (first, *parts[1:-1])] if len(parts) > 1 else []
    steps = _pair(texts, labels)
    answer = re.findall(r"[Tt]he answer is:?\s*([^\n]+?)\s*\.?\s*$", texts[-1]) if texts else []
    right = bool(steps) and all(s.label > 0 for s in steps)
    return question, steps, answer[-1] if answer and right else None


def _openr(row: Mapping[str, Any]) -> tuple[str, tuple[Step, ...], str | None]:
    question = row.get("prompt", row.get("question", row.get("problem")))
    texts = row["steps"] if "steps" in row else [t for t in row["process"].split(MARK) if t.strip()]
    labels = row.get("labels", row.get("label"))
    answer = row.get("answer")
    if not isinstance(question, str):
        raise ValueError(f"the question must be text, got {question!r}")
    return question, _pair(texts, labels), None if answer is None else str(answer)


def _stepwise(row: Mapping[str, Any]) -> tuple[str, tuple[Step, ...], str | None]:
    """TRL's ``completions`` and ``labels``; or the index of the first wrong step (−1: none)."""
    question = row.get("prompt", row.get("problem", row.get("question")))
    texts = row.get("completions", row.get("steps"))
    labels: Any = row.get("labels", row.get("label"))
    if isinstance(labels, bool):
        raise ValueError(
            f"labels must be a list, or the index of the first wrong step, got {labels!r}"
        )
    if isinstance(labels, int):
        labels = [1 if labels < 0 or i < labels else -1 for i in range(len(texts or ()))]
    answer = row.get("answer")
    if not isinstance(question, str):
        raise ValueError(f"the question must be text, got {question!r}")
    return question, _pair(texts or (), labels or ()), None if answer is None else str(answer)


def _marked_labels(parts: Sequence[str], text: str) -> list[str]:
    """The labels in ``text``, which repeats ``parts`` with a label behind each but the last."""
    labels, at = [], 0
    for part in parts[:-1]:
        end = at + len(part)
        if text[at:end] != part or text[end : end + 1] not in ("+", "-"):  # not word for word
            return re.findall(r"[+-](?=\s*(?:\n|$|Step \d))", text)
        labels.append(text[end])
        at = end + 1
    return labels


_READERS = {PRM800K: _prm800k, SHEPHERD: _shepherd, OPENR: _openr, STEPWISE: _stepwise}


def _before_steps(text: str) -> tuple[str, str]:
    """The question, and the first step behind it."""
    cut = re.search(r"\bStep 1\s*:", text) or re.search(r"\bStep 1\b", text)
    if cut is None:
        raise ValueError(f"no 'Step 1' in {text[:80]!r}")
    return text[: cut.start()].strip(), text[cut.start() :]


def _pair(texts: Sequence[Any], labels: Sequence[Any]) -> tuple[Step, ...]:
    if len(texts) != len(labels):
        raise ValueError(f"{len(texts)} steps have {len(labels)} labels")
    return tuple(Step(_text(t), _label(v)) for t, v in zip(texts, labels, strict=True))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a step must be text, got {value!r}")
    return value.strip()


def _label(value: object) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    known = {**_LABELS, **_WORDS}.get(str(value).strip().lower())
    if known is None:
        raise ValueError(f"a step's label must be one of {', '.join(_LABELS)}, got {value!r}")
    return known
