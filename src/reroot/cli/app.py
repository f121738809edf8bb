"""The command line: each command is one typed call of the library."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from .._version import __version__
from ..errors import MissingDependency
from .console import PlainConsole

app = typer.Typer(
    name="reroot",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="""Compare what different [bold]generator interfaces[/bold] are worth.

A [italic]contract[/italic] says who may ask an autoregressive generator what, and at which prefix: control (root < visited < reset < chosen) / report (argmax(k), sample, logprob, topk(k), full). Learners reach the generator only through a metered session that enforces it, so that the same learner, task, seed and budget can be run with nothing but the interface changed.

Start with:  reroot compare --model hidden_path:K=4,H=16,p=0.4
""",
)
console = PlainConsole()


def say_page(folder: Path, write: Callable[[], object]) -> None:
    """Write the page of a run that is complete, and say where it is, or what it lacks."""
    try:
        console.say(f"report: {write()}")
    except MissingDependency as error:
        console.say(f"no page: {error}; then: reroot report {folder}")


def table_of(*header: str, fixed: int) -> Table:
    """A table without lines, whose first ``fixed`` columns do not wrap."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for i, name in enumerate(header):
        table.add_column(name, no_wrap=i < fixed)
    return table


def _version(show: bool) -> None:
    if show:
        console.say(f"reroot {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass
