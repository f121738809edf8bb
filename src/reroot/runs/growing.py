"""A run folder while it grows: what is new since the last look, without reading it all again.

For a page or a screen that follows a run of another process. Nothing is locked, and nothing waits.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from ..access.attempt_json import attempt_from_json
from ..access.runner import Attempt
from ..access.sealing import unsealed
from ..errors import RunFolderError
from .folder import JOURNAL, LOCK

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
    return lines_since(Path(folder) / JOURNAL, offset, "journal", attempt_from_json)


def new_lines(folder: str | Path, offset: int = 0) -> New[dict[str, Any]]:
    """As ``new_attempts``, for a journal of any kind: the steps, evaluations and events of a training run.

    Raises:
        RunFolderError: the journal cannot be read, or a whole line is damaged.
    """
    return lines_since(Path(folder) / JOURNAL, offset, "journal", lambda line: line)


def lines_since(
    file: Path, offset: int, what: str, checked: Callable[[dict[str, Any]], T]
) -> New[T]:
    """What a growing file of sealed lines has got since ``offset``.

    Args:
        file: the file; nothing is new where there is none yet.
        offset: bytes that have been read.
        what: what its lines are, for the error.
        checked: line → what is kept of it; ``ValueError``, ``KeyError`` or ``TypeError`` if it is none.

    Raises:
        RunFolderError: it cannot be read, or a whole line is damaged.
    """
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
    for number, line in enumerate(data[:whole].split(b"\n")[:-1], 1):
        try:
            lines.append(checked(unsealed(line)))
        except (ValueError, KeyError, TypeError) as error:
            where = f"at byte {at}" if start else f"line {number}"
            raise RunFolderError(f"{file}, {where}: not a {what} line: {error}") from None
        at += len(line) + 1
    return New(lines, at, again)


def is_running(folder: Path) -> bool:
    """Whether a process works on the run folder now: it holds the folder's lock.

    To find out takes the lock for a moment where nobody holds it; who wants it then waits (``JournalFolder``).
    """
    try:
        with (folder / LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no lock: a copy, or a record
        return False
    return False
