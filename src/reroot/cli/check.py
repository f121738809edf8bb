"""``reroot check``."""

from __future__ import annotations

from json import dumps

import typer

from .app import command, console
from .data import with_data
from .progress import bar

SHOWN = 50
"""Faults that are printed; ``--json`` gives all."""


@command("skip_bad", "json")
def check(
    task: str,
    *,
    model: str | None = None,
    map: str | None = None,
    answer: str | None = None,
    skip_bad: bool = False,
    against: str | None = None,
    horizon: int | None = None,
    problems: int | None = None,
    judge_timeout: float | None = None,
    json: bool = False,
) -> None:
    """Is a task's judge right about what is known? Before any token is paid.

    Every demonstration must pass its own reward, and fail with its last number changed; the empty
    output must fail; prompts and outputs must fit the model; prompts that repeat, and prompts of a
    task to evaluate on, are told. Exits with 1 where a problem cannot be used.

    Example:

        reroot check gsm8k.jsonl --model smollm2

    Args:
        task: A data file, hf:NAME, FILE.py:NAME, or the name of a task.
        model: Whose tokens prompts and outputs must fit; else lengths are not checked.
        map: Which columns of a data set are what, as in
            prompt=question,answer=answer,demonstration=solution (dots reach inside).
        answer: How answers of a data set are compared: exact, number, math, choice, regex:PATTERN or
            FILE.py:FUNCTION (default: the layout decides, and it is said).
        skip_bad: Leave out rows that cannot be read, and say which.
        against: A task to evaluate on, whose prompts must not be in this one.
        horizon: Size of problems, where there is a knob (default 4).
        problems: At most how many (default: all of a data set, else 32).
        judge_timeout: Seconds that one call of a judge may take (no limit).
        json: Print all that was found as JSON.
    """
    from ..runs.task_check import check as check_task

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
    if json:
        faults = [{"problem": f.problem, "text": f.text, "bad": f.bad} for f in found.faults]
        said = {
            "task": found.task,
            "notes": found.notes,
            "checked": found.checked,
            "faults": faults,
        }
        typer.echo(dumps(said, ensure_ascii=False))
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
