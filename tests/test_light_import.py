"""What importing reroot loads: NumPy, and nothing that takes a second."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"torch", "transformers", "tokenizers", "matplotlib", "polars", "pandas", "pyarrow"}
FOR_SOME = {"scipy", "rich", "typer", "reasoning_gym", "sympy", "hypothesis", "pytest"}


def loaded(code: str) -> set[str]:
    """Top-level packages that ``python -X importtime -c code`` loads."""
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    lines = [line for line in run.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


def test_importing_reroot_is_light() -> None:
    names = loaded("import reroot")
    assert "reroot" in names
    assert not names & (HEAVY | FOR_SOME | {"numpy"})


def test_what_users_hold_needs_numpy_alone() -> None:
    names = loaded("import reroot; reroot.Contract, reroot.Budget, reroot.Prefix")
    assert "numpy" in names
    assert not names & (HEAVY | FOR_SOME)


def test_a_heavy_import_would_be_seen() -> None:
    assert "polars" in loaded("import polars")


@pytest.mark.slow(1)
@pytest.mark.parametrize("module", ["learners", "families", "tasks", "generators", "limits"])
def test_its_parts_are_light(module: str) -> None:
    assert not loaded(f"import reroot; reroot.{module}") & (HEAVY | FOR_SOME)


def test_the_door_and_the_runner_are_light() -> None:
    assert not loaded("import reroot; reroot.run, reroot.Session, reroot.audit") & (
        HEAVY | FOR_SOME
    )


COMMANDS = (
    "compare",
    "train",
    "certify",
    "reproduce",
    "report",
    "audit",
    "list",
    "describe",
    "probe",
)
TRAIN = ("train", "--model", "smollm2", "--task", "copy", "--horizon", "2")
REFUSED = (
    ("compare", "--modle", "x"),
    ("compare", "--model", "smollm2", "--task", "copy", "--horizons", "2", "--value", "prm:/no"),
    *((*TRAIN, *wrong.split()) for wrong in (
        "--lora -3", "--beta x", "--beta -1", "--strategy nosuch", "--strategy adaback:tau=x",
        "--grants chosen/nosuch", "--generation nosuch", "--config /nowhere.yaml",
        "--model /no/such/folder", "--task nosuch", "--horizon 0",
    )),
    ("train", "--task", "copy", "--horizon", "2"),
)  # fmt: skip


@pytest.mark.slow(1)
@pytest.mark.parametrize(
    ("calls", "status"),
    [
        ([("--help",), *((command, "--help") for command in COMMANDS)], 0),
        ([("list", what) for what in ("contracts", "learners", "generators", "tasks")], 0),
        (REFUSED, 2),
    ],
    ids=["help", "lists", "refusals"],
)
def test_help_lists_and_refusals_load_nothing_heavy(
    calls: list[tuple[str, ...]], status: int, tmp_path: Path
) -> None:
    """Half a second for help, one for a refusal: held by what is not imported."""
    code = f"""
import os, sys
os.chdir({str(tmp_path)!r})
from reroot.cli import main
for call in {calls!r}:
    try: main(call)
    except SystemExit as end: assert end.code == {status}, (call, end.code)
    else: assert not {status}, call
    heavy = {HEAVY | FOR_SOME - {"rich", "typer"} | {"trl", "datasets"}!r} & set(sys.modules)
    assert not heavy, (call, heavy)
    assert {status or calls[0] != ("--help",)!r} or "numpy" not in sys.modules, call
"""
    loaded(code)
