"""Messages of attempts that have not finished, so that a kill costs next to nothing.

All of a process's attempts share one file. What an attempt has said waits in memory until ``flush``,
so that those which finish before never get there; when most of the file is about finished ones, it
is written anew without them.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..access.sealing import read_sealed, sealed, unsealed
from ..errors import RunFolderError
from .folder import AGAIN, GrowingFile, cut_unfinished_line, write_atomically

MESSAGES = "messages.jsonl"
_SMALL = 2**20  # bytes below which a file is not worth writing anew


class InFlight:
    """The messages of a run's unfinished attempts.

    Args:
        folder: where their file is.
        transcripts: where to keep those of finished attempts, if anywhere.
        kept: what to say is safe when nothing can be written.
        told: gets the lines of each transcript that is kept.
    """

    def __init__(
        self,
        folder: Path,
        transcripts: Path | None,
        kept: Callable[[], str],
        told: Callable[[list[dict[str, Any]]], object] = lambda lines: None,
    ) -> None:
        self._file, self._kept = folder / MESSAGES, kept
        self._grown = GrowingFile(self._file, kept)
        self._transcripts, self._tell = transcripts, told
        self._pending: dict[str, list[dict[str, Any]]] = {}
        self._places: dict[str, list[tuple[int, int]]] = {}  # where in the file its lines are
        self._live = 0  # bytes of these
        self._numbers: dict[str, int] = {}
        self._ended: list[int] = []
        self._used = 0  # numbers that were given

    def load(self, finished: Callable[[str], bool]) -> None:
        """Take up what a killed process has left; attempts that are finished go where they belong.

        Args:
            finished: key → whether that attempt is.

        Raises:
            RunFolderError: a line is damaged; it says which.
        """
        if not self._file.exists():
            return
        at, keys, ended = 0, dict[int, str](), set[str]()
        lines = read_sealed(self._file, "message", lambda line: (_checked_key(line, keys), line))
        for size, (key, line) in lines:
            if "key" in line:  # its first line; there may be an earlier attempt of the same key
                self._places[key], self._numbers[key] = [], line["of"]
                ended.discard(key)
            elif "end" in line:
                ended.add(key)
            self._places[key].append((at, at + size))
            at += size
        self._live = sum(b - a for places in self._places.values() for a, b in places)
        cut_unfinished_line(self._file)
        self._used = max(keys, default=-1) + 1
        for key in ended:
            self._forget(key)
        for key in [key for key in self._places if finished(key)]:
            if self._has_transcript(key):
                self._end(key)
            else:
                self.finish(key)

    def recorded(self, key: str) -> list[dict[str, Any]]:
        """The lines of an attempt that are on disk; early ones if they did not come again."""
        lines = self._on_disk(key)
        last = {line["i"]: at for at, line in enumerate(lines) if "i" in line}
        return [line for at, line in enumerate(lines) if not _early(line) or last[line["i"]] == at]

    def _on_disk(self, key: str) -> list[dict[str, Any]]:
        places = self._places.get(key)
        if not places:
            return []
        with self._file.open("rb") as file:
            texts = [os.pread(file.fileno(), b - a, a) for a, b in places]
        lines = [unsealed(line) for text in texts for line in text.splitlines()]
        return [{k: v for k, v in line.items() if k != "of"} for line in lines]

    def append(self, key: str, line: dict[str, Any]) -> None:
        """Add a line of an attempt; on disk after ``flush``."""
        self._pending.setdefault(key, []).append(line)

    def finish(self, key: str) -> None:
        """An attempt has ended: keep its transcript, or nothing."""
        if self._transcripts is not None:
            lines = self._lines(key)
            self._write(self._transcripts / transcript_name(key), b"".join(map(sealed, lines)))
            self._tell(lines)
        self._end(key)

    def _end(self, key: str) -> None:
        if key in self._places:  # if it is made again, this is no part of it
            self._ended.append(self._numbers[key])
        self._forget(key)

    def _lines(self, key: str) -> list[dict[str, Any]]:
        """Its transcript, as far as it is known here."""
        lines = [*self._on_disk(key), *self._pending.get(key, ())]
        return [line for line in lines if not _early(line)]

    def _has_transcript(self, key: str) -> bool:
        """Whether it was written in the moment before a kill; perhaps with more than is known here."""
        file = None if self._transcripts is None else self._transcripts / transcript_name(key)
        if file is None or not file.exists():
            return False
        lines = self._lines(key)
        self._tell(lines)
        return file.read_bytes().startswith(b"".join(map(sealed, lines)))

    def _forget(self, key: str) -> None:
        self._live -= sum(b - a for a, b in self._places.get(key, ()))
        for held in (self._pending, self._places, self._numbers):
            held.pop(key, None)

    def flush(self) -> None:
        """Write down what waits in memory; safe from a kill when this returns."""
        pending, self._pending = self._pending, {}
        parts: list[tuple[str, bytes]] = []
        for key, lines in pending.items():
            if key not in self._numbers:
                self._numbers[key], self._used = self._used, self._used + 1
            of = {"of": self._numbers[key]}
            parts.append((key, b"".join([sealed(of | line) for line in lines])))
        if not parts:
            return
        at, _ = self._grown.add(b"".join([part for _, part in parts]))
        for key, part in parts:
            self._places.setdefault(key, []).append((at, at + len(part)))
            at += len(part)
            self._live += len(part)

    def flush_ends(self) -> None:
        """Write down which attempts are finished: once they are on disk as such."""
        if not self._ended:
            return
        ends = [sealed({"of": number, "end": True}) for number in self._ended]
        self._ended.clear()
        _, end = self._grown.add(b"".join(ends))
        if end > _SMALL and 2 * self._live < end:
            self._rewrite()

    def _rewrite(self) -> None:
        """Leave the finished attempts out."""
        places, parts, at = dict[str, list[tuple[int, int]]](), list[bytes](), 0
        data = self._file.read_bytes()
        for key, old in self._places.items():
            for a, b in old:
                parts.append(data[a:b])
                places.setdefault(key, []).append((at, at + b - a))
                at += b - a
        self._grown.close()
        self._write(self._file, b"".join(parts))
        self._places = places

    def _write(self, file: Path, data: bytes) -> None:
        try:
            write_atomically(file, data, sync=False)
        except RunFolderError as error:
            raise RunFolderError(f"{error}. {self._kept()} {AGAIN}") from error

    def close(self) -> None:
        """Write down what waits, and let go of the file, which is removed if no attempt needs it."""
        try:
            self.flush()
            self.flush_ends()
        finally:
            self._grown.close()
            if not self._places and self._file.exists():
                self._file.unlink()


def _early(line: dict[str, Any]) -> bool:
    return line.get("early", False)


def _checked_key(line: dict[str, Any], keys: dict[int, str]) -> str:
    """Whose line it is; ``ValueError``, ``KeyError`` or ``TypeError`` if it is none."""
    number = line["of"]
    if type(number) is not int or number < 0:
        raise ValueError(f"'of' is {number!r}")
    if (number in keys) == ("key" in line):
        raise ValueError(f"it is no line of attempt {number}")
    if "key" in line:
        if not isinstance(line["key"], str):
            raise ValueError(f"'key' is {line['key']!r}")
        keys[number] = line["key"]
    elif "forget" in line or "i" in line:
        count = line["forget"] if "forget" in line else line["i"]
        if type(count) is not int or count < 0:
            raise ValueError(f"its number is {count!r}")
        if "i" in line and not (
            isinstance(line["message"], dict) and {"error", "value"} <= set(line)
        ):
            raise ValueError("it holds no message and answer")
    elif "end" not in line:
        raise ValueError("it has no number")
    return keys[number]


def transcript_name(key: str) -> str:
    """The file name of an attempt's transcript: legible and unique."""
    digest = hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9_.=-]+', '_', key)[:80]}-{digest}.jsonl"
