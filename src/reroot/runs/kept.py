"""The finished attempts of a run, by key: where there are many, most of them on disk alone."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..access.attempt import Attempt, Job
from ..access.attempt_json import attempt_from_json
from ..access.sealing import read_sealed, unsealed
from ..errors import RunFolderError
from .made import Made

HELD = 10_000
"""Attempts that stay in memory; of the others it is known where in the journal they are."""


class Kept(Mapping[str, Attempt]):
    """Attempts of a journal; a later one of the same key replaces the earlier.

    Args:
        file: the journal.

    Attributes:
        failed: keys of those that failed.
    """

    def __init__(self, file: Path) -> None:
        self._file, self._descriptor = file, -1
        self._there: dict[str, Attempt | int] = {}  # int: the byte at which its line begins
        self.failed: set[str] = set()

    def load(self) -> None:
        """Take up what the journal says; without a last line that a kill cut off.

        Raises:
            RunFolderError: a line is damaged; it says which.
        """
        if not self._file.exists():
            return
        at = 0
        for size, attempt in read_sealed(self._file, "journal", attempt_from_json):
            self.add(attempt)
            self.written(attempt.key, at)
            at += size

    def add(self, attempt: Attempt, key: str | None = None) -> None:
        """An attempt that is finished; ``key`` is the same text where it is there already."""
        self._there[key or attempt.key] = attempt
        self.failed.discard(attempt.key)
        if attempt.error is not None:
            self.failed.add(attempt.key)

    def written(self, key: str, at: int) -> None:
        """Its line begins at this byte of the journal."""
        if len(self._there) > HELD:
            self._there[key] = at

    def __getitem__(self, key: str) -> Attempt:
        found = self._there[key]
        return self._read(found) if isinstance(found, int) else found

    def __contains__(self, key: object) -> bool:
        return key in self._there

    def __iter__(self) -> Iterator[str]:
        return iter(self._there)

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


def chosen(kept: Mapping[str, Attempt], jobs: Sequence[Job]) -> Sequence[Attempt]:
    """The attempts of some jobs in their order; of many each is read when it is asked for."""
    found = Made(jobs, lambda job: kept[job.key])
    return tuple(found) if len(jobs) <= HELD else found
