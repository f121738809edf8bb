"""The command line: each command is one typed call of the library."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from ._version import __version__
from .errors import InvalidInput, MissingDependency, RerootError

app = typer.Typer(
    name="reroot",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="""Compare what different [bold]generator interfaces[/bold] are worth.

A [italic]contract[/italic] says who may ask an autoregressive generator what, and at which prefix:
control (root < visited < reset < chosen) / report (argmax(k), sample, logprob, topk(k), full).
Learners reach the generator only through a metered session that enforces it, so that the same
learner, task, seed and budget can be run with nothing but the interface changed.

Start with:  reroot compare --model hidden_path:K=4,H=16,p=0.4 --out runs/first
""",
)
console = Console()
INTERRUPTED = 130
"""The exit code that Typer gives Ctrl-C."""


def _split(text: str) -> list[str]:
    """Comma-separated values; empty ones are refused."""
    values = [value.strip() for value in text.split(",")]
    if not all(values):
        raise InvalidInput(f"an empty value in the list {text!r}")
    return values


def _split_specs(text: str, mark: str) -> list[str]:
    """Comma-separated specs; a setting after one that holds ``mark`` belongs to it."""
    specs: list[str] = []
    for value in _split(text):
        setting = "=" in value and mark not in value and "/" not in value
        if setting and specs and mark in specs[-1]:
            specs[-1] += f",{value}"
        else:
            specs.append(value)
    return specs


def _split_integers(text: str) -> list[int]:
    try:
        return [int(value) for value in _split(text)] if text else []
    except ValueError:
        raise InvalidInput(f"expected integers separated by commas, got {text!r}") from None


@contextmanager
def _progress() -> Iterator[tuple[Any, Any]]:
    """Callbacks for ``compare``: a spinner while the model loads, then a bar over attempts."""
    shown = Console(stderr=True)
    bar = Progress(
        TextColumn("[bold]attempts"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=shown,
    )
    spinner = shown.status("loading the model and the problems")
    state = {"passed": 0, "done": 0, "tokens": 0}
    task = bar.add_task("attempts", total=None, note="")

    def on_start(total: int, done: int) -> None:
        spinner.stop()
        bar.update(task, total=total, completed=done)
        bar.start()

    def on_attempt(attempt: Any) -> None:
        state["passed"] += attempt.passed
        state["done"] += 1
        state["tokens"] += attempt.cost.tokens
        note = f"{state['passed']}/{state['done']} passed, {state['tokens']:,} tokens"
        bar.update(task, advance=1, note=note)

    spinner.start()
    try:
        yield on_start, on_attempt
    finally:
        spinner.stop()
        if bar.live.is_started:
            bar.stop()


@app.command()
def compare(
    model: Annotated[
        str,
        typer.Option(
            help="smollm2, a model folder, a hub id, ngram:FILE[:order=N], or a hidden family such "
            "as hidden_path:K=4,H=16,p=0.4 (see 'reroot list generators')."
        ),
    ],
    task: Annotated[
        str, typer.Option(help="Task or tasks, comma-separated; none for a hidden family.")
    ] = "",
    horizons: Annotated[str, typer.Option(help="Task sizes, comma-separated, as in 2,4,6,8.")] = "",
    grants: Annotated[
        str,
        typer.Option(
            help="Contracts to compare. One that names no oracle is granted every oracle of the "
            "task, so that contracts differ in the interface alone."
        ),
    ] = "root/sample,visited/sample,reset/sample,chosen/full",
    learner: Annotated[
        list[str] | None,
        typer.Option(help="A learner, as in best_of_n:n=16; repeat for more (default: a set)."),
    ] = None,
    budget_tokens: Annotated[
        int,
        typer.Option(
            help="Generated tokens that each learner may spend per task, horizon and seed, shared "
            "equally by the problems there."
        ),
    ] = 200_000,
    seeds: Annotated[int, typer.Option(help="Number of seeds; each has its own problems.")] = 3,
    problems: Annotated[
        int | None,
        typer.Option(help="Problems per task, horizon and seed (default: 8; hidden families 32)."),
    ] = None,
    beta: Annotated[float, typer.Option(help="KL temperature β of J_β, reward per nat.")] = 0.02,
    out: Annotated[
        Path | None,
        typer.Option(help="Run folder; the same command on the same folder continues it."),
    ] = None,
    concurrency: Annotated[
        int,
        typer.Option(
            help="Attempts in flight; changes speed, not results (on language models: up to rounding)."
        ),
    ] = 256,
    transcripts: Annotated[
        bool, typer.Option(help="Keep every message of every attempt, for 'reroot audit'.")
    ] = False,
    chat: Annotated[bool, typer.Option(help="Use the model's chat template.")] = False,
    dtype: Annotated[
        str, typer.Option(help="float32 (exact) or bfloat16 (another generator).")
    ] = "float32",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Same tasks, same budget, same seeds: what is each generator interface worth?

    Runs every learner that each contract permits, writes a run folder (results.parquet,
    summary.json, report.html) and prints a table and a verdict per task. Interrupt it at any time:
    the same command continues where it stopped.

    Example:

        reroot compare --model smollm2 --task running_sum --horizons 2,4,6,8 \\
            --grants root/sample,visited/sample,reset/sample,chosen/full \\
            --budget-tokens 200000 --seeds 3 --out runs/x
    """
    from .comparison import compare as run_compare
    from .report import terminal_table, write_report

    folder = out or Path("runs") / _default_name(model, task)
    with _progress() as (on_start, on_attempt):
        result = run_compare(
            model=model,
            task=_split_specs(task, ":") if task else (),
            horizons=_split_integers(horizons),
            grants=_split_specs(grants, "@"),
            learners=learner or (),
            budget_tokens=budget_tokens,
            seeds=seeds,
            problems=problems,
            beta=beta,
            out=folder,
            concurrency=concurrency,
            transcripts=transcripts,
            chat=chat,
            dtype=dtype,
            device=device,
            on_start=on_start,
            on_attempt=on_attempt,
        )
    console.print(terminal_table(result.summary, console.width))
    try:
        console.print(f"report: {write_report(folder)}", soft_wrap=True)
    except MissingDependency as error:  # the comparison itself is complete
        text = f"no page: {error}; then: reroot report {folder}"
        console.print(text, markup=False, soft_wrap=True)


