"""``reroot check``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from .app import app, console
from .data import Answer, Map, SkipBad, with_data
from .progress import bar

SHOWN = 50
"""Faults that are printed; ``--json`` gives all."""


@app.command()
def check(
    task: Annotated[
        str, typer.Argument(help="A task: a data file, hf:NAME, FILE.py:NAME, a name.")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help="Whose tokens prompts and outputs must fit; else lengths are not checked."
        ),
    ] = None,
    map: Map = None,
    answer: Answer = None,
    skip_bad: SkipBad = False,
    against: Annotated[
        str | None,
        typer.Option(help="A task to evaluate on, whose prompts must not be in this one."),
    ] = None,
    horizon: Annotated[
        int | None, typer.Option(help="Size of problems, where there is a knob.")
    ] = None,
    problems: Annotated[
        int | None, typer.Option(help="At most how many (default: all of a data set, else 32).")
    ] = None,
    judge_timeout: Annotated[
        float | None, typer.Option(help="Seconds that one call of a judge may take (no limit).")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print all that was found as JSON.")
    ] = False,
) -> None:
    """Is a task's judge right about what is known? Before any token is paid.

    Every demonstration must pass its own reward, and fail with its last number changed; the empty
    output must fail; prompts and outputs must fit the model; prompts that repeat, and prompts of a
    task to evaluate on, are told. Exits with 1 where a problem cannot be used.

    Example:

        reroot check gsm8k.jsonl --model smollm2
    """
    from ..runs.task_check import check_task

    (spec,) = with_data([task], map, answer, skip_bad)
    with bar("problems", "reading the task") as (on_start, advance):
        found = check_task(
            spec,
            model=model,
            against=against,
            horizon=horizon,
            problems=problems,
            judge_timeout=judge_timeout,
            on_start=on_start,
            on_problem=advance,
        )
    if as_json:
        faults = [{"problem": f.problem, "text": f.text, "bad": f.bad} for f in found.faults]
        said = {
            "task": found.task,
            "notes": found.notes,
            "checked": found.checked,
            "faults": faults,
        }
        typer.echo(json.dumps(said, ensure_ascii=False))
    else:
        for note in found.notes:
            console.say(note)
        for fault in found.faults[:SHOWN]:
            console.say(f"{'bad' if fault.bad else 'note'}: {fault}")
        if len(found.faults) > SHOWN:
            console.say(f"… and {len(found.faults) - SHOWN:,} more (--json gives all)")
        lengths = "" if found.lengths else "; lengths were not checked (--model)"
        console.say(f"{found.checked:,} problems, {len(found.bad):,} cannot be used{lengths}")
    if found.bad:
        raise typer.Exit(1)
