"""Folders on disk that grow: a configuration, a journal, atomic files; resumable after a kill.

config.json      what was run; a folder continues only under the same configuration
journal.jsonl    one sealed line per finished piece of work, the truth; a later line replaces

Nothing that was written is lost by a kill of the process. After a loss of power the journal is there
up to the last sync (``SYNCED`` seconds, or the piece of work before), and every file that is
written whole is there whole, old or new.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from ..access.sealing import read_sealed, sealed
from ..errors import InvalidInput, OtherRun, RunFolderError

if TYPE_CHECKING:
    import polars as pl

CONFIG, JOURNAL, LOCK = "config.json", "journal.jsonl", ".lock"
RESULTS, PARTS, SUMMARY = "results.parquet", "results", "summary.json"
SYNCED = 1.0
"""Seconds between two syncs of a growing file with the disk."""

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(?:/+(.*))?", re.S)
_PIECE = 2**16  # bytes that are looked at together
AGAIN = "Make room and run the same command again: it continues from there."

_DIGEST_CHANGED = (
    "the task file changed since, or the code that makes or judges the problems. Choose another "
    "folder, or put the problems back as they were to continue it."
)


def address_of(path: str | Path) -> str | None:
    """The address that a text, or a path that was made of it, is: ``PROTOCOL://…``; ``None``: it is a path.

    Raises:
        InvalidInput: it names a protocol and no place.
    """
    found = _ADDRESS.fullmatch(str(path))
    if found is None:
        return None
    protocol, place = found[1], (found[2] or "").strip("/")
    if not place:
        raise InvalidInput(f"expected PROTOCOL://PLACE, got {str(path)!r}")
    return f"{protocol}://{'/' if protocol in ('file', 'local') else ''}{place}"


def _own_path(path: str | Path) -> Path:
    """A path of a file system (``RunFolderError``: an address)."""
    if address := address_of(path):
        raise RunFolderError(
            f"expected a path of a file system, got {address}: the command line takes it, and in Python "
            f"'with reroot.stored({address!r}) as folder'"
        )
    return Path(path)


def made_folder(path: str | Path) -> Path:
    """A folder for what is to be written, made if it is not there: ask before the work begins.

    Raises:
        RunFolderError: it cannot be made or written.
    """
    folder = _own_path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = error.strerror or error if isinstance(error, OSError) else error
        raise RunFolderError(f"can't write into {folder}: {why}") from None
    if not os.access(folder, os.W_OK):
        raise RunFolderError(f"can't write into {folder}: no permission")
    return folder


def write_atomically(path: Path, content: bytes | str, *, sync: bool = True) -> None:
    """Write a file whole: beside ``path``, then moved into place in one step.

    With ``sync`` it survives a loss of power when this returns, as what was there or as this. Lone surrogates, which UTF-8 cannot hold, become their escapes.

    Raises:
        RunFolderError: the file system refuses (full disk, no permission).
    """
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(beside, path)
        if sync:
            _sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        if not isinstance(error, OSError):  # Ctrl-C
            raise
        raise RunFolderError(f"can't write {path}: {error.strerror or error}") from error


def _sync_folder(path: Path) -> None:
    """Let what was created or moved in a folder survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: object) -> None:
    """Write JSON, atomically."""
    write_atomically(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_table(path: Path, table: pl.DataFrame, group: int | None = None) -> None:
    """Write a parquet file, atomically: the same table gives the same bytes.

    Args:
        path: the file.
        table: its content.
        group: rows of a row group.
    """
    held = io.BytesIO()
    table.write_parquet(held, row_group_size=group)
    write_atomically(path, held.getvalue())


class GrowingFile:
    """A file that only grows, and by whole pieces: after a failure it is as long as before.

    Args:
        path: the file, opened when something is first added.
        kept: what to say is safe when nothing can be added.
    """

    def __init__(self, path: Path, kept: Callable[[], str]) -> None:
        self.path, self._kept = path, kept
        self._file: io.FileIO | None = None
        self._synced = 0.0

    def add(self, data: bytes) -> tuple[int, int]:
        """Add ``data``, safe from a kill when this returns; where in the file it begins and ends."""
        try:
            if self._file is None:
                self._file = self.path.open("ab", buffering=0)
                _sync_folder(self.path.parent)
            before = self._file.seek(0, os.SEEK_END)
            try:
                if self._file.write(data) != len(data):
                    raise OSError(28, "no space left on device")
            except OSError:
                self._file.truncate(before)
                raise
            return before, before + len(data)
        except OSError as error:
            why = f"can't write {self.path}: {error.strerror or error}"
            raise RunFolderError(f"{why}. {self._kept()} {AGAIN}") from error

    def sync(self, every: float = 0.0) -> None:
        """Let what was added survive a loss of power, if ``every`` seconds have passed since."""
        now = time.monotonic()
        if self._file is not None and now - self._synced >= every:
            os.fdatasync(self._file.fileno())
            self._synced = now

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


class JournalFolder:
    """A folder with a configuration and a journal; a context manager that holds the folder's lock.

    Args:
        path: the folder, made if it does not exist.
        config: JSON-able identity of the run, compared key by key when the folder exists.
        key: journal line → what names it; a later line replaces an earlier one of the same name.
        parts: subfolders of the run's own, made if they do not exist.
        checked: see ``read_journal``.

    Attributes:
        lines: what the journal says, by name.

    Raises:
        RunFolderError: the folder holds another run, is in use by another process, is damaged, or
            can't be written.
    """

    def __init__(
        self,
        path: str | Path,
        config: Mapping[str, Any],
        key: Callable[[dict[str, Any]], str],
        parts: tuple[str, ...] = (),
        checked: Callable[[dict[str, Any]], Any] = lambda line: line,
    ) -> None:
        self.path = _own_path(path)
        self.config = json.loads(json.dumps(dict(config)))
        self.lines: dict[str, Any] = {}
        self._key, self._checked = key, checked
        self._parts = parts
        self._journal = GrowingFile(self.path / JOURNAL, self._safe)

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for part in self._parts:
                (self.path / part).mkdir(exist_ok=True)
            lock = (self.path / LOCK).open("w")
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            raise RunFolderError(f"can't use {self.path} as a run folder: {error}") from error
        with contextlib.ExitStack() as held:
            held.enter_context(lock)
            if not _locked(lock):
                raise RunFolderError(f"{self.path} is in use by another process")
            self._match_config()
            self._load()
            held.callback(self._journal.close)
            held.callback(self._journal.sync)
            self._held = held.pop_all()
        return self

    def __exit__(self, *raised: object) -> None:
        self._held.close()

    def add(self, line: dict[str, Any]) -> None:
        """Record a finished piece of work; safe from a kill when this returns."""
        self._journal.add(sealed(line))
        self._journal.sync(SYNCED)
        self.lines[self._key(line)] = line

    def _safe(self) -> str:
        return f"What is finished ({len(self.lines)}) is safe."

    def _match_config(self) -> None:
        file = self.path / CONFIG
        if not file.exists():
            own = (*self._parts, LOCK)  # and .config.json.PID, left by a kill
            if any(
                p.name not in own and not p.name.startswith(f".{CONFIG}.")
                for p in self.path.iterdir()
            ):
                raise RunFolderError(
                    f"{self.path} is not empty and holds no {CONFIG}; choose another folder"
                )
            write_json(file, self.config)
            return
        found = read_config(self.path)
        for key in [*self.config, *found]:
            if found.get(key) != self.config.get(key):
                if key in ("digest", "data"):
                    raise RunFolderError(
                        f"{self.path} holds a run on other problems: {_DIGEST_CHANGED}"
                    )
                raise OtherRun(
                    f"{self.path} holds a run with another configuration: {key} is "
                    f"{_short(found.get(key))} there and {_short(self.config.get(key))} now. "
                    "Choose another folder, or run with the same configuration to continue it."
                )

    def _load(self) -> None:
        file = self.path / JOURNAL
        self.lines = read_journal(file, self._key, self._checked)
        cut_unfinished_line(file)


def _locked(lock: IO[str]) -> bool:
    """Take the lock of a folder, if no other process works on it.

    Who only looks whether one does holds it for a moment (``growing.is_running``): that is waited for.
    """
    for wait in (0.02, 0.1, None):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            if wait is not None:
                time.sleep(wait)
    return False


def read_journal(
    file: Path,
    key: Callable[[dict[str, Any]], str],
    checked: Callable[[dict[str, Any]], Any] = lambda line: line,
) -> dict[str, Any]:
    """What a journal says, by name; empty if there is none. A last line cut off by a kill is left out.

    Args:
        file: the journal.
        key: line → its name.
        checked: what is kept of a line; ``ValueError``, ``KeyError`` or ``TypeError`` if it is none.

    Raises:
        RunFolderError: a line is damaged; it says which.
    """
    if not file.exists():
        return {}
    lines = read_sealed(file, "journal", lambda line: (checked(line), key(line)))
    return {name: found for _, (found, name) in lines}


def cut_unfinished_line(file: Path) -> None:
    """Remove a last line that a kill cut off: its work is done again."""
    if not file.exists():
        return
    whole = size = file.stat().st_size
    with file.open("rb") as opened:
        while whole:
            start = max(0, whole - _PIECE)
            opened.seek(start)
            if (at := opened.read(whole - start).rfind(b"\n")) >= 0:
                whole = start + at + 1
                break
            whole = start
    if whole < size:
        os.truncate(file, whole)


def read_config(path: Path) -> dict[str, Any]:
    """The configuration of a run folder.

    Raises:
        RunFolderError: not a run folder.
    """
    return read_json(path / CONFIG, f"{path} is not a run folder")


def read_json(file: Path, otherwise: str) -> dict[str, Any]:
    """The content of a JSON file that holds one object.

    Args:
        file: the file.
        otherwise: what it means that it cannot be read, for the error.

    Raises:
        RunFolderError: it cannot be read, is not JSON, or holds no object.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunFolderError(f"{otherwise}: {error.strerror} ({file.name})") from None
    except (ValueError, RecursionError) as error:
        raise RunFolderError(f"{file} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise RunFolderError(f"{file} is damaged: expected an object, got {_short(found)}")
    return found


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}…"
