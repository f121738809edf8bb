"""Tasks by name, as the command line and ``compare`` take them."""

from __future__ import annotations

from collections.abc import Mapping

from .. import specs
from ..errors import InvalidInput, MissingDependency, nearest
from .base import Task
from .data.rows import FILES, HUB
from .data.task import DataTask
from .environments.task import PREFIX as VERIFIERS
from .environments.task import VerifiersTask
from .files import OwnTask
from .parity import PARITY_TASKS, parse
from .reasoning_gym import PREFIX, ReasoningGymTask, dataset_names
from .strings import STRING_TASKS

WIDTH = "bits of the prompt, else as many as steps"


def get_task(spec: str) -> Task:
    """The task that ``spec`` names; ``list_tasks`` shows the forms.

    Raises:
        InvalidInput: no such task (with the nearest name), or a bad parameter or file.
        MissingDependency: a reasoning-gym or verifiers task without the package.
    """
    read = specs.parse(spec, "task")
    if read.name in STRING_TASKS and not read.settings:
        return STRING_TASKS[read.name]
    if read.name in PARITY_TASKS:
        return parse(spec)
    if read.name.startswith(PREFIX):
        return ReasoningGymTask.parse(spec)
    if read.name.startswith(VERIFIERS):
        return VerifiersTask.parse(spec)
    if is_data(read.name):
        return DataTask.read(spec)
    if specs.is_file(read.name):
        return OwnTask.of(spec, specs.load(read.name, "task", default="problems"), read.settings)
    offered = specs.plugins("task")
    if read.name in offered:
        return OwnTask.of(spec, specs.load_plugin("task", offered[read.name]), read.settings)
    if read.name in STRING_TASKS:
        raise InvalidInput(f"task {read.name!r} takes no settings, got {spec!r}")
    names = [*STRING_TASKS, *PARITY_TASKS, *offered]
    raise specs.unknown("task", read.name, names, _hint(read.name, names))


def is_data(name: str) -> bool:
    """Whether a task's name, without settings, is that of a data set."""
    return name.startswith(HUB) or name.lower().endswith(FILES)


def load(spec: str, *, map: str | Mapping[str, str] | None = None, **settings: specs.Value) -> Task:
    """The task that ``spec`` names, with settings beside those that it holds.

    Args:
        spec: as for ``get_task``.
        map: role → column of a data set, or the text ``prompt=question,answer=answer``.
        settings: ``answer``, ``format``, ``chat``, ``system``, ``max_tokens``, ``take``, ``skip_bad``
            of a data set; the parameters of other tasks.

    Raises:
        InvalidInput: as for ``get_task``, or a setting is given twice.
    """
    if isinstance(map, Mapping):
        map = ",".join(f"{role}={specs.quoted(column)}" for role, column in map.items())
    given = {"map": map, **settings} if map is not None else settings
    return get_task(str(with_settings(spec, {k: v for k, v in given.items() if v is not None})))


def with_settings(spec: str, settings: Mapping[str, specs.Value]) -> specs.Spec:
    """``spec`` with further settings (``InvalidInput`` where it gives one of them itself)."""
    read = specs.parse(spec, "task")
    for name in settings:
        if name in read.settings:
            raise InvalidInput(f"task {spec!r} gives {name!r}, and it is given beside it as well")
    return specs.Spec(read.name, {**read.settings, **settings})


def list_tasks() -> dict[str, str]:
    """Name or form → one line of description.

    Names the data sets of reasoning-gym where it is installed (which imports it).
    """
    listed = {
        name: f"{task.description} (horizon: {task.unit})" for name, task in STRING_TASKS.items()
    }
    for name, task in PARITY_TASKS.items():
        listed[f"{name}[:width=W]"] = f"{task.description} (horizon: {task.unit}; width: {WIDTH})"
    try:
        names = f"NAME is one of {', '.join(dataset_names())}"
    except MissingDependency:
        names = "needs the package: pip install reroot[tasks]"
    listed[f"{PREFIX}NAME[:param=value,...]"] = (
        "a data set of reasoning-gym with its own scorer; param=horizon ties a parameter to the "
        f"horizon, style=chat asks for <answer> tags; {names}"
    )
    listed[f"{VERIFIERS}NAME[:key=value,...]"] = (
        "a single-turn environment of verifiers (pip install verifiers), judged as there; settings "
        "split, take, max_tokens, pass_at, and those of the environment"
    )
    listed["path/to/file.py[:function]"] = (
        "function(horizon, count, seed) returns a list of Problem; the function is 'problems' "
        "unless named; settings, as in file.py:function:digits=3, are passed as well"
    )
    listed["path/to/file.jsonl, .json, .csv, .parquet"] = (
        "rows with a prompt and an answer, or in a well-known layout (GSM8K, MATH, verl, TRL, …); "
        "settings map, answer, format, chat, system, max_tokens, take, skip_bad"
    )
    listed["hf:NAME[:CONFIG][:SPLIT]"] = "a data set of Hugging Face; settings as for files"
    return listed


def _hint(spec: str, names: list[str]) -> str:
    try:
        gym = dataset_names()
    except MissingDependency:
        gym = []
    if spec in gym:
        return f" Did you mean {PREFIX + spec!r}?"
    hint = nearest(spec, [*names, *(PREFIX + name for name in gym)])
    if "Did you mean" in hint:
        return hint
    return f" Known: {', '.join(names)}, {PREFIX}NAME, {VERIFIERS}NAME, hf:NAME, a file .py[:function] or {', '.join(FILES)}."
