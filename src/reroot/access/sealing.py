"""Lines of JSON with a checksum: a flipped bit or an edited line is found when it is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from ..errors import RunFolderError

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


def read_sealed(file: Path, what: str) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """(number, bytes, object) of each line; a last line that a kill cut off is left out.

    Args:
        file: the file.
        what: what its lines are, for the error.

    Raises:
        RunFolderError: the file cannot be read, or a line is damaged; it says which.
    """
    try:
        lines = file.read_bytes().split(b"\n")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise RunFolderError(f"can't read the {what} {file}: {error}") from None
    for number, line in enumerate(lines[:-1], 1):  # what follows the last newline is unfinished
        try:
            yield number, len(line) + 1, unsealed(line)
        except ValueError as error:
            raise RunFolderError(f"{file}, line {number}: not a {what} line: {error}") from None


def _checksum(text: str) -> str:
    data = text.encode("utf-8", "backslashreplace")
    return hashlib.blake2b(data, digest_size=8).hexdigest()
