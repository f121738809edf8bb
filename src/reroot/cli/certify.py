"""``reroot certify``."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from ..errors import InvalidInput
from .addresses import with_addresses
from .app import app, console, table_of
from .console import print_json
from .progress import bar

if TYPE_CHECKING:
    from ..runs.executors.base import Executor


@app.command()
@partial(with_addresses, writes="out")
def certify(
    methods: Annotated[
        list[str] | None,
        typer.Argument(metavar="[METHOD]...", help="Methods (see 'reroot certify --list')."),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every method; writes the page of all certificates.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for certificates.html and certificates.json (--all: runs/certificates)."
        ),
    ] = None,
    list_: Annotated[
        bool, typer.Option("--list", help="What would be checked, and who has no certificate.")
    ] = False,
    processes: Annotated[
        int | None, typer.Option(help="Processes; by default one per core. Changes no number.")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            help="Check on Ray: auto (the cluster that it finds), local, or a cluster's address."
        ),
    ] = None,
    replicas: Annotated[
        int | None, typer.Option(help="Actors on Ray (default: one per core of this machine).")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print all numbers as JSON, not as tables.")
    ] = False,
) -> None:
    """Is a method's output law what it is said to be?

    Runs each method on small generators once for every sequence of random choices that can be made,
    and compares the law of its output with the law that is stated: total variation, KL and the
    largest ratio, and the expected cost in every currency beside its formula. Markov chains are
    checked step by step; what cannot be enumerated is sampled, with an interval. Exits with 1 if a
    statement does not hold.

    Example:

        reroot certify smc vgb
        reroot certify --all --out runs/certificates
    """
    if list_:
        console.print(_listing())
        return
    names = list(dict.fromkeys(methods or ()))
    if every == bool(names):
        raise InvalidInput(
            "--all is for every method: name none beside it"
            if every
            else "name a method, or --all for every one; 'reroot certify --list' shows them"
        )
    folder = Path("runs") / "certificates" if every and out is None else out
    from ..checks import check_int
    from ..runs.executors.choice import executor_of

    if processes is not None:
        check_int("processes", processes, 1)
    executor = executor_of(processes, ray, replicas, usual=None)
    found = _checked(names, folder, executor)
    if as_json:
        print_json(found)
    else:
        _tell(found, folder, short=every)
    if not found["holds"]:
        raise typer.Exit(1)


def _checked(names: list[str], folder: Path | None, executor: Executor) -> dict[str, Any]:
    """Check, with progress shown; the numbers and the page go into the folder, if there is one."""
    from ..certify.every import certificates_folder, certify_methods
    from ..pages.certificates.page import write_certificates

    with nullcontext() if folder is None else certificates_folder(folder, names):
        with bar("cases", "preparing") as (on_start, on_case):
            found = certify_methods(names, executor=executor, on_start=on_start, on_case=on_case)
        if folder is not None:
            write_certificates(folder, found)
    return found


def _tell(found: dict[str, Any], folder: Path | None, *, short: bool) -> None:
    from ..pages.certificates.page import PAGE
    from ..pages.certificates.terminal import certificates_table, overview

    console.print((overview if short else certificates_table)(found, console.width))
    if folder is not None:
        console.say(f"report: {folder / PAGE}")


def tell_certificates(folder: Path, found: dict[str, Any], *, json: bool = False) -> None:
    """Print what a folder of certificates holds, as JSON if wanted, and write its page again."""
    from ..pages.certificates.page import write_certificates

    page = write_certificates(folder, found)
    if json:
        print_json(found)
        console.say(f"report: {page}")
    else:
        _tell(found, folder, short=True)


def _listing() -> Table:
    """Methods with their cases, then the learners that have none."""
    from ..certify import cases_of
    from ..certify.record import uncertified
    from ..pages.kit.formatting import listing

    table = table_of("method", "toy", "checked", "what is stated", fixed=1)
    last = ""
    for case in cases_of():
        shown = Text("" if case.method == last else case.method)
        table.add_row(shown, case.toy.name, case.how, Text(case.states))
        last = case.method
    table.caption = Text(f"Without a certificate: {listing(uncertified())}.")
    table.caption_justify = "left"
    return table
