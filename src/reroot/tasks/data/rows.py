"""Rows of other people's files: JSON lines, JSON, CSV, TSV, Parquet, and data sets of Hugging Face.

A row is a dictionary; where it stands is known, so that whatever is wrong with it can be said by
file and line.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ... import specs
from ...checks import check_int
from ...errors import InvalidInput, MissingDependency

Row = dict[str, Any]
HUB = "hf:"
_TEXTS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")
FILES = (*_TEXTS, ".parquet", *(f"{ending}.gz" for ending in _TEXTS))
_PACKED = ".gz"
_ROW = "\0row"  # no column has this name
_BOM = b"\xef\xbb\xbf"


class BadRow(ValueError):
    """A row that cannot be used; the text says why."""


class Rows(Protocol):
    """A table of rows, read one by one."""

    @property
    def source(self) -> str:
        """The file or data set."""
        ...

    @property
    def digest(self) -> str:
        """Changes with the content."""
        ...

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Row: ...
    def place(self, index: int) -> str:
        """Where row ``index`` stands, for people."""
        ...

    def label(self, index: int) -> str:
        """A short name of row ``index``, unique in the source."""
        ...


def read_rows(source: str, take: int | None = None) -> Rows:
    """The rows of a file, by its ending, or of ``hf:NAME[:CONFIG][:SPLIT]``.

    Args:
        source: what to read.
        take: only the first rows; a data set of Hugging Face is then streamed.

    Raises:
        InvalidInput: there is no such file or data set, or it holds no rows.
        MissingDependency: a data set of Hugging Face without the package datasets.
    """
    if take is not None:
        check_int(f"{source}: take", take, 1)
    if source.startswith(HUB):
        rows: Rows = _hub(source, take)
    else:
        if not source.lower().endswith(FILES):
            raise InvalidInput(f"a task file ends in {', '.join(FILES)}, got {source!r}")
        raw = _read(source)
        readers: dict[str, Callable[[str, bytes], Rows]] = {
            ".json": _json,
            ".csv": _table,
            ".tsv": _table,
            ".parquet": _table,
        }
        rows = readers.get(_ending(source), JsonLines)(source, raw)
    if not len(rows):
        raise InvalidInput(f"{source}: the file has no lines with a prompt and an answer")
    return _First(rows, take) if take is not None and take < len(rows) else rows


class JsonLines:
    """One JSON object per line. Lines are kept as they are and parsed when they are asked for, so
    that 200,000 take little more memory than the file has bytes."""

    def __init__(self, source: str, raw: bytes) -> None:
        self.source, self.digest = source, _digest(raw)
        self._raw, self._starts, self._numbers = raw, array("Q"), array("Q")
        at = len(_BOM) if raw.startswith(_BOM) else 0
        number = 1
        while at < len(raw):
            end = raw.find(b"\n", at)
            end = len(raw) if end < 0 else end
            if not raw[at:end].isspace() and end > at:
                self._starts.append(at)
                self._numbers.append(number)
            at, number = end + 1, number + 1

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> Row:
        start = self._starts[index]
        end = self._raw.find(b"\n", start)
        line = self._raw[start:] if end < 0 else self._raw[start:end]
        return as_row(_parse(line, self.place(index)), self.place(index))

    def place(self, index: int) -> str:
        return f"{self.source}, line {self._numbers[index]}"

    def label(self, index: int) -> str:
        return str(self._numbers[index])


@dataclass(frozen=True, slots=True)
class Records:
    """Rows that a library has read.

    Attributes:
        records: anything whose items are mappings.
        numbers: of the records in the source, from 1, where some of it are none.
    """

    source: str
    digest: str
    records: Sequence[Any]
    numbers: Sequence[int] | None = None

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Row:
        return as_row(self.records[index], self.place(index))

    def place(self, index: int) -> str:
        return f"{self.source}, row {self.label(index)}"

    def label(self, index: int) -> str:
        return str(index + 1 if self.numbers is None else self.numbers[index])


@dataclass(frozen=True, slots=True)
class _First:
    """The first rows of others."""

    rows: Rows
    count: int

    @property
    def source(self) -> str:
        return self.rows.source

    @property
    def digest(self) -> str:
        return self.rows.digest

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Row:
        return self.rows[index]

    def place(self, index: int) -> str:
        return self.rows.place(index)

    def label(self, index: int) -> str:
        return self.rows.label(index)


@dataclass(frozen=True, slots=True)
class _Frame(Sequence[Row]):
    """A Polars frame by rows."""

    frame: Any

    def __len__(self) -> int:
        return self.frame.height

    def __getitem__(self, index: Any) -> Any:
        return self.frame.row(index, named=True)

    def __iter__(self) -> Iterator[Row]:
        return self.frame.iter_rows(named=True)


def as_row(record: object, at: str) -> Row:
    """``record`` as a row (``InvalidInput`` if it is none)."""
    if not isinstance(record, dict):
        raise InvalidInput(
            f"{at}: expected a JSON object with prompt and answer, got {repr(record)[:200]}"
        )
    return record


def _ending(source: str) -> str:
    """How the name of a file ends, unpacked."""
    return Path(source.lower().removesuffix(_PACKED)).suffix


def _read(path: str) -> bytes:
    """What a file holds, unpacked."""
    try:
        raw = Path(specs.check_text(path, "a task file")).read_bytes()
    except OSError as error:
        raise InvalidInput(f"cannot read the task file {path!r}: {error.strerror}") from None
    if not path.lower().endswith(_PACKED):
        return raw
    try:
        return gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidInput(f"cannot unpack the task file {path!r}: {error}") from None


def _object(pairs: list[tuple[str, Any]]) -> Row:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} is given twice")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def _parse(text: bytes, at: str) -> object:
    try:
        return _DECODER.decode(text.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{at}: not UTF-8 text (byte {error.start + 1})") from None
    except (ValueError, RecursionError) as error:  # an integer of 5,000 digits among them
        raise InvalidInput(f"{at}: not a JSON object: {error}") from None


def _json(source: str, raw: bytes) -> Rows:
    """A list of objects, or an object of which one value is such a list."""
    content = _parse(raw.removeprefix(_BOM), source)
    if isinstance(content, dict):
        lists = {name: v for name, v in content.items() if _of_rows(v)}
        if len(lists) > 1 and not any(isinstance(v, str) for v in content.values()):
            names = ", ".join(map(repr, lists))
            raise InvalidInput(f"{source}: expected one list of JSON objects, got several: {names}")
        content = next(iter(lists.values())) if len(lists) == 1 else [content]
    if not isinstance(content, list):
        raise InvalidInput(f"{source}: expected a list of JSON objects, got {content!r}")
    return Records(source, _digest(raw), content)


def _counted(frame: Any) -> Any:
    """A frame of text, with integers where ``max_tokens`` holds nothing else."""
    import polars as pl

    for name in set(frame.columns) & {"max_tokens", "max_new_tokens"}:
        column = frame[name].str.strip_chars().cast(pl.Int64, strict=False)
        if column.null_count() == frame[name].null_count():
            frame = frame.with_columns(column)
    return frame


def _of_rows(value: Any) -> bool:
    """Whether ``value`` is a list of objects, and not of messages."""
    if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
        return False
    return bool(value) and not {"role", "from"} & set(value[0])


def _table(source: str, raw: bytes) -> Rows:
    import polars as pl

    try:
        ending = _ending(source)
        if ending == ".parquet":
            frame = pl.read_parquet(raw)
            # 0.1 in single precision is meant to be 0.1, not 0.10000000149
            frame = frame.with_columns(pl.col(pl.Float32).cast(pl.String).cast(pl.Float64))
        else:  # every cell as text: what it means is decided later
            apart = "\t" if ending == ".tsv" else ","
            frame = _counted(pl.read_csv(raw, infer_schema=False, separator=apart))
        frame = frame.with_row_index(_ROW, offset=1)
        if frame.width > 1:  # blank lines are no rows
            frame = frame.filter(~pl.all_horizontal(pl.exclude(_ROW).is_null()))
    except Exception as error:
        kind = _ending(source)[1:].upper()
        raise InvalidInput(f"cannot read {source!r} as {kind}: {error}") from None
    return Records(source, _digest(raw), _Frame(frame.drop(_ROW)), frame[_ROW].to_list())


def _hub(source: str, take: int | None) -> Rows:
    """A data set by name, or a folder that ``save_to_disk`` wrote; the cache is enough offline."""
    try:
        import datasets
    except ImportError as error:
        raise MissingDependency(
            f"task {source!r} needs the package datasets: pip install reroot[train] ({error})"
        ) from error
    name, *rest = source.removeprefix(HUB).split(":")
    if not name or len(rest) > 2:
        raise InvalidInput(f"expected hf:NAME[:CONFIG][:SPLIT], got {source!r}")
    try:
        if (Path(name) / "dataset_dict.json").exists() or (Path(name) / "state.json").exists():
            found: Any = datasets.load_from_disk(name)
        else:
            config = rest.pop(0) if len(rest) == 2 else None
            if config is None and rest and rest[0] in datasets.get_dataset_config_names(name):
                config = rest.pop(0)
            found = datasets.load_dataset(name, config, streaming=take is not None)
    except InvalidInput:
        raise
    except Exception as error:
        raise InvalidInput(
            f"cannot load {source!r}: {type(error).__name__}: {str(error).splitlines()[0]}"
        ) from None
    if isinstance(found, dict):
        found = _split(source, found, rest)
    if take is not None and not hasattr(found, "__len__"):
        found = list(found.take(take))
    digest = getattr(found, "_fingerprint", None) or _digest(repr(found).encode())
    return Records(source, str(digest), found)


def _split(source: str, splits: dict[str, Any], asked: Sequence[str]) -> Any:
    names = list(splits)
    if not asked and len(names) == 1:
        return splits[names[0]]
    if not asked or asked[0] not in splits:
        got = f"got {asked[0]!r}" if asked else "none is named"
        raise InvalidInput(f"{source}: choose a split, {got}: {source}:{names[0]}, of {names}")
    return splits[asked[0]]


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:16]
