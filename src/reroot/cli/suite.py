"""``reroot compare --suite``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from .app import console
from .console import print_json
from .progress import bar

if TYPE_CHECKING:
    from ..access.runner import Attempt
    from ..runs.suite import SuiteRun

FAILED = 3
"""The exit status of a comparison some of whose attempts failed."""


def run_suite_of(suite: str, folder: Path, *, json: bool = False, **settings: Any) -> None:
    """Run a suite with its progress shown, then print its tables and write its page."""
    from ..runs.suite import run_suite

    state = {"part": "", "passed": 0, "done": 0}
    with bar("attempts", "loading the model and the problems") as (show, advance):

        def on_start(part: str, total: int, done: int) -> None:
            state.update(part=part, passed=0, done=0)
            show(total, done)

        def on_attempt(attempt: Attempt) -> None:
            state["passed"] += attempt.passed
            state["done"] += 1
            advance(f"{state['part']}: {state['passed']}/{state['done']} passed")

        run = run_suite(suite, out=folder, on_start=on_start, on_attempt=on_attempt, **settings)
    tell_suite(run, json=json)
    end_with(run.failures)


def end_with(failures: str | None) -> None:
    """Say what failed, if anything did, and end with the status for it."""
    if failures is not None:
        text = f"{failures}. The same command tries them again, unless with --keep-errors."
        console.say(text, "red")
        raise typer.Exit(FAILED)


def tell_suite(run: SuiteRun, *, json: bool = False) -> None:
    """Print the tables of a suite, or its summary as JSON, and write its page."""
    from ..pages.suite.page import write_suite_page
    from ..pages.suite.terminal import suite_table

    if json:
        print_json(run.summary)
    else:
        console.print(suite_table(run.summary))
    console.say(f"report: {write_suite_page(run)}")
