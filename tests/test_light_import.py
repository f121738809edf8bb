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
    assert "reroot" in names
    assert not names & (HEAVY | FOR_SOME | {"numpy"})


def test_what_users_hold_needs_numpy_alone() -> None:
    names = loaded("import reroot; reroot.Contract, reroot.Budget, reroot.Prefix")
    assert "numpy" in names
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


COMMANDS = ("compare", "train", "certify", "reproduce", "report", "audit", "list")


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--help"], 0),
        *(([command, "--help"], 0) for command in COMMANDS),
        (["compare", "--modle", "x"], 2),
        *(
            (["train", "--model", "smollm2", "--task", "copy", "--horizon", "2", *wrong], 2)
            for wrong in (
                ["--lora", "-3"],
                ["--beta", "x"],
                ["--beta", "-1"],
                ["--strategy", "nosuch"],
                ["--strategy", "adaback:tau=x"],
                ["--grants", "chosen/nosuch"],
                ["--generation", "nosuch"],
                ["--config", "/nowhere.yaml"],
            )
        ),
        (["train", "--task", "copy", "--horizon", "2"], 2),
        (["train", "--model", "/no/such/folder", "--task", "copy", "--horizon", "2"], 2),
        (["train", "--model", "smollm2", "--task", "cpoy", "--horizon", "2"], 2),
        (["list", "contracts"], 0),
        (["list", "learners"], 0),
        (["list", "generators"], 0),
    ],
    ids=str,
)
def test_help_lists_and_refusals_load_nothing_heavy(arguments: list[str], status: int) -> None:
    """Half a second for help and one for a refusal, held by what is not imported."""
    code = (
        "from reroot.cli import main\n"
        f"try: main({arguments!r})\n"
        f"except SystemExit as end: assert end.code == {status}, end.code\n"
        f"else: assert not {status}"
    )
    names = loaded(code)
    heavy = HEAVY | {"scipy", "reasoning_gym", "sympy", "trl", "datasets"}
    assert not names & (heavy | ({"yaml"} if "--help" in arguments else set()))
