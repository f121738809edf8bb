"""Lines of JSON with a checksum: a flipped bit or an edited line is found when it is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, cast

_SUM = ', "sum": "'
_LENGTH = len(_SUM) + 16 + len('"}')


def sealed(line: Mapping[str, Any]) -> str:
    """A non-empty object as one line of JSON, with a checksum as its last value."""
    text = json.dumps(line, ensure_ascii=False)
    return f'{text[:-1]}{_SUM}{_checksum(text)}"}}\n'


def unsealed(text: str | bytes) -> dict[str, Any]:
    """The object of a line that ``sealed`` has written.

    Raises:
        ValueError: it is not such a line, or not as it was written; the message says what is wrong.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8")
    text = text.removesuffix("\n")
    body, seal = f"{text[:-_LENGTH]}}}", text[-_LENGTH:]
    if seal != f'{_SUM}{_checksum(body)}"}}':
        what = "its checksum does not match" if seal.startswith(_SUM) else "it has no checksum"
        raise ValueError(f"{what}: the line is damaged or was edited")
    try:
        value = json.loads(body)
    except RecursionError:
        raise ValueError("its values are nested too deep") from None
    if not isinstance(value, dict):
        raise ValueError(f"expected an object, got {value!r:.80}")
    return cast("dict[str, Any]", value)


def _checksum(text: str) -> str:
    data = text.encode("utf-8", "backslashreplace")
    return hashlib.blake2b(data, digest_size=8).hexdigest()
