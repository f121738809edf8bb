"""JSON as a server writes it: in ASCII, numbers to the last digit, infinities as Python writes them."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ConfigDict, TypeAdapter

_slowly = json.JSONEncoder(separators=(",", ":")).encode
_fast = TypeAdapter[Any](Any, config=ConfigDict(ser_json_inf_nan="constants")).dump_json


def json_of(value: object) -> bytes:
    """A value of dictionaries, lists, texts and numbers as JSON."""
    try:
        text = _fast(value)
    except ValueError:  # a lone surrogate, which a learner may return
        return _slowly(value).encode()
    return text if text.isascii() else _slowly(value).encode()
