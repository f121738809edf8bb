"""``reroot reproduce``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.text import Text

from .app import command, console, in_free_folder, say_page, table_of
from .console import print_json
from .progress import bar

if TYPE_CHECKING:
    from ..experiments import Reproduction


@command("quick", writes="out")
def reproduce(
    ids: list[str] | None = None,
    *,
    quick: bool = False,
    out: Path | None = None,
    workers: int | None = None,
    ray: str | None = None,
    replicas: int | None = None,
    known: Path | None = None,
) -> None:
    """The paper, verified by running it: every claim, measured and checked.

    Measures each experiment in its settings, checks the claim against exact laws, writes a run
    folder (results.parquet, summary.json, report.html) and exits with 1 if a check fails.
    Interrupt it at any time: the same command continues where it stopped.

    Example:

        reroot reproduce --quick            all claims, under a minute
        reroot reproduce barrier            one claim, in full

    Args:
        ids: Experiments (see 'reroot list experiments'); none: all of them.
        quick: Fewer and smaller settings: under a minute.
        out: Run folder; the same command on the same folder continues it.
        workers: Processes; by default one per core. Changes no result.
        ray: Measure on Ray: auto (the cluster that it finds), local (on this machine), or a cluster's address.
        replicas: Actors on Ray (default: one per core of this machine).
        known: A results.parquet that was kept: settings whose rows it holds are taken from it and not
            measured.
    """
    from ..experiments import reproduce as run_reproduce
    from ..runs.executors.choice import executor_of

    executor = None if ray is None and replicas is None else executor_of(workers, ray, replicas)

    def run(folder: Path) -> Reproduction:
        with bar("settings", "preparing") as (on_start, advance):
            return run_reproduce(
                ids or (),
                out=folder,
                quick=quick,
                workers=workers,
                executor=executor,
                known=known,
                on_start=on_start,
                on_setting=lambda name, seconds: advance(f"{name} in {seconds:.1f} s"),
            )

    found = in_free_folder(out, _default_name(ids or [], quick), run)
    tell(found)
    if not found.holds:
        raise typer.Exit(1)


def _default_name(ids: list[str], quick: bool) -> str:
    return "-".join(["reproduce", *ids, *(["quick"] if quick else [])])


def tell(found: Reproduction, *, json: bool = False) -> None:
    """Print the table of a reproduction, or its summary as JSON, and write its page."""
    from ..experiments.page import write_page

    if json:
        print_json(found.summary)
    else:
        _print(found)
    say_page(found.folder, lambda: write_page(found))


def _print(found: Reproduction) -> None:
    table = table_of("experiment", "checks", "claim", fixed=2)
    for entry in found.summary["experiments"]:
        held = sum(check["holds"] for check in entry["checks"])
        style = "green" if entry["holds"] else "bold red"
        count = Text(f"{held} of {len(entry['checks'])}", style=style)
        table.add_row(entry["id"], count, Text(entry["claim"]))
    console.print(table)
    for id, checks in found.checks.items():
        for check in checks:
            if not check.holds:
                console.say(f"fails: {id}: {check.name}: {check.detail}", "red")
