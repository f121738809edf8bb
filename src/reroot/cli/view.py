"""``reroot report``, ``audit`` and ``list``: what there is, and what was run."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from .app import app, console


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Run folder of a comparison or a reproduction.")],
) -> None:
    """Make the table and report.html of a run folder again."""
    from ..folders import read_config

    if read_config(folder).get("kind") == "reproduce":
        from ..experiments.runner import load_reproduction
        from .reproduce import tell

        tell(load_reproduction(folder))
        return
    from ..report import summarize, terminal_table, write_report

    console.print(terminal_table(summarize(folder), console.width))
    console.print(f"report: {write_report(folder)}", soft_wrap=True)


@app.command()
def audit(
    transcript: Annotated[Path, typer.Argument(help="A file below transcripts/ of a run folder.")],
    contract: Annotated[str, typer.Argument(help="Contract to check it against.")],
) -> None:
    """Would a recorded attempt have been permitted under another contract?

    Prints the first message that would have been refused, with the weakest contract that allows
    it, and exits with 1; prints 'permitted' and exits with 0 otherwise.
    """
    from ..access.transcript import audit as run_audit

    refused = run_audit(transcript, contract)
    console.print("permitted" if refused is None else str(refused), markup=False, soft_wrap=True)
    raise typer.Exit(0 if refused is None else 1)


class Kind(StrEnum):
    """What can be listed."""

    tasks = "tasks"
    learners = "learners"
    generators = "generators"
    contracts = "contracts"
    experiments = "experiments"


@app.command("list")
def list_(kind: Annotated[Kind, typer.Argument(help="What to list.")]) -> None:
    """What there is: tasks, learners, generators, contracts or experiments."""
    from .. import catalog

    header, rows = {
        Kind.tasks: catalog.tasks,
        Kind.learners: catalog.learners,
        Kind.generators: catalog.generators,
        Kind.contracts: catalog.contracts,
        Kind.experiments: catalog.experiments,
    }[kind]()
    table = Table(box=None, header_style="bold", pad_edge=False)
    for i, name in enumerate(header):
        table.add_column(name, no_wrap=i < len(header) - 1)
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)
