"""What importing reroot loads: NumPy, and nothing that takes a second."""

from __future__ import annotations

import subprocess
import sys

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
    assert {"reroot", "numpy"} <= names
    assert not names & (HEAVY | FOR_SOME)


def test_a_heavy_import_would_be_seen() -> None:
    assert "polars" in loaded("import polars")


@pytest.mark.parametrize("module", ["learners", "families", "tasks", "generators", "limits"])
def test_its_parts_are_light(module: str) -> None:
    assert not loaded(f"import reroot; reroot.{module}") & (HEAVY | FOR_SOME)


def test_the_door_and_the_runner_are_light() -> None:
    assert not loaded("import reroot; reroot.run, reroot.Session, reroot.audit") & (
        HEAVY | FOR_SOME
    )


def test_the_command_line_loads_heavy_things_on_use_only() -> None:
    names = loaded("import reroot.cli")
    assert {"typer", "rich"} <= names
    assert not names & HEAVY


def test_lists_and_help_need_no_model() -> None:
    """``reroot list …`` must answer at once, and without the optional groups."""
    for what in ("contracts", "learners", "generators"):
        code = (
            f"from reroot.cli import main\ntry: main(['list', '{what}'])\nexcept SystemExit: pass"
        )
        assert not loaded(code) & HEAVY
