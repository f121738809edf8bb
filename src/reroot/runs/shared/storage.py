"""Shared storage as fsspec gives it: whole objects, of which some are made by one process alone.

Names are relative to the address: ``uploads/00000012.json``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from ...errors import InvalidInput, MissingDependency, RerootError, RunFolderError, need

UPLOADS, OBJECTS, LEASES = "uploads", "objects", "lease"
_SECRET = re.compile(r"//[^/@]*@")
_AT_ONCE = 16  # requests: each is mostly waited for
T = TypeVar("T")
R = TypeVar("R")


class Storage:
    """What is stored below an address.

    Args:
        address: as ``runs.folder.address_of`` gives it.

    Attributes:
        shown: the address without user and password.

    Raises:
        MissingDependency: fsspec, or what it needs for the protocol, is not installed.
        InvalidInput: there is no such protocol.
    """

    def __init__(self, address: str) -> None:
        self.shown = _SECRET.sub("//", address)
        self._fs, self._root = _file_system(address, self.shown)

    def prepare(self) -> None:
        """Make the folders, where storage has any (object stores have none)."""
        if not self._fs.async_impl:
            for folder in (UPLOADS, OBJECTS, LEASES):
                self._fs.makedirs(f"{self._root}/{folder}", exist_ok=True)

    def names(self, folder: str = "") -> list[str]:
        """Names in a folder (of one that is not there: none), sorted."""
        self._fs.invalidate_cache()
        place = f"{self._root}/{folder}".rstrip("/")
        try:
            found = self._fs.ls(place, detail=False)
        except FileNotFoundError:
            return []
        names = {str(path).rstrip("/").rpartition("/")[2] for path in found}
        return sorted(names - {"", place.rpartition("/")[2]})

    def read(self, name: str) -> bytes | None:
        """An object; ``None``: there is none."""
        try:
            return self._fs.cat_file(f"{self._root}/{name}")
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Write an object, in place of any other."""
        self._fs.pipe_file(f"{self._root}/{name}", data)

    def create(self, name: str, data: bytes) -> bool:
        """Write an object that is not there; false: another one is.

        Of stores that cannot refuse a second one the last that is written stays: who cares reads it again.
        """
        path = f"{self._root}/{name}"
        try:
            if getattr(self._fs, "local_file", False):
                with self._fs.open(path, "xb") as file:
                    file.write(data)
            else:
                self._fs.pipe_file(path, data, mode="create")
        except (
            Exception
        ):  # there is one; an answer was lost; it cannot refuse; or the real error comes again
            if self.read(name) is None:
                self.write(name, data)
            return self.read(name) == data
        return True

    def send(self, file: Path, name: str) -> None:
        """A file of this machine as an object."""
        self._fs.put_file(str(file), f"{self._root}/{name}")

    def get(self, name: str, file: Path) -> None:
        """An object as a file of this machine; ``FileNotFoundError``: there is none."""
        self._fs.get_file(f"{self._root}/{name}", str(file))

    def remove(self, names: Sequence[str]) -> None:
        """Remove objects, those that are there."""
        together(self._remove, names)

    def _remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._fs.rm_file(f"{self._root}/{name}")

    @contextmanager
    def reached(self, to: str) -> Iterator[None]:
        """Whatever storage raises is one error that says why.

        Raises:
            RunFolderError: it cannot be reached, read or written.
        """
        try:
            yield
        except RerootError:
            raise
        except Exception as error:
            raise RunFolderError(f"can't {to} {self.shown}: {why(error)}") from error


def why(error: Exception) -> str:
    """What an error of storage says, in a line."""
    said = " ".join(str(error).split())[:300] or "no more is known"
    kinds = {PermissionError: "no permission", FileNotFoundError: "there is no such place"}
    kind = next((text for kind, text in kinds.items() if isinstance(error, kind)), None)
    return f"{kind or type(error).__name__}: {said}"


def together(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """What ``work`` gives of each, several at a time."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(work, items))


def digest(data: bytes) -> str:
    """The checksum of an object."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def digest_of(file: Path) -> tuple[int, str]:
    """Bytes and checksum of a file."""
    found, size = hashlib.blake2b(digest_size=16), 0
    with file.open("rb") as opened:
        while data := opened.read(2**20):
            found.update(data)
            size += len(data)
    return size, found.hexdigest()


def _file_system(address: str, shown: str) -> tuple[Any, str]:
    need("storage", "fsspec")
    from fsspec.core import url_to_fs
    from fsspec.registry import known_implementations

    protocol = address.partition("://")[0]
    settings = {"auto_mkdir": True} if protocol in ("file", "local") else {}
    try:
        fs, root = url_to_fs(address, **settings)
    except ImportError as error:
        known: Mapping[str, str] = known_implementations.get(protocol, {})
        package = known.get("class", "fsspec").partition(".")[0]
        install = "" if package == "fsspec" else f": pip install {package}"
        raise MissingDependency(f"{shown}: {error}{install}") from None
    except ValueError as error:
        raise InvalidInput(f"{shown}: {error}") from None
    except Exception as error:
        raise RunFolderError(f"can't open {shown}: {why(error)}") from error
    return fs, str(root).rstrip("/")
