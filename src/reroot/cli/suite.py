"""``reroot compare --suite``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from .app import console, in_free_folder
from .console import print_json
from .progress import attempts_bar

if TYPE_CHECKING:
    from ..runs.suite import SuiteRun

FAILED = 3
"""The exit status of a comparison some of whose attempts failed."""


def run_suite_of(
    suite: str, out: Path | None, *, json: bool = False, estimate: bool = False, **settings: Any
) -> None:
    """Run a suite with its progress shown, then print its tables and write its page."""
    from ..runs.suite import run_suite

    def made(folder: Path) -> SuiteRun:
        with attempts_bar(always=estimate) as bar:
            return run_suite(
                suite,
                out=folder,
                estimate=estimate,
                on_start=bar.on_part,
                on_attempt=bar.on_attempt,
                on_estimate=bar.on_estimate,
                **settings,
            )

    run = in_free_folder(out, suite, made)
    if estimate:
        tell_estimate(run.folder)
        return
    tell_suite(run, json=json)
    end_with(run.failures)


def tell_estimate(folder: Path) -> None:
    """Say what became of the attempts of a probe."""
    console.say(
        f"The attempts of the probe count: they are in {folder}, and without --estimate it goes on."
    )


def end_with(failures: str | None) -> None:
    """Say what failed, if anything did, and end with the status for it."""
    if failures is not None:
        text = (
            f"{failures.rstrip('.')}. The same command tries them again, unless with --keep-errors."
        )
        console.say(text, "red")
        raise typer.Exit(FAILED)


def tell_suite(run: SuiteRun, *, json: bool = False) -> None:
    """Print the tables of a suite, or its summary as JSON, and write its page."""
    from ..pages.suite.page import write_suite_page
    from ..pages.suite.terminal import suite_table

    if json:
        print_json(run.summary)
    else:
        console.print(suite_table(run.summary, console.width))
    console.say(f"report: {write_suite_page(run)}")
