"""Folders on disk that grow: a configuration, a journal, atomic files; resumable after a kill.

config.json      what was run; a folder continues only under the same configuration
journal.jsonl    one line per finished piece of work, the truth
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..errors import RunFolderError

CONFIG, JOURNAL, RESULTS, SUMMARY = (
    "config.json",
    "journal.jsonl",
    "results.parquet",
    "summary.json",
)


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a neighbour of ``path``, then move it into place in one step.

    Raises:
        RunFolderError: the file system refuses (full disk, no permission).
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(beside)
        os.replace(beside, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        if not isinstance(error, Exception):  # Ctrl-C
            raise
        # polars has errors of its own for a full disk
        reason = error.strerror if isinstance(error, OSError) else None
        raise RunFolderError(f"can't write {path}: {reason or error}") from error


def write_json(path: Path, value: object) -> None:
    """Write JSON, atomically."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    write_atomically(path, lambda beside: beside.write_bytes(_encode(text)))


def _encode(json_text: str) -> bytes:
    """UTF-8; what UTF-8 cannot hold (lone surrogates) becomes the JSON escape of itself."""
    return json_text.encode("utf-8", "backslashreplace")


def append(path: Path, text: str, kept: str) -> None:
    """Append ``text`` whole: after a failure the file is as long as before."""
    try:
        with path.open("ab", buffering=0) as file:
            before = file.seek(0, os.SEEK_END)
            data = _encode(text)
            try:
                if file.write(data) != len(data):
                    raise OSError(28, "no space left on device")
            except OSError:
                file.truncate(before)
                raise
    except OSError as error:
        raise RunFolderError(
            f"can't write {path}: {error.strerror or error}. {kept} Make room and run the same "
            "command again: it continues from there."
        ) from error


class JournalFolder:
    """A folder with a configuration and a journal; a context manager that holds the folder's lock.

    Args:
        path: the folder, made if it does not exist.
        config: JSON-able identity of the run, compared key by key when the folder exists.
        key: journal line → what names it; a later line replaces an earlier one of the same name.
        parts: subfolders of the run's own, made if they do not exist.

    Attributes:
        lines: the journal, by name.

    Raises:
        RunFolderError: the folder holds another run, is in use by another process, or can't be
            written.
    """

    def __init__(
        self,
        path: str | Path,
        config: Mapping[str, Any],
        key: Callable[[dict[str, Any]], str],
        parts: tuple[str, ...] = (),
    ) -> None:
        self.path = Path(path)
        self.config = json.loads(json.dumps(dict(config)))
        self.lines: dict[str, dict[str, Any]] = {}
        self._key = key
        self._parts = parts

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for part in self._parts:
                (self.path / part).mkdir(exist_ok=True)
            self._lock = (self.path / ".lock").open("w")
        except OSError as error:
            raise RunFolderError(f"can't use {self.path} as a run folder: {error}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise RunFolderError(f"{self.path} is in use by another process") from None
        try:
            self._match_config()
            self._load()
        except BaseException:
            self._lock.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._lock.close()

    def add(self, line: dict[str, Any]) -> None:
        """Record a finished piece of work; it is on disk when this returns."""
        text = json.dumps(line, ensure_ascii=False) + "\n"
        append(self.path / JOURNAL, text, f"What is finished ({len(self.lines)}) is safe.")
        self.lines[self._key(line)] = line

    def _match_config(self) -> None:
        file = self.path / CONFIG
        if not file.exists():
            own = (*self._parts, ".lock")  # and .config.json.PID, left by a kill
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
                raise RunFolderError(
                    f"{self.path} holds a run with another configuration: {key} is "
                    f"{_short(found.get(key))} there and {_short(self.config.get(key))} now. "
                    "Choose another folder, or run with the same configuration to continue it."
                )

    def _load(self) -> None:
        file = self.path / JOURNAL
        if not file.exists():
            return
        data = file.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):  # a kill cut the last line off: its work is done again
            os.truncate(file, len(whole))
        for number, text in enumerate(whole.split(b"\n")[:-1], 1):
            try:
                line = self._checked(json.loads(text))
                self.lines[self._key(line)] = line
            except (ValueError, KeyError, TypeError) as error:
                raise RunFolderError(
                    f"{file}, line {number}: not a journal line: {error}"
                ) from None

    def _checked(self, line: dict[str, Any]) -> dict[str, Any]:
        """The line, if it is one; else ``ValueError``, ``KeyError`` or ``TypeError``."""
        return line


def read_config(path: Path) -> dict[str, Any]:
    """The configuration of a run folder.

    Raises:
        RunFolderError: not a run folder.
    """
    return read_json(path / CONFIG, f"{path} is not a run folder")


def read_json(file: Path, otherwise: str) -> dict[str, Any]:
    """The content of a JSON file.

    Args:
        file: the file.
        otherwise: what it means that it cannot be read, for the error.

    Raises:
        RunFolderError: it cannot be read, or is not JSON.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunFolderError(f"{otherwise}: {error.strerror} ({file.name})") from None
    except ValueError as error:
        raise RunFolderError(f"{file} is not JSON: {error}") from None


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}…"
