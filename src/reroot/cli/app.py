"""The command line: each command is one typed call of the library."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console

from .._version import __version__
from ..errors import RerootError

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
console = Console()
INTERRUPTED = 130
"""The exit code that Typer gives Ctrl-C."""


def _version(show: bool) -> None:
    if show:
        console.print(f"reroot {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: errors become one line and exit code 2, Ctrl-C exits with 130."""
    errors = Console(stderr=True)
    try:
        code = app(args=arguments, standalone_mode=False)
    except RerootError as error:
        errors.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(2)
    except Exception as error:
        usage = getattr(error, "show", None)
        if usage is None:
            raise
        usage()
        sys.exit(2)
    if code == INTERRUPTED:
        errors.print("interrupted: run folders keep what is finished; the same command continues.")
    if code:  # what a command passes to typer.Exit
        sys.exit(code)
