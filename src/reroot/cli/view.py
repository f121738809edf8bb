"""``reroot report``, ``audit`` and ``list``: what there is, and what was run."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

import typer
from rich.text import Text

from ..errors import InvalidInput, RunFolderError
from .across import Files, log_to, tell_across, tell_suites
from .app import command, console, table_of
from .folders import shown, shown_training


@command("json", "macro", "markdown", reads="folders")
def report(
    folders: list[Path],
    *,
    out: Path | None = None,
    record: Path | None = None,
    json: bool = False,
    macro: bool = False,
    lm_eval: Path | None = None,
    csv: Path | None = None,
    latex: Path | None = None,
    markdown: bool = False,
    to: list[str] | None = None,
) -> None:
    """Make the table and report.html of a run folder again; put several comparisons, suites, or training
    runs, on one page.

    Comparisons are compared with the first that is named: paired wherever they ran the same problems under the
    same seeds. Suites likewise, part by part: at equal tokens, and at equal calls.

    Example:

        reroot report runs/x
        reroot report runs/x --json
        reroot report runs/t1 runs/t2 --out both.html --record curves.parquet
        reroot report curves.parquet
        reroot report runs/x runs/y --out both.html --csv tables
        reroot report runs/x --to tensorboard:logs

    Args:
        folders: Folder of a comparison, suite, reproduction, sweep or certificates, or one or more of
            training runs, or a record of some (.parquet), or several comparisons or suites. Of a
            comparison that was interrupted: what there is.
        out: File for the page of training runs (default: report.html in the first folder) or of several
            comparisons (default: across.html there); of several suites a folder for the page of each part.
        record: Keep the curves of training runs in this file too: a .parquet without models. Of a
            reproduction, finished or not: the rows measured so far, and their page beside the file.
        json: Print every number (summary.json, where there is one), and nothing else to stdout.
        macro: Of a comparison of several data sets (tasks, or groups of a task's problems), also the
            mean over data sets, each of which counts the same.
        lm_eval: Also write the cells of a comparison to this .json file, in the shape of results of the
            lm-evaluation-harness.
        csv: Write every table into this folder, as .csv files.
        latex: Likewise, as .tex files (booktabs).
        markdown: Print every table as Markdown, and nothing else to stdout.
        to: Log scalars and tables of comparisons, or scalars of training runs, for another program:
            tensorboard:DIR, wandb:PROJECT or trackio:PROJECT; repeat for more.
    """
    kinds = {folder: _kind(folder) for folder in folders}
    files = Files(csv, latex, markdown)
    if json and markdown:
        raise InvalidInput("--json and --markdown both print to stdout; choose one")
    _for(kinds, {"--macro": macro, "--lm-eval": lm_eval}, {"compare"})
    _for(kinds, {"--to": to}, {"compare", "train"})
    if to:
        log_to(folders, to)
    if "train" in kinds.values():
        tell, tables = shown_training(folders, out, record)
    elif len(folders) > 1:
        if macro or lm_eval or record:
            raise InvalidInput("--macro, --lm-eval and --record are not for several at a time")
        _several(kinds, out, files, json=json)
        return
    else:
        folder, kind = folders[0], kinds[folders[0]]
        if record is not None and out is None and kind == "reproduce":
            folder, kind = _kept(folder, record), "rows"
        elif out is not None or record is not None:
            name = "--out" if out is not None else "--record"
            raise InvalidInput(
                f"{name} is for training runs or several comparisons: other pages are in their run folder"
            )
        tell, tables = shown(folder, kind, macro=macro, lm_eval=lm_eval)
    if not markdown:
        tell(json=json)
    files.write(tables)


def _several(
    kinds: Mapping[Path, object], out: Path | None, files: Files, *, json: bool = False
) -> None:
    """Several comparisons, or suites, against the first."""
    tell = {"compare": tell_across, "suite": tell_suites}.get(str(next(iter(kinds.values()))))
    if tell is None or len(set(kinds.values())) > 1:
        listed = ", ".join(f"{folder} is of kind {kind!r}" for folder, kind in kinds.items())
        raise RunFolderError(
            "only comparisons, only suites, or only training runs are reported together; "
            f"{listed}; name one folder at a time"
        )
    tell(list(kinds), out, files, json=json)


def _for(kinds: Mapping[Path, object], options: Mapping[str, object], good: set[str]) -> None:
    """Refuse options that the folders are not of the kind for (``InvalidInput``)."""
    for folder, kind in kinds.items():
        for name in (name for name, value in options.items() if value and kind not in good):
            what = " and ".join(sorted(good))
            raise InvalidInput(f"{name} is for folders of {what}; {folder} is of kind {kind!r}")


def _kind(path: Path) -> object:
    """What a folder, or a record, is of."""
    from ..pages.training.record import is_record
    from ..runs.folder import read_config
    from ..runs.tables import read_parquet

    if is_record(path):
        return "rows" if "experiment" in read_parquet(path).columns else "train"
    return read_config(path).get("kind")


def _kept(folder: Path, record: Path) -> Path:
    """The record, with the rows of a reproduction that are measured so far."""
    from ..experiments.records import keep_rows

    done, all_ = keep_rows(folder, record)
    console.say(f"record: {record} ({done} of {all_} settings)")
    return record


@command()
def audit(transcript: Path, contract: str) -> None:
    """Would a recorded attempt have been permitted under another contract?

    Prints the first message that would have been refused, with the weakest contract that allows
    it, and exits with 1; prints 'permitted' and exits with 0 otherwise.

    Args:
        transcript: A file below transcripts/ of a run folder.
        contract: Contract to check it against.
    """
    from ..access.audit import audit as run_audit

    refused = run_audit(transcript, contract)
    console.say("permitted" if refused is None else str(refused))
    raise typer.Exit(0 if refused is None else 1)


class Kind(StrEnum):
    """What can be listed."""

    tasks = "tasks"
    learners = "learners"
    strategies = "strategies"
    generators = "generators"
    contracts = "contracts"
    experiments = "experiments"


@command(name="list")
def list_(kind: Kind) -> None:
    """What there is: tasks, learners, strategies, generators, contracts or experiments.

    Args:
        kind: What to list.
    """
    from . import listing

    header, rows = getattr(listing, kind)()
    table = table_of(*header, fixed=len(header) - 1)
    for row in rows:
        table.add_row(*map(_first_line_first, row))
    console.print(table)


def _first_line_first(text: str) -> Text:
    """What it is at once, its details in the background."""
    first, newline, rest = text.partition("\n")
    return Text.assemble(first, newline, (rest, "dim"))
