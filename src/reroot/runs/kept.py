"""The finished attempts of a run, by key: where there are many, most of them on disk alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from ..access.attempt import Attempt, Job
from ..access.attempt_json import attempt_from_json
from ..access.sealing import read_sealed, unsealed
from ..errors import RunFolderError
from .made import Made
from .numbered import Numbered

HELD = 10_000
"""Attempts that stay in memory; of the others it is known where in the journal they are."""

_HERE = 0  # the number of an attempt in memory; else one more than twice the byte of its line, or …
_FAILED = 1  # … two more, if it failed


class Kept(Mapping[str, Attempt]):
    """Attempts of a journal; a later one of the same key replaces the earlier.

    Of those on disk alone not even the keys are held: 30 to 40 bytes each. Iteration reads the journal.

    Args:
        file: the journal.
    """

    def __init__(self, file: Path) -> None:
        self._file, self._descriptor = file, -1
        self._here: dict[str, Attempt] = {}
        self._there = Numbered()

    def load(self, seen: Callable[[Attempt], object] = lambda attempt: None) -> None:
        """Take up what the journal says; without a last line that a kill cut off.

        Args:
            seen: gets every attempt in it, replaced ones too.

        Raises:
            RunFolderError: a line is damaged; it says which.
        """
        if not self._file.exists():
            return
        at = 0
        for size, attempt in read_sealed(self._file, "journal", attempt_from_json):
            self.add(attempt)
            self.written(attempt.key, at)
            seen(attempt)
            at += size

    def add(self, attempt: Attempt, key: str | None = None) -> None:
        """An attempt that is finished; ``key`` is the same text where it is there already."""
        self._here[key or attempt.key] = attempt
        self._there[key or attempt.key] = _HERE

    def written(self, key: str, at: int) -> None:
        """Its line begins at this byte of the journal."""
        if key not in self._here or len(self._here) > HELD:
            failed = self.has_failed(key)
            self._here.pop(key, None)
            self._there[key] = _number(at, failed)

    def has_failed(self, key: str) -> bool:
        """Whether there is such an attempt, and it failed."""
        number = self._there.get(key)
        if number == _HERE:
            return self._here[key].error is not None
        return number is not None and (number - 1) % 2 == _FAILED

    def __getitem__(self, key: str) -> Attempt:
        number = self._there.get(key)
        if number is None:
            raise KeyError(key)
        return self._here[key] if number == _HERE else self._read((number - 1) // 2)

    def __contains__(self, key: object) -> bool:
        return key in self._there

    def __iter__(self) -> Iterator[str]:
        yield from self._here
        if len(self._here) == len(self._there):
            return
        at = 0
        for size, attempt in read_sealed(self._file, "journal", attempt_from_json):
            if self._there.get(attempt.key) == _number(at, attempt.error is not None):
                yield attempt.key
            at += size

    def __len__(self) -> int:
        return len(self._there)

    def _read(self, at: int) -> Attempt:
        try:
            if self._descriptor < 0:
                self._descriptor = os.open(self._file, os.O_RDONLY)
            line = b""
            while b"\n" not in line:
                if not (more := os.pread(self._descriptor, 4096, at + len(line))):
                    raise ValueError("it has ended")
                line += more
            return attempt_from_json(unsealed(line[: line.index(b"\n")]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunFolderError(f"{self._file}, at byte {at}: no journal line: {error}") from None

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


def _number(at: int, failed: bool) -> int:
    return 1 + 2 * at + (_FAILED if failed else 0)


def chosen(kept: Mapping[str, Attempt], jobs: Sequence[Job]) -> Sequence[Attempt]:
    """The attempts of some jobs in their order; of many each is read when it is asked for."""
    found = Made(jobs, lambda job: kept[job.key])
    return tuple(found) if len(jobs) <= HELD else found
