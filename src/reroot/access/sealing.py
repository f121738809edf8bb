"""Lines of JSON that carry a checksum: an edited, flipped or merged line is found when it is read.

A checksum tells of accidents and of edits by hand. It is no signature: who wants to can compute it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import RunFolderError

_MARK = b', "checksum": "'


def sealed(record: Mapping[str, Any]) -> bytes:
    """A record that is not empty as one line, newline included: JSON whose last entry is its checksum."""
    # what UTF-8 cannot hold (lone surrogates) becomes the JSON escape of itself
    body = json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace")[:-1]
    return body + _end(body) + b"\n"


def unsealed(line: bytes) -> dict[str, Any]:
    """The record of a line without its newline; ``ValueError`` says why it is none."""
    body, mark, rest = line.rpartition(_MARK)
    if not mark:
        raise ValueError("it has no checksum")
    if mark + rest != _end(body):
        raise ValueError("it does not match its checksum, so it was edited or damaged")
    try:
        return json.loads(body + b"}")
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _end(body: bytes) -> bytes:
    digest = hashlib.blake2b(body, digest_size=8).hexdigest()
    return _MARK + digest.encode("ascii") + b'"}'


def read_sealed(
    file: Path, what: str, checked: Callable[[dict[str, Any]], Any] = lambda record: record
) -> Iterator[tuple[int, Any]]:
    """(bytes, what is ``checked`` of the record) of each line; a last line that a kill cut off is
    left out.

    Args:
        file: the file.
        what: what its lines are, for the error.
        checked: record → what it says; ``ValueError``, ``KeyError`` or ``TypeError`` if it is none.

    Raises:
        RunFolderError: it cannot be read, or a line that is not the last is damaged; it says which.
    """
    for number, line in enumerate(_lines(file), 1):
        try:
            record = checked(unsealed(line))
        except (ValueError, KeyError, TypeError) as error:
            raise RunFolderError(f"{file}, line {number}: not a {what} line: {error}") from None
        yield len(line) + 1, record


def _lines(file: Path) -> Iterator[bytes]:
    """The lines without their newlines; what follows the last newline is unfinished."""
    try:
        with file.open("rb") as opened:
            for line in opened:
                if line.endswith(b"\n"):
                    yield line[:-1]
    except OSError as error:
        raise RunFolderError(f"can't read {file}: {error.strerror or error}") from None
