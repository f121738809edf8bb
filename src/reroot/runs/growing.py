"""A run folder while it grows: what is new since the last look, without reading it all again.

For a page or a screen that follows a run of another process. Nothing is locked, and nothing waits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from ..access.attempt_json import attempt_from_json
from ..access.runner import Attempt
from ..access.sealing import unsealed
from ..errors import RunFolderError
from .folder import JOURNAL

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class New(Generic[T]):
    """What a journal has got since an offset.

    Attributes:
        lines: what is new, in the order in which it was written. A later line of the same key
            replaces an earlier one (an attempt that failed was made again).
        offset: bytes that have been read; the next look starts there.
        again: the file is shorter than the offset, so that it was read from its beginning: whoever
            follows forgets what it knew.
    """

    lines: list[T]
    offset: int
    again: bool = False


def new_attempts(folder: str | Path, offset: int = 0) -> New[Attempt]:
    """The attempts that have finished since ``offset``, of a comparison or ``reroot.run`` that perhaps goes on.

    A last line that is only half written is left for the next look, as is everything where the folder
    has no journal yet. Poll it as often as you like; each look reads only what is new:

        seen = new_attempts(folder)
        while True:
            show(seen.lines)
            seen = new_attempts(folder, seen.offset)

    Raises:
        RunFolderError: the journal cannot be read, or a whole line is no attempt.
    """
    return _since(Path(folder), offset, attempt_from_json)


def new_lines(folder: str | Path, offset: int = 0) -> New[dict[str, Any]]:
    """As ``new_attempts``, for a journal of any kind: the steps, evaluations and events of a training run.

    Raises:
        RunFolderError: the journal cannot be read, or a whole line is damaged.
    """
    return _since(Path(folder), offset, lambda line: line)


def _since(folder: Path, offset: int, checked: Callable[[dict[str, Any]], T]) -> New[T]:
    file = folder / JOURNAL
    try:
        with file.open("rb") as opened:
            again = opened.seek(0, 2) < offset
            start = 0 if again else offset
            opened.seek(start)
            data = opened.read()
    except FileNotFoundError:
        return New([], 0, offset > 0)
    except OSError as error:
        raise RunFolderError(f"can't read {file}: {error.strerror or error}") from None
    whole = data.rfind(b"\n") + 1
    lines, at = list[T](), start
    for line in data[:whole].split(b"\n")[:-1]:
        try:
            lines.append(checked(unsealed(line)))
        except (ValueError, KeyError, TypeError) as error:
            raise RunFolderError(f"{file}, at byte {at}: not a journal line: {error}") from None
        at += len(line) + 1
    return New(lines, at, again)
