"""Metadata of findings: a learner's own JSON values, which travel as text."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import cast

from ..errors import InvalidInput

DEEPEST = 100
"""Levels of lists and objects in metadata."""


def metadata_from_text(text: object) -> str:
    """Metadata of a finding, which cross as JSON text: once more, as this side writes it.

    Raises:
        InvalidInput: it is no text of a JSON object, or nests more than ``DEEPEST`` deep, beyond which
            some of what reads and writes it may have no stack left.
    """
    try:
        if isinstance(text, str) and isinstance(found := json.loads(text), dict):
            _check_depth(cast("object", found))
            return json.dumps(found)
    except (ValueError, RecursionError):
        pass
    raise InvalidInput(
        f"metadata must be the text of a JSON object, at most {DEEPEST} deep, got {text!r:.80}"
    )


def _check_depth(value: object) -> None:
    level = [value]
    for _ in range(DEEPEST):
        level = [x for one in level for x in _inside(one) if isinstance(x, (dict, list))]
        if not level:
            return
    raise ValueError("too deep")


def _inside(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return cast("dict[str, object]", value).values()
    return cast("list[object]", value)
