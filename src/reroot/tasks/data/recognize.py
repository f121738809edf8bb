"""Recognizing a layout, by its columns and by what the first rows hold.

A layout decides where answers are, how they are compared, and what is a demonstration. Columns of
other names are named by a map.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from ...errors import InvalidInput, nearest
from ..answers.extract import boxed, marked, said
from .choices import LETTERS, options_in
from .layouts import CHATS, SAID, Layout
from .process import OPENR, PRM800K, SHEPHERD, STEPWISE
from .values import look, speaker

PROMPTS = (
    "prompt",
    "question",
    "problem",
    "query",
    "instruction",
    "messages",
    "conversations",
    "question_stem",
    "input",
    "inputs",
)
ANSWERS = (
    "answer",
    "final_answer",
    "ground_truth",
    "target",
    "answerKey",
    "label",
    "expected_answer",
    "correct_answer",
    "answers",
    "targets",
)
SHOWN = ("demonstration", "solution", "completion", "rationale", "response", "generation", "output")
ROLES = (
    "prompt",
    "answer",
    "demonstration",
    "id",
    "max_tokens",
    "stop",
    "system",
    "choices",
    "context",
    "steps",
)
_OPTIONAL = {
    "id": ("id", "unique_id"),
    "max_tokens": ("max_tokens", "max_token", "max_new_tokens"),
    "stop": ("stop",),
    "system": ("system", "system_prompt"),
    "choices": ("choices", "options"),
    "steps": ("steps",),
}
_QUESTIONS = ("question", "problem", "query", "question_stem")
_CONTEXTS = {  # what is asked about: the prompt's column → where it may be
    **dict.fromkeys(_QUESTIONS, ("context", "passage", "body", "article", "support")),
    "instruction": ("input", "context"),
}
_SHORT = 6  # words of an answer that is no rationale
_LATEX = re.compile(r"\\[a-zA-Z]+|\$|\^")
_NUMBER = re.compile(  # with a unit of one word: "12 apples", "9 (apples)", "45°"
    r"[-+−–]?\s?[$€£]?[-+−–]?[\d,]*\.?\d+"
    r"(?:[eE][-+]?\d{1,3})?(?:(?:\s\d+)?/\d+)?\s?(?:\\?%|°|[^\W\d]+|\([^\W\d]+\))?"
)


def recognize(rows: Sequence[Mapping[str, Any]], given: Mapping[str, str] | None = None) -> Layout:
    """The layout of a data set of which ``rows`` are the first.

    Args:
        rows: at least one.
        given: role → column, named by the user.

    Raises:
        InvalidInput: no prompt or no answer is found.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    given = given or {}
    _check_map(given, columns)
    if not given:
        for name, fits in _KNOWN.items():
            if all(fits(row) for row in rows):
                return replace(_layout_of(name, columns), unused=())
    found = {role: _first(names, columns) for role, names in _OPTIONAL.items()}
    found["prompt"] = _first(PROMPTS, columns)
    found["answer"] = _first(ANSWERS, columns)
    found["demonstration"] = _first(SHOWN, columns)
    found["context"] = _context(given.get("prompt") or found["prompt"], columns, rows)
    if not found["choices"] and found["answer"]:
        found["choices"] = _lettered(columns, [look(row, found["answer"]) for row in rows])
    if found["choices"] and not found["answer"]:
        found["answer"] = _first(("correct", "answer_idx", "answer_index"), columns)
    if found["prompt"] != "prompt":
        found |= {"max_tokens": found["max_tokens"], "steps": None}
    chosen = {k: v for k, v in {**found, **given}.items() if v is not None and v != "none"}
    if chosen.get("demonstration") == chosen.get("answer"):
        chosen.pop("demonstration", None)
    judged = {"answer", "demonstration"} & set(chosen)
    if "prompt" not in chosen or not (judged or _talks(rows, chosen["prompt"])):
        _refuse(chosen, columns)
    chosen.pop("steps", None)
    if (
        "choices" in chosen
        and "choices" not in given
        and not any(options_in(row, chosen["choices"]) for row in rows)
    ):
        chosen.pop("choices")  # a column for other rows' options
    if "choices" in chosen and "answer" not in chosen:
        _refuse({k: v for k, v in chosen.items() if k != "answer"}, columns)
    layout = _named(chosen, rows)
    used = {part for c in layout.columns.values() for part in (c.partition(".")[0], *c.split(","))}
    return replace(layout, unused=tuple(c for c in columns if c not in used))


def _is_verl(row: Mapping[str, Any]) -> bool:
    model = row.get("reward_model")
    return isinstance(model, dict) and "ground_truth" in model and "prompt" in row


def _is_prm800k(row: Mapping[str, Any]) -> bool:
    return isinstance(row.get("label"), dict) and isinstance(row.get("question"), dict)


def _is_shepherd(row: Mapping[str, Any]) -> bool:
    return isinstance(row.get("input"), str) and isinstance(row.get("label"), str)


def _is_openr(row: Mapping[str, Any]) -> bool:
    labelled = isinstance(row.get("labels", row.get("label")), (list, tuple))
    return labelled and ("steps" in row or "process" in row)


def _is_stepwise(row: Mapping[str, Any]) -> bool:
    labels = row.get("labels", row.get("label"))
    texts = row.get("completions", row.get("steps"))
    return isinstance(texts, (list, tuple)) and isinstance(labels, (list, tuple, int))


_KNOWN: dict[str, Callable[[Mapping[str, Any]], bool]] = {
    "verl": _is_verl,
    PRM800K: _is_prm800k,
    SHEPHERD: _is_shepherd,
    OPENR: _is_openr,
    STEPWISE: _is_stepwise,
}


