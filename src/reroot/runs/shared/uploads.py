"""Uploads: numbered, sealed lists of which objects each file of a run folder is made of.

uploads/00000012.json           one upload; the highest whole one counts
objects/00000009-DIGEST.NAME    a file, or a block of one that grows; never changed

An upload is there or not, whatever dies: its list is written when all its objects are. An object that is cut off is
in no list, and one that was damaged later has another checksum than its list says.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ...access.sealing import sealed, unsealed
from ...errors import RunFolderError
from .storage import OBJECTS, UPLOADS, Storage, digest, digest_of, together

BLOCK = 2**20
"""Bytes of an object of a file that only grows (``.jsonl``); others are one object."""
_UPLOAD = re.compile(r"(\d{8,})\.json")


class Part(NamedTuple):
    """An object: its name, bytes and checksum."""

    name: str
    size: int
    digest: str


Files = dict[str, tuple[Part, ...]]
"""File of the folder → the objects that it is made of, in their order; an empty file has none."""


@dataclass(frozen=True, slots=True)
class Upload:
    """What a folder held at a time.

    Attributes:
        number: uploads are numbered; later ones replace earlier ones.
        at: when it was made, UTC.
        files: what it held.
        digest: tells it from any other upload.
    """

    number: int
    at: str
    files: Files
    digest: str

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(part.size for parts in self.files.values() for part in parts)


def path_of(number: int) -> str:
    """The object of an upload's list."""
    return f"{UPLOADS}/{number:08d}.json"


def numbers(storage: Storage) -> list[int]:
    """The numbers of all uploads, whole or not, the last first."""
    found = (_UPLOAD.fullmatch(name) for name in storage.names(UPLOADS))
    return sorted((int(match[1]) for match in found if match), reverse=True)


def newest(storage: Storage, told: Callable[[str], None]) -> Upload | None:
    """The last upload that is whole; ``None``: there is none.

    Raises:
        RunFolderError: there are uploads and none is whole, or there is something else.
    """
    found = numbers(storage)
    for number in found:
        data = storage.read(path_of(number))
        try:
            if data is not None:
                return _upload(data)
        except (ValueError, KeyError, TypeError) as error:
            told(
                f"{storage.shown}: upload {number} was cut off or damaged ({error}); the one before it counts"
            )
    if found:
        raise RunFolderError(f"{storage.shown} is damaged: none of its uploads is whole")
    return None


def publish(storage: Storage, number: int, files: Files) -> Upload | None:
    """Make an upload of objects that are there; ``None``: another process has made one of this number."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    data = sealed({"number": number, "at": at, "files": files})
    return _upload(data) if storage.create(path_of(number), data) else None


def _upload(data: bytes) -> Upload:
    told = unsealed(data.removesuffix(b"\n"))
    files = {_inside(name): tuple(map(_part, parts)) for name, parts in told["files"].items()}
    return Upload(int(told["number"]), str(told["at"]), files, digest(data))


def _part(told: Any) -> Part:
    name, size, checksum = told
    if "/" in str(name) or type(size) is not int:
        raise ValueError(f"{told!r} is no object")
    return Part(str(name), size, str(checksum))


def _inside(name: str) -> str:
    """A file's name that stays in its folder, whoever wrote the list."""
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or ".." in path.parts or "\0" in name:
        raise ValueError(f"{name!r} is no file of a folder")
    return name


# ---- to this machine -------------------------------------------------------------------------------


def local_files(folder: Path) -> list[str]:
    """The files of a folder, journals first, without those whose name or folder begins with a dot."""
    found = list[str]()
    for base, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        place = Path(base).relative_to(folder)
        found += [(place / name).as_posix() for name in files if not name.startswith(".")]
    return sorted(found, key=lambda name: (PurePosixPath(name).name != "journal.jsonl", name))


def fetch(storage: Storage, files: Files, folder: Path) -> None:
    """Make a folder hold these files and no others; what it has of them stays.

    Raises:
        RunFolderError: an object has not the length or checksum that it should have.
        FileNotFoundError: an object is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in local_files(folder):
        if name not in files:
            (folder / name).unlink()
    for base, _, _ in os.walk(folder, topdown=False):
        if Path(base) != folder:
            with suppress(OSError):  # it is not empty
                Path(base).rmdir()
    together(lambda item: _fetch_file(storage, folder / item[0], item[1]), list(files.items()))


def _fetch_file(storage: Storage, file: Path, parts: tuple[Part, ...]) -> None:
    if _holds(file, parts):
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        if len(parts) == 1:
            storage.get(f"{OBJECTS}/{parts[0].name}", beside)
            _check(storage, parts[0], *digest_of(beside))
        else:
            _fetch_blocks(storage, file, beside, parts)
        os.replace(beside, file)
    finally:
        beside.unlink(missing_ok=True)


def _fetch_blocks(storage: Storage, file: Path, beside: Path, parts: tuple[Part, ...]) -> None:
    with (
        file.open("rb") if file.exists() else open(os.devnull, "rb") as old,
        beside.open("wb") as new,
    ):
        for part in parts:
            data: bytes | None = old.read(part.size)
            if digest(data) != part.digest:
                data = storage.read(f"{OBJECTS}/{part.name}")
                if data is None:
                    raise FileNotFoundError(f"{OBJECTS}/{part.name}")
                _check(storage, part, len(data), digest(data))
            new.write(data)


def _holds(file: Path, parts: tuple[Part, ...]) -> bool:
    if not file.is_file() or file.stat().st_size != sum(part.size for part in parts):
        return False
    with file.open("rb") as opened:
        if len(parts) == 1:  # of any size
            return digest_of(file) == (parts[0].size, parts[0].digest)
        return all(digest(opened.read(part.size)) == part.digest for part in parts)


def _check(storage: Storage, part: Part, size: int, found: str) -> None:
    if (size, found) != (part.size, part.digest):
        raise RunFolderError(
            f"{storage.shown}/{OBJECTS}/{part.name} is damaged: {size} bytes with checksum {found}, "
            f"expected {part.size} with {part.digest}"
        )
