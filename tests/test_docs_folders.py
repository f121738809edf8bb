"""``docs/folders.md`` has every column of every table, with its type, and every file of a run folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import reroot
from docs_blocks import ROOT
from reroot.contract import Control
from reroot.runs.tables import attempt_schema, comparison_schema, problem_schema

TEXT = (ROOT / "docs" / "folders.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """The text below a title."""
    found = re.search(rf"^## {re.escape(title)}$(.*?)(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE)
    assert found, title
    return found[1]


def columns(title: str) -> list[tuple[str, str]]:
    """(name, type) of a table's lines."""
    return re.findall(r"^\| `(\w+)` \| ([\w()]+) \|", section(title), re.MULTILINE)


def test_columns_are_those_of_the_code() -> None:
    runs = [(name, str(kind)) for name, kind in attempt_schema().items()]
    more = [(name, str(kind)) for name, kind in comparison_schema().items()]
    problems = [(name, str(kind)) for name, kind in problem_schema().items()]
    assert columns("`results.parquet` of a run") == runs
    assert columns("`results.parquet` of a comparison") == more[len(runs) :]
    assert columns("`problems.parquet`") == problems


@pytest.mark.slow(1)
def test_files_are_those_of_a_run_folder(tmp_path: Path) -> None:
    reroot.compare(
        model="hidden_path:K=3,H=3,p=0.6", grants="root/sample", learners="best_of_n:n=2",
        problems=2, seeds=1, transcripts=True, out=tmp_path / "run",
    )  # fmt: skip
    found = {p.name for p in (tmp_path / "run").iterdir()}
    named = {part.partition("/")[0] for part in re.findall(r"`([\w./]+)`", section_of_files())}
    assert found <= named
    assert {"config.json", "journal.jsonl", "results.parquet", "problems.parquet"} <= found


def section_of_files() -> str:
    return TEXT[: TEXT.index("## `results.parquet` of a run")]


def test_the_concepts_name_every_level() -> None:
    concepts = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \| .*$", concepts, re.MULTILINE)[:5] == list(map(str, Control))