def _default_name(model: str, task: str) -> str:
    name = model.partition(":")[0] if ":" in model else Path(model).name
    return "-".join(part for part in (name, *task.split(",")) if part).replace("/", "_")


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="Run folder of a comparison.")]) -> None:
    """Make the table and report.html of a run folder again."""
    from .report import summarize, terminal_table, write_report

    summary = summarize(folder)
    console.print(terminal_table(summary, console.width))
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
    from .access.transcript import audit as run_audit

    refused = run_audit(transcript, contract)
    console.print("permitted" if refused is None else str(refused), markup=False, soft_wrap=True)
    raise typer.Exit(0 if refused is None else 1)


class Kind(StrEnum):
    """What can be listed."""

    tasks = "tasks"
    learners = "learners"
    generators = "generators"
    contracts = "contracts"


@app.command("list")
def list_(kind: Annotated[Kind, typer.Argument(help="What to list.")]) -> None:
    """What there is: tasks, learners, generators or contracts."""
    from . import catalog

    header, rows = {
        Kind.tasks: catalog.tasks,
        Kind.learners: catalog.learners,
        Kind.generators: catalog.generators,
        Kind.contracts: catalog.contracts,
    }[kind]()
    table = Table(box=None, header_style="bold", pad_edge=False)
    for i, name in enumerate(header):
        table.add_column(name, no_wrap=i < len(header) - 1)
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)


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
        errors.print("interrupted: finished attempts are kept; the same command continues.")
    if code:  # what a command passes to typer.Exit
        sys.exit(code)
