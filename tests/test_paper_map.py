"""The map from the paper to the code: all that it names exists, and nothing it must name is missing."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

from reroot import limits
from reroot.experiments import list_experiments

ROOT = Path(__file__).parents[1]
HEAD = ["statement", "formula", "function", "test", "experiment"]


def rows() -> list[list[str]]:
    """(statement, formula, function, test, experiment) of every line of every table."""
    lines = (ROOT / "docs" / "paper_map.md").read_text(encoding="utf-8").splitlines()
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines if line[:1] == "|"]
    return [row for row in cells if row != HEAD and set(row[0]) != {"-"}]


ROWS = rows()


def named(text: str) -> str:
    """The one name in backticks that a cell consists of."""
    found = re.fullmatch(r"`([^`]+)`", text)
    assert found, f"{text!r} should be one name in backticks"
    return found[1]


def test_tables_are_found() -> None:
    assert len(ROWS) >= 50
    assert all(len(row) == len(HEAD) and all(row) for row in ROWS)


@pytest.mark.parametrize("function", sorted({named(row[2]) for row in ROWS}))
def test_functions_exist(function: str) -> None:
    module, _, name = function.rpartition(".")
    if module.startswith("experiments.settle_neural."):  # its inner modules are made of torch
        pytest.importorskip("torch")
    assert callable(getattr(importlib.import_module(f"reroot.{module}"), name))


@pytest.mark.parametrize("test", sorted({named(row[3]) for row in ROWS}))
def test_tests_exist(test: str) -> None:
    file, _, name = test.partition("::")
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert name in functions


def test_every_experiment_is_named_and_no_other() -> None:
    ours = [row for row in ROWS if row[4] != "—"]  # methods of other papers have none
    assert {named(row[4]) for row in ours} == set(list_experiments())


def test_every_limit_is_named() -> None:
    functions = {named(row[2]) for row in ROWS}
    assert {f"limits.{name}" for name in limits.__all__} <= functions