def _layout_of(name: str, columns: Sequence[str]) -> Layout:
    if name != "verl":
        return Layout(name, "math", question=True)
    found = {"prompt": "prompt", "answer": "reward_model.ground_truth"}
    return Layout(name, "math", found)


def _named(columns: dict[str, str], rows: Sequence[Mapping[str, Any]]) -> Layout:
    """The layout's name and kind, by what the rows hold."""
    names = set(columns.values())
    question = columns["prompt"].lower() in _QUESTIONS
    source = columns.get("answer", columns.get("demonstration", columns["prompt"]))
    values = [_last_said(look(row, source)) for row in rows]
    raw = [a for v in values for a in (v if isinstance(v, (list, tuple)) else [v])]
    texts = [v for v in raw if isinstance(v, str)]
    if "choices" in columns:
        return Layout("multiple choice", "choice", columns, question=True)
    if _most(texts, marked):
        name = "gsm8k" if {"question", "answer"} <= names else "answers behind ####"
        return Layout(name, "number", columns, question, behind="####")
    shown = [_last_said(look(row, columns.get("demonstration", ""))) for row in rows]
    if any(isinstance(t, str) and boxed(t) is not None for t in (*texts, *shown)):
        name = "math" if {"problem", "solution"} & names else "answers in \\boxed"
        behind = "\\boxed" if "answer" not in columns and _most(texts, boxed) else ""
        return Layout(name, "math", columns, question, behind)
    told = [said(t) for t in texts]
    if question and all(told) and any(len(t.split()) > _SHORT for t in texts):
        kind = _kind_of([t for t in told if t is not None])
        return Layout("answers behind 'the answer is'", kind, columns, question, SAID)
    numbers = [v for v in raw if isinstance(v, (int, float, Decimal)) and not isinstance(v, bool)]
    if numbers and len(numbers) == sum(v is not None for v in raw):
        return Layout("numbers", "number", columns, question)
    short = bool(texts) and all(len(t.split()) <= _SHORT for t in texts)
    if "answer" not in columns and not (source.lower() == "solution" and short):
        talk = _talks(rows, columns["prompt"])
        return Layout("conversation" if talk else "prompt-completion", "exact", columns)
    reasoned = "answer" in columns and any(
        t is not None and t != v for t, v in zip(shown, values, strict=True)
    )
    chat = columns["prompt"].lower() in CHATS
    bare = "answer" not in columns  # a solution that is no more than an answer
    kind = _kind_of(texts) if question or chat or reasoned or bare else "exact"
    return Layout("question-answer" if question else "prompt-answer", kind, columns, question)


def _lettered(columns: Sequence[str], answers: Sequence[object]) -> str | None:
    """The columns A, B, … where they hold the options: answers are such letters."""
    letters = [c for c in LETTERS if c in columns]
    if len(letters) < 2 or letters != list(LETTERS[: len(letters)]):
        return None
    return ",".join(letters) if all(a in letters for a in answers) else None


def _context(
    prompt: str | None, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> str | None:
    """The column of what a question is about, where it is text."""
    name = _first(_CONTEXTS.get((prompt or "").lower(), ()), columns)
    values = [look(row, name) for row in rows] if name else []
    texts = any(values) and all(v is None or isinstance(v, str) for v in values)
    return name if texts else None


def _last_said(value: Any) -> Any:
    """The text of the last of messages, or ``value``."""
    last = value[-1] if isinstance(value, (list, tuple)) and value else None
    return last.get("content", last.get("value")) if isinstance(last, dict) else value


def _most(texts: Sequence[str], finds: Callable[[str], object]) -> bool:
    return bool(texts) and 2 * sum(finds(t) is not None for t in texts) >= len(texts)


def _kind_of(texts: Sequence[str]) -> str:
    if texts and all(_NUMBER.fullmatch(t.strip()) for t in texts):
        return "number"
    return "math" if any(_LATEX.search(t) for t in texts) else "exact"


def _talks(rows: Sequence[Mapping[str, Any]], column: str) -> bool:
    """Whether a column holds chats that an assistant has answered."""
    value = look(rows[0], column)
    last = value[-1] if isinstance(value, (list, tuple)) and value else None
    return isinstance(last, dict) and speaker(last) == "assistant"


def _check_map(given: Mapping[str, str], columns: Sequence[str]) -> None:
    for role, column in given.items():
        if role not in ROLES:
            raise InvalidInput(f"map: unknown role {role!r}.{nearest(role, ROLES)}")
        top = column.partition(".")[0]
        if column != "none" and top not in columns:
            raise InvalidInput(f"map: there is no column {top!r}.{nearest(top, columns)}")


def _refuse(chosen: Mapping[str, str], columns: Sequence[str]) -> None:
    missing = "prompt" if "prompt" not in chosen else "answer"
    candidates = [c for c in columns if nearest(missing, [c]).startswith(" Did")]
    hint = f" Did you mean {candidates[0]!r}?" if candidates else ""
    raise InvalidInput(
        f"the field {missing!r} is missing.{hint} Columns: {', '.join(columns) or 'none'}; name them "
        f"as in map='prompt=question,answer=answer' (--map)"
    )


def _first(names: Sequence[str], columns: Sequence[str]) -> str | None:
    """The first of ``names`` that is a column, whatever its capitals."""
    lower = {c.lower(): c for c in reversed(columns)}
    return next((lower[n.lower()] for n in names if n.lower() in lower), None)
