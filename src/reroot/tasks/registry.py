"""Tasks by name, as the command line and ``compare`` take them."""

from __future__ import annotations

from ..errors import InvalidInput, MissingDependency, nearest
from .base import Task
from .files import FunctionTask, JsonlTask, is_function
from .parity import PARITY_TASKS, parse
from .reasoning_gym import PREFIX, ReasoningGymTask, dataset_names
from .strings import STRING_TASKS


def get_task(spec: str) -> Task:
    """The task that ``spec`` names; ``list_tasks`` shows the forms.

    Raises:
        InvalidInput: no such task (with the nearest name), or a bad parameter or file.
        MissingDependency: a reasoning-gym task without the package.
    """
    if not isinstance(spec, str):
        raise InvalidInput(f"a task is named by text, got {spec!r}")
    if spec in STRING_TASKS:
        return STRING_TASKS[spec]
    if spec.partition(":")[0] in PARITY_TASKS:
        return parse(spec)
    if spec.startswith(PREFIX):
        return ReasoningGymTask.parse(spec)
    if spec.endswith(".jsonl"):
        return JsonlTask.read(spec)
    if is_function(spec):
        return FunctionTask.load(spec)
    raise InvalidInput(f"unknown task {spec!r}.{_hint(spec)}")


def list_tasks() -> dict[str, str]:
    """Name or form → one line of description.

    Names the data sets of reasoning-gym where it is installed (which imports it).
    """
    listed = {
        name: f"{task.description} (horizon: {task.unit})" for name, task in STRING_TASKS.items()
    }
    for name, task in PARITY_TASKS.items():
        listed[f"{name}[:width=W]"] = (
            f"{task.description} (horizon: {task.unit}; width=W: bits of the prompt, else as many as steps)"
        )
    try:
        names = f"NAME is one of {', '.join(dataset_names())}"
    except MissingDependency:
        names = "needs the package: pip install reroot[tasks]"
    listed[f"{PREFIX}NAME[:param=value,...]"] = (
        "a data set of reasoning-gym with its own scorer; param=horizon ties a parameter to the "
        f"horizon, style=chat asks for <answer> tags; {names}"
    )
    listed["path/to/file.py[:function]"] = (
        "function(horizon, count, seed) returns a list of Problem; the function is 'problems' "
        "unless named"
    )
    listed["path/to/file.jsonl"] = (
        'lines {"prompt": …, "answer": …}, optional "id", "max_tokens", "stop"'
    )
    return listed


def _hint(spec: str) -> str:
    try:
        gym = dataset_names()
    except MissingDependency:
        gym = []
    if spec in gym:
        return f" Did you mean {PREFIX + spec!r}?"
    hint = nearest(spec, [*STRING_TASKS, *PARITY_TASKS, *(PREFIX + name for name in gym)])
    if "Did you mean" in hint:
        return hint
    return f" Known: {', '.join([*STRING_TASKS, *PARITY_TASKS])}, {PREFIX}NAME, a file .py[:function] or .jsonl."
