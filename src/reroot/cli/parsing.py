"""Lists on the command line."""

from __future__ import annotations

from ..errors import InvalidInput
from ..specs import split


def split_integers(text: str) -> list[int]:
    try:
        return [int(value) for value in split(text)] if text else []
    except ValueError:
        raise InvalidInput(f"expected integers separated by commas, got {text!r}") from None
