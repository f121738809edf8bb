"""Results of a run on disk: one table, or parts of it in a folder where there are very many attempts."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RunFolderError
from .folder import PARTS, RESULTS, made_folder, write_table
from .tables import read_table

if TYPE_CHECKING:
    import polars as pl

MOST = 2**16
"""Rows of ``results.parquet``, and of each part where there are more: a multiple of a piece's."""
_GROUP = 2**13  # rows of a part that are skipped together by who looks for one learner


def write_results(folder: Path, pieces: Iterable[pl.DataFrame]) -> pl.DataFrame | pl.LazyFrame:
    """Write ``results.parquet``, or the folder ``results`` of parts, in place of either; the results.

    Args:
        folder: the run folder.
        pieces: of the table, in their order.

    Returns:
        The table, or one that is read from its parts when it is asked for.

    Raises:
        RunFolderError: the file system refuses.
    """
    tables = _joined(pieces)
    first, second = next(tables), next(tables, None)
    for left in folder.glob(f".{PARTS}.*"):  # by a kill
        shutil.rmtree(left)
    parts = folder / PARTS
    if second is None:
        write_table(folder / RESULTS, first)
        shutil.rmtree(parts, ignore_errors=True)
        return first
    beside = made_folder(folder / f".{PARTS}.{os.getpid()}")
    some = chain([first, second], tables)
    del first, second  # each is let go of as it is written
    _write_parts(beside, some)
    shutil.rmtree(parts, ignore_errors=True)
    os.replace(beside, parts)  # after a kill before this there is the journal
    (folder / RESULTS).unlink(missing_ok=True)
    return _scan(parts)


class Beside:
    """A new folder for temporary files, which ends with this object or with the process."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="reroot-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def results_beside(
    pieces: Iterable[pl.DataFrame],
) -> tuple[pl.DataFrame | pl.LazyFrame, Beside | None]:
    """Results that are in no run folder: a table, or where they would have parts, one that is read from parts
    in a temporary folder, which the caller keeps.

    Raises:
        RunFolderError: the file system refuses.
    """
    tables = _joined(pieces)
    first, second = next(tables), next(tables, None)
    if second is None:
        return first, None
    beside, some = Beside(), chain([first, second], tables)
    del first, second
    _write_parts(beside.path, some)
    return _scan(beside.path), beside


def _write_parts(folder: Path, tables: Iterator[pl.DataFrame]) -> None:
    for number, table in enumerate(tables):
        write_table(folder / f"part-{number:05d}.parquet", table, _GROUP)


def _joined(pieces: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Tables of ``MOST`` rows, and the rest: at least one table."""
    import polars as pl

    held, rows = list[pl.DataFrame](), 0
    for piece in pieces:
        if held and rows >= MOST:
            yield pl.concat(held)
            held, rows = [], 0
        held.append(piece)
        rows += len(piece)
    yield pl.concat(held)


def read_results(folder: Path, schema: Mapping[str, Any]) -> pl.DataFrame | pl.LazyFrame | None:
    """The results of a run folder, as ``write_results`` gives them; ``None`` if there are none yet.

    Raises:
        RunFolderError: a table is damaged (``read_table``).
    """
    if not (folder / PARTS).is_dir():
        return read_table(folder / RESULTS, schema) if (folder / RESULTS).exists() else None
    for _ in tables_of(folder, schema):
        pass  # checked
    return _scan(folder / PARTS)


def tables_of(folder: Path, schema: Mapping[str, Any]) -> Iterator[pl.DataFrame]:
    """The tables that the results consist of, one after another (``RunFolderError``: see ``read_table``)."""
    files = _files(folder / PARTS) if (folder / PARTS).is_dir() else [folder / RESULTS]
    return (read_table(file, schema) for file in files if file.exists())


def _files(parts: Path) -> list[Path]:
    files = sorted(parts.glob("part-*.parquet"))
    if [file.name for file in files] != [f"part-{n:05d}.parquet" for n in range(len(files))]:
        raise RunFolderError(f"{parts} is damaged: parts are missing among {len(files)}")
    if not files:
        raise RunFolderError(f"{parts} is damaged: no parts")
    return files


def _scan(parts: Path) -> pl.LazyFrame:
    import polars as pl

    return pl.scan_parquet([file.resolve() for file in _files(parts)], glob=False)
