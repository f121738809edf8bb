"""JSON as a server writes it: in ASCII, numbers to the last digit, infinities as Python writes them."""

from __future__ import annotations

import json

from pydantic_core import PydanticSerializationError, to_json

_slowly = json.JSONEncoder(separators=(",", ":")).encode


def json_of(value: object) -> bytes:
    """A value of dictionaries, lists, texts and numbers as JSON."""
    try:
        text = to_json(value, inf_nan_mode="constants")
    except PydanticSerializationError:  # a lone surrogate, which a learner may return
        return _slowly(value).encode()
    return text if text.isascii() else _slowly(value).encode()
