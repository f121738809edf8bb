"""Tables in one file or in parts, at the sizes where one becomes the other; sequences made when asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from reroot.errors import RunFolderError
from reroot.runs import parted
from reroot.runs.made import Made, where
from reroot.runs.parted import read_results, tables_of, write_results

SCHEMA = {"x": pl.Int64}


@pytest.fixture(autouse=True)
def four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parted, "MOST", 4)


def pieces(*sizes: int) -> Iterator[pl.DataFrame]:
    start = 0
    for size in sizes:
        yield pl.DataFrame({"x": range(start, start + size)}, schema=SCHEMA)
        start += size


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def values(found: pl.DataFrame | pl.LazyFrame | None) -> list[int]:
    assert found is not None
    return found.lazy().collect()["x"].to_list()


@pytest.mark.parametrize(
    ("sizes", "parts"),
    [((0,), 0), ((2, 2), 0), ((4,), 0), ((2, 2, 1), 2), ((4, 4), 2), ((4, 4, 1), 3), ((3, 3, 3), 2), ((4, 0), 2)],
)  # fmt: skip
def test_more_than_fit_one_table_are_parts_and_say_the_same(
    sizes: tuple[int, ...], parts: int, tmp_path: Path
) -> None:
    """Whatever was there before, and whatever a kill has left, is gone."""
    for before in ((1,), (4, 4, 4, 4)):
        write_results(tmp_path, pieces(*before))
        (tmp_path / ".results.77").mkdir()
        (tmp_path / ".results.77" / "part-00000.parquet").touch()
        told = values(write_results(tmp_path, pieces(*sizes)))
        files = [f"results/part-{number:05d}.parquet" for number in range(parts)]
        assert names(tmp_path) == (files or ["results.parquet"])
        assert told == values(read_results(tmp_path, SCHEMA)) == [*range(sum(sizes))]
        tables = [table["x"].to_list() for table in tables_of(tmp_path, SCHEMA)]
        assert [x for table in tables for x in table] == told
        assert len(tables) == max(1, parts)


def test_no_results_are_none_and_missing_parts_are_named(tmp_path: Path) -> None:
    assert read_results(tmp_path, SCHEMA) is None
    assert list(tables_of(tmp_path, SCHEMA)) == []
    write_results(tmp_path, pieces(4, 4, 4))
    (tmp_path / "results" / "part-00001.parquet").unlink()
    with pytest.raises(RunFolderError, match="parts are missing among 2"):
        read_results(tmp_path, SCHEMA)
    for path in (tmp_path / "results").iterdir():
        path.unlink()
    with pytest.raises(RunFolderError, match="no parts"):
        read_results(tmp_path, SCHEMA)
    (tmp_path / "results" / "part-00000.parquet").write_bytes(b"no table")
    with pytest.raises(RunFolderError):
        read_results(tmp_path, SCHEMA)


def test_made_sequences_make_what_is_asked_for_and_no_more() -> None:
    asked = list[int]()

    def square(item: int) -> int:
        asked.append(item)
        return item * item

    made = Made([3, 1, 2], square)
    assert len(made) == 3
    assert asked == []
    assert (made[0], made[-1], made[1:]) == (9, 4, [1, 4])
    assert asked == [3, 2, 1, 2]
    assert list(made) == [9, 1, 4]
    with pytest.raises(IndexError):
        made[3]
    big = where(made, lambda x: x > 1)
    assert (len(big), list(big), big[-1], big[:1]) == (2, [9, 4], 4, [9])
    assert list(where(made, lambda x: x > 100)) == []
