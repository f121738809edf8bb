"""What the command line says of data sets: options that become settings of a task's spec."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InvalidInput
from ..specs import parse


def with_data(
    tasks: Sequence[str], map: str | None, answer: str | None, skip_bad: bool
) -> list[str]:
    """``tasks`` with the settings of data sets in the specs of those that are data sets.

    Raises:
        InvalidInput: a setting is given and no task is a data set.
    """
    settings = {"map": map, "answer": answer, "skip_bad": skip_bad or None}
    given = {k: v for k, v in settings.items() if v is not None}
    if not given:
        return list(tasks)
    from ..tasks.registry import is_data, with_settings

    data = [is_data(parse(task, "task").name) for task in tasks]
    if not any(data):
        named = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise InvalidInput(f"{named} is for data sets, got {', '.join(tasks) or 'no task'}")
    return [
        str(with_settings(task, given)) if own else task
        for task, own in zip(tasks, data, strict=True)
    ]
