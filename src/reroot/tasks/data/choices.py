"""Multiple choice: options as data sets have them, and which of them is right."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .rows import BadRow
from .values import Messages, at_path

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def multiple_choice(
    prompt: str | Messages, row: Mapping[str, Any], columns: Mapping[str, str]
) -> tuple[str | Messages, tuple[str, ...]]:
    """The options under the question, and the right one as letter and as text.

    Raises:
        BadRow: there are no options, or the answer names none of them.
    """
    labels, options = _options(options_in(row, columns["choices"]), columns["choices"])
    right = at_path(row, columns["answer"])
    index = _right(labels, options, right)
    if _is_number(right) and str(right) in options and options.index(str(right)) != index:
        raw = options_in(row, columns["choices"])
        if isinstance(raw, (list, tuple)) and all(map(_is_number, raw)):
            raise BadRow(f"{columns['answer']} may be an option or its place from 0, got {right!r}")
    if not 0 <= index < len(options):
        raise BadRow(f"{columns['answer']} must name one of the options, got {right!r}")
    shown = "\n".join(f"{LETTERS[i]}. {o}" for i, o in enumerate(options))
    if isinstance(prompt, str):
        prompt = f"{prompt}\n{shown}"
    else:
        last = {**prompt[-1], "content": f"{prompt[-1]['content']}\n{shown}"}
        prompt = (*prompt[:-1], last)
    return prompt, (LETTERS[index], options[index])


def options_in(row: Mapping[str, Any], column: str) -> Any:
    """What a column of options holds; of columns A,B,…, each with one, those that are not empty."""
    if column in row or "," not in column:
        return at_path(row, column)
    return {c: row[c] for c in column.split(",") if row.get(c) is not None}


def _options(value: object, column: str) -> tuple[list[str], list[str]]:
    """(Labels, texts): of a list, of label → text, of lists of both, or of a list of such pairs."""
    labels: Sequence[Any] = LETTERS
    texts: Any = value
    if isinstance(value, Mapping):
        both = isinstance(value.get("text"), (list, tuple))
        labels = value.get("label") or LETTERS if both else list(value)
        texts = value["text"] if both else list(value.values())
    elif isinstance(value, (list, tuple)) and all(isinstance(o, Mapping) for o in value):
        labels = [o.get("label", LETTERS[i % 26]) for i, o in enumerate(value)]
        texts = [o.get("text") for o in value]
    if not isinstance(texts, (list, tuple)) or not 2 <= len(texts) <= len(LETTERS):
        raise BadRow(f"{column} must be a list of 2 to 26 options, got {value!r}")
    odd = next(
        (t for t in texts if isinstance(t, bool) or not isinstance(t, (str, int, float))), ""
    )
    if odd != "":
        raise BadRow(f"{column}: an option must be a text or a number, got {odd!r}")
    found = [str(text).strip() for text in texts]
    own = [re.match(rf"\(?{LETTERS[i]}[).:]\s*(?=\S)", text) for i, text in enumerate(found)]
    if all(own):  # "A)21": the letters are written already
        found = [text[m.end() :] for text, m in zip(found, own, strict=True) if m]
    return [str(label) for label in labels], found


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _right(labels: Sequence[str], options: Sequence[str], right: object) -> int:
    """The place of the option that ``right`` names: a label, a text, or a number from 0; or −1."""
    if isinstance(right, str):
        text = right.strip()
        letter = re.sub(r"^\(?([A-Za-z])[).:]?$", r"\1", text).upper()  # "(B)", "B)", "b"
        for names, name in ((labels, text), (options, text), (labels, letter)):
            if name in names:
                return list(names).index(name)
        return int(text) if re.fullmatch(r"\d{1,2}", text) else -1
    if isinstance(right, bool) or not isinstance(right, (int, float)) or right != right // 1:
        return -1
    return int(right)
