"""What the command line says of data sets: options that become settings of a task's spec."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from ..errors import InvalidInput
from ..specs import parse

Map = Annotated[
    str | None,
    typer.Option(
        help="Which columns of a data set are what, as in "
        "prompt=question,answer=answer,demonstration=solution (dots reach inside)."
    ),
]
Answer = Annotated[
    str | None,
    typer.Option(
        help="How answers of a data set are compared: exact, number, math, choice, regex:PATTERN or "
        "FILE.py:FUNCTION (default: the layout decides, and it is said)."
    ),
]
SkipBad = Annotated[
    bool,
    typer.Option("--skip-bad", help="Leave out problems that cannot be used, and say which."),
]


def with_data(
    tasks: Sequence[str], map: str | None, answer: str | None, skip_bad: bool
) -> list[str]:
    """``tasks`` with the settings of data sets in the specs of those that are data sets.

    Raises:
        InvalidInput: a setting is given and no task is a data set.
    """
    from ..tasks.registry import is_data, with_settings

    settings = {"map": map, "answer": answer, "skip_bad": skip_bad or None}
    given = {k: v for k, v in settings.items() if v is not None}
    if not given:
        return list(tasks)
    data = [is_data(parse(task, "task").name) for task in tasks]
    if not any(data) and not set(given) <= {"skip_bad"}:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise InvalidInput(f"{named} is for data sets, got {', '.join(tasks) or 'no task'}")
    return [
        str(with_settings(task, given)) if own else task
        for task, own in zip(tasks, data, strict=True)
    ]
