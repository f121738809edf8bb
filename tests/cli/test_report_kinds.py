"""``reroot report``: numbers as JSON, and tables as files, of every kind of folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from commands import call
from training_runs import write_run

TESTS = Path(__file__).parents[1]
RECORDS, RESULTS = TESTS / "pages" / "records", TESTS.parent / "docs" / "results"


def training(folder: Path) -> Path:
    return write_run(folder / "t", "adaback")


def certificates(folder: Path) -> Path:
    (folder / "config.json").write_text('{"kind": "certificates"}', encoding="utf-8")
    shutil.copy(RECORDS / "certificates.json", folder)
    return folder


def diagnosis(folder: Path) -> Path:
    (folder / "config.json").write_text('{"kind": "diagnose"}', encoding="utf-8")
    shutil.copy(RECORDS / "diagnosis.json", folder)
    return folder


def rows(folder: Path) -> Path:
    return Path(shutil.copy(RESULTS / "settle-neural.parquet", folder))


KINDS: dict[Callable[[Path], Path], tuple[str, str]] = {
    training: ("evaluations", "transfer gap, points"),
    certificates: ("methods", "largest TV"),
    diagnosis: ("causes", "what limits"),
    rows: ("experiments", "claim"),
}
"""Folder → one of its tables, and a column of that."""


@pytest.mark.slow(4)
@pytest.mark.parametrize("made", KINDS, ids=lambda made: made.__name__)
def test_json_and_tables_of_every_kind(
    made: Callable[[Path], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, column = KINDS[made]
    (tmp_path / "run").mkdir()
    folder = str(made(tmp_path / "run"))
    assert call("report", folder, "--json") == 0
    said = capsys.readouterr()
    assert isinstance(json.loads(said.out), dict)
    assert "report: " in said.err
    forms = ["--csv", str(tmp_path / "csv"), "--latex", str(tmp_path / "tex"), "--markdown"]
    assert call("report", folder, *forms) == 0
    said = capsys.readouterr()
    assert said.out.startswith("**")
    assert column in said.out
    table = pl.read_csv(tmp_path / "csv" / f"{name}.csv")
    assert column in table.columns
    assert len(table)
    assert (tmp_path / "tex" / f"{name}.tex").read_text(encoding="utf-8").startswith("% ")
    assert call("report", folder, "--json", "--markdown") == 2
    assert "both print to stdout" in capsys.readouterr().err
