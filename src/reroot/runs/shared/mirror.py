"""A mirror: what a run folder of this machine has got goes to shared storage, every few seconds and at the end."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ...errors import RunFolderError
from .lease import TakenOver
from .storage import OBJECTS, Storage, digest, digest_of, together, why
from .uploads import BLOCK, Files, Part, Upload, local_files, numbers, path_of, publish

_LOOKED_AT_AGAIN = 8
"""Blocks of a growing file that are read again with what is new: a kill or a full disk may have cut its end off."""
_TRIES = 5  # at the end; within a run there is no last one
_LONGEST = 60.0  # seconds between two tries


class _Seen(NamedTuple):
    """How a file was found: another file, a longer one, or one that was written since differs."""

    inode: int
    size: int
    written: int


class Mirror:
    """Uploads what has changed in a folder. The calling process holds the lease.

    Args:
        storage: where to.
        folder: what is uploaded, while others write into it.
        last: the upload that it began as, if there is one.
        uploaded: called with every upload that is made.
        told: gets a line when old objects cannot be removed.

    Attributes:
        last: the last upload.
    """

    def __init__(
        self,
        storage: Storage,
        folder: Path,
        last: Upload | None,
        uploaded: Callable[[Upload], None],
        told: Callable[[str], None],
    ) -> None:
        self._storage, self._folder, self.last = storage, folder, last
        self._uploaded, self._told = uploaded, told
        self._number = max(numbers(storage), default=0) + 1
        self._known: dict[str, tuple[_Seen, tuple[Part, ...]]] = {}
        self._sent = set[str]()
        # what a kill has left
        mine = {part.name for part in _parts(last)}
        self._old = [f"{OBJECTS}/{name}" for name in storage.names(OBJECTS) if name not in mine]
        self._old += [path_of(n) for n in numbers(storage) if last is None or n != last.number]
        self._sweeps = True

    def upload(self) -> bool:
        """Make an upload of what is new; whether there was anything.

        Raises:
            TakenOver: another process has made an upload.
            BlockingIOError: files are replaced all the time.
            Exception: storage cannot be reached.
        """
        for _ in range(3):
            seen = self._look()
            found = {name: (how, self._cut(name, how)) for name, how in seen.items()}
            files: Files = {name: parts for name, (_, parts) in found.items()}
            if files == ({} if self.last is None else self.last.files):
                self._known = found
                return False
            self._send(files)
            if self._still(seen):
                self._publish(files)
                self._known = found
                return True
        raise BlockingIOError(f"files in {self._folder} are replaced while they are read")

    def _look(self) -> dict[str, _Seen]:
        """Every file. Journals first: what else there is may be newer than they, as after a loss of power."""
        found = dict[str, _Seen]()
        for name in local_files(self._folder):
            with suppress(FileNotFoundError):
                told = os.stat(self._folder / name)
                found[name] = _Seen(told.st_ino, told.st_size, told.st_mtime_ns)
        return found

    def _still(self, seen: Mapping[str, _Seen]) -> bool:
        now = self._look()
        return all(name in now and _same(name, seen[name], now[name]) for name in seen)

    def _cut(self, name: str, how: _Seen) -> tuple[Part, ...]:
        """The objects of a file; those that are stored already are the same as before."""
        before_seen, before = self._known.get(name, (None, ()))
        if how == before_seen:
            return before
        if not before and self.last is not None:
            before = self.last.files.get(name, ())
        file = self._folder / name
        try:
            if not _grows(name):
                return (self._part(name, before[:1], *digest_of(file)),) if how.size else ()
            kept = 0
            if before_seen is not None and _same(name, before_seen, how):
                kept = max(0, before_seen.size // BLOCK - _LOOKED_AT_AGAIN)
            return (*before[:kept], *self._blocks(name, how.size, before, kept))
        except FileNotFoundError:
            return ()  # it is looked at again, as it is not what was seen

    def _blocks(self, name: str, size: int, before: tuple[Part, ...], first: int) -> list[Part]:
        found = list[Part]()
        with (self._folder / name).open("rb") as file:
            file.seek(first * BLOCK)
            for at in range(first, -(-size // BLOCK)):
                data = file.read(min(BLOCK, size - at * BLOCK))
                found.append(self._part(name, before[at : at + 1], len(data), digest(data)))
        return found

    def _part(self, name: str, before: tuple[Part, ...], size: int, checksum: str) -> Part:
        if before and (before[0].size, before[0].digest) == (size, checksum):
            return before[0]
        told = "".join(c if c.isalnum() or c in "._-=+" else "_" for c in Path(name).name)[-80:]
        return Part(f"{self._number:08d}-{checksum}.{told}", size, checksum)

    def _send(self, files: Files) -> None:
        stored = self._sent | {part.name for part in _parts(self.last)}
        todo = {
            part.name: partial(self._send_part, self._folder / name, at * BLOCK, part, _grows(name))
            for name, parts in files.items()
            for at, part in enumerate(parts)
            if part.name not in stored
        }
        together(lambda send: send(), list(todo.values()))

    def _send_part(self, file: Path, at: int, part: Part, grows: bool) -> None:
        try:
            with file.open("rb") as opened:
                opened.seek(at)
                data = opened.read(part.size) if grows else None
        except FileNotFoundError:
            return  # it is looked at again, as it is not what was seen
        if data is None:
            self._storage.send(file, f"{OBJECTS}/{part.name}")
        elif digest(data) == part.digest:
            self._storage.write(f"{OBJECTS}/{part.name}", data)
        self._sent.add(part.name)

    def _publish(self, files: Files) -> None:
        made = publish(self._storage, self._number, files)
        if made is None:
            raise TakenOver(
                f"{self._storage.shown} is worked on by another process now: upload {self._number} is not of this one"
            )
        before, self.last, self._sent = self.last, made, set()
        self._uploaded(made)
        self._number += 1
        # the upload before stays, for who reads it now
        kept = {part.name for part in (*_parts(before), *_parts(made))}
        old, self._old = self._old, []
        if before is not None:
            self._old = [f"{OBJECTS}/{p.name}" for p in _parts(before)] + [path_of(before.number)]
        self._remove([name for name in old if name.removeprefix(f"{OBJECTS}/") not in kept])

    def _remove(self, names: list[str]) -> None:
        if not self._sweeps:
            return
        try:
            self._storage.remove(names)
        except Exception as error:
            self._sweeps = False
            self._told(
                f"old objects of {self._storage.shown} stay, as they can't be removed: {why(error)}"
            )


def _parts(upload: Upload | None) -> list[Part]:
    return [] if upload is None else [part for parts in upload.files.values() for part in parts]


def _grows(name: str) -> bool:
    return name.endswith(".jsonl")


def _same(name: str, before: _Seen, now: _Seen) -> bool:
    """Whether what was seen is still there."""
    if _grows(name):
        return now.inode == before.inode and now.size >= before.size
    return now == before


class Repeated(threading.Thread):
    """Does something every few seconds; where it fails later and later, which is said once.

    Args:
        work: what to do.
        every: seconds.
        failing: what to say before the reason when it fails.
        told: gets a line when it fails, and when it works again.
        ended: called with the error when another process has taken over, after which it is not done again.
    """

    def __init__(
        self,
        work: Callable[[], object],
        every: float,
        failing: str,
        told: Callable[[str], None],
        ended: Callable[[TakenOver], None],
    ) -> None:
        super().__init__(daemon=True)
        self._work, self._every, self._failing = work, every, failing
        self._told, self._ended = told, ended
        self._stop_it = threading.Event()

    def run(self) -> None:
        """Until ``end``."""
        wait, failed = self._every, False
        while not self._stop_it.wait(wait):
            began = time.monotonic()
            try:
                self._work()
            except TakenOver as error:
                self._ended(error)
                return
            except Exception as error:
                if not failed:
                    self._told(f"{self._failing} ({why(error)})")
                wait, failed = min(2 * wait, max(_LONGEST, self._every)), True
                continue
            if failed:
                self._told("it can be reached again")
            # at most half of the time is spent on it
            wait, failed = max(self._every, time.monotonic() - began), False

    def stop(self) -> None:
        """Do it no more."""
        self._stop_it.set()

    def end(self) -> None:
        """Stop, when what is being done is done."""
        self.stop()
        self.join()


def at_last(
    work: Callable[[], object], what: str, first_wait: float, told: Callable[[str], None]
) -> None:
    """Do it, after some tries if need be, of which the first that fails is told.

    Raises:
        TakenOver: another process works on the folder.
        RunFolderError: it was not possible.
    """
    waits = [first_wait * 2**n for n in range(_TRIES - 1)]
    for number, wait in enumerate([*waits, None]):
        try:
            work()
            return
        except RunFolderError:
            raise
        except Exception as error:
            if wait is None:
                raise RunFolderError(f"{what} ({why(error)})") from error
            if not number:
                told(f"{what} ({why(error)}); now it is tried for {sum(waits):g} s more")
            time.sleep(wait)
