"""What a comparison runs on: a generator, and problems per task, horizon and seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, product
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, cast

from .. import specs
from ..access.episode import Episode, bind
from ..checks import check_int
from ..errors import InvalidInput, OracleError
from ..generators.base import Generator
from ..generators.remote.endpoint import is_endpoint
from ..randomness import stream_key
from ..serving.client import Served
from ..tasks.base import Problem, Task
from ..tasks.data.task import DataTask
from ..types import Prefix
from .cells import Cell, Workload
from .inputs import Given, check_shares, generator_of, name_of, problems_of
from .made import Picked, Recent
from .models import DEFAULT_LOAD, Load, is_family, is_gguf, load_text_generator, note_code
from .served import served_workload
from .values import Values, valued, values_of

if TYPE_CHECKING:
    from ..families.hidden_path import PathFamily
    from ..families.many import Paths
    from ..families.registry import Instance

_DEFAULT_COUNT = {True: 32, False: 8}  # exact families are cheap, language models are not
_DEFAULT_SEEDS = 3
_MOST = 1_000_000


def build_workload(
    model: str | Generator,
    tasks: Sequence[str | Task],
    horizons: Sequence[int],
    seeds: int | None,
    problems: int | Sequence[Problem] | None,
    load: Load = DEFAULT_LOAD,
    budgets: Mapping[str, float] | None = None,
    value: str | Values | None = None,
    judge_timeout: float | None = None,
    checked: bool = True,
) -> Workload:
    """Load the generator and make the problems.

    Args:
        model: an exact family such as ``hidden_path:K=4,H=16,p=0.4``, what ``load_text_generator``
            takes, or a generator.
        tasks: task names or tasks; empty for exact families, which bring their task.
        horizons: task sizes; empty for a family takes its own H. Data sets have none: theirs is 0.
        seeds: number of seeds 0…seeds−1 (``None``: 3, or those that a server has).
        problems: problems per cell (``None``: 32 for families, 8 otherwise), or the problems, in
            place of tasks; cells are then their horizons.
        load: how to load a language model.
        budgets: currency → what a cell may spend, so that too many problems are refused early.
        judge_timeout: seconds that one call of a judge may take in the self-check of data sets.
        value: the value oracle of every problem (``None``: the problem's own), as ``with_value`` takes it.
        checked: refuse problems of data sets whose judge is wrong about what is known; else they stay, and
            demonstrations that are no outputs are left out.

    Raises:
        InvalidInput: unknown model, task or value out of range.
    """
    family = isinstance(model, str) and is_family(model)
    load.check(model)
    count, given = _DEFAULT_COUNT[family], None
    if isinstance(problems, Integral):
        count = check_int("problems", problems, 1)
    elif problems is not None:
        given = problems_of(problems)
        count = check_int("the number of problems", len(given), 1)
    asked, seeds = seeds, check_int("seeds", _DEFAULT_SEEDS if seeds is None else seeds, 1)
    for horizon in horizons:
        check_int("a horizon", horizon, 1)
    if len(set(horizons)) != len(horizons):
        raise InvalidInput(f"horizons repeat: {list(horizons)}")
    if given is not None and (tasks or horizons):
        raise InvalidInput("problems bring their own horizons; leave out tasks and horizons")
    total = seeds * count * max(1, len(horizons)) * max(1, len(tasks))
    if total > _MOST:
        raise InvalidInput(f"{seeds=}, problems={count} make {total:,} problems; at most {_MOST:,}")
    if family:
        if tasks or given:
            named = ", ".join(map(str, tasks)) or "problems"
            raise InvalidInput(
                f"{model!r} is an exact family and brings its own task; leave out {named}"
            )
        if value is not None:
            raise InvalidInput(f"{model!r} is an exact family and has no text to value: {value}")
        check_shares(budgets or {}, count)
        return _family_workload(str(model), horizons, seeds, count)
    served = isinstance(model, Served)
    if served and (tasks or given is not None):
        raise InvalidInput("a server's problems are its own: give neither a task nor problems")
    if served or (isinstance(model, str) and is_endpoint(model) and not tasks and given is None):
        if value is not None:
            raise InvalidInput(
                f"values of a server's problems are at the server: leave out {value}"
            )
        return served_workload(model, horizons, asked, count if problems is not None else None)
    if not tasks and given is None:
        raise InvalidInput(_needs_a_task(model))
    return _task_workload(
        model, tasks, given, horizons, seeds, count, load, value, judge_timeout, checked
    )


def _needs_a_task(model: str | Generator) -> str:
    name = model if isinstance(model, str) else type(model).__name__
    needs = "needs a task; see 'reroot list tasks'"
    if not isinstance(model, str) or "/" in name or ":" in name or name == "smollm2":
        return f"model {name!r} {needs}"
    if Path(name).is_dir() or name in specs.plugins("model") or is_gguf(name):
        return f"model {name!r} {needs}"
    from .. import families

    known = ["smollm2", *families.catalogue(), *specs.plugins("model")]
    wrong = specs.unknown("model", name, known)
    return f"{wrong} It is no folder either; a model of the hub {needs}"


def _family_workload(model: str, horizons: Sequence[int], seeds: int, count: int) -> Workload:
    from .. import families
    from ..families.hidden_path import PathFamily
    from ..families.many import Paths, ensemble

    spec = families.parse(model)
    grid = tuple(horizons) or (() if spec.horizon is None else (spec.horizon,))
    if not grid:
        raise InvalidInput(f"{model!r} names no horizon: add H=… to it, or --horizons")
    places = product(grid, range(seeds), range(count))

    def named(h: int, s: int, i: int) -> str:
        return _id(spec.family, h, s, f"{i:03d}")

    members: Iterator[Instance] = (
        spec(seed=stream_key(s, f"{spec.family}/{h}/{i}", "instance")[0], horizon=h)
        for h, s, i in places
    )
    first = next(members)
    if isinstance(first, PathFamily) and len(grid) == 1:
        paths = Paths(cast("Iterator[PathFamily]", chain([first], members)))
        generator = ensemble(paths)
        episodes = _episodes_along(
            paths, generator, lambda index: named(grid[0], *divmod(index, count))
        )
    else:
        whole = [first, *members]
        generator, each = ensemble(whole), product(grid, range(seeds), range(count))
        episodes = [
            bind(replace(member.problem(), id=named(*place), prompt=(index,)), generator)
            for index, (member, place) in enumerate(zip(whole, each, strict=True))
        ]
    cells = tuple(
        Cell(spec.family, h, s, Picked(episodes, range(number * count, (number + 1) * count)))
        for number, (h, s) in enumerate(product(grid, range(seeds)))
    )
    return Workload(model, generator, (spec.family,), grid, cells, count)


def _episodes_along(
    paths: Paths, generator: Generator, named: Callable[[int], str]
) -> Sequence[Episode]:
    """The problems of all paths, each made when it is asked for: they differ in the path alone."""
    bound = bind(paths[0].problem(named(0), (0,)), generator)

    def make(index: int) -> Episode:
        path = paths[index]
        problem, shown = path.problem(named(index), (index,)), Prefix(path.path)
        return replace(bound, problem=problem, prompt=(index,), demonstration=shown)

    return Recent(len(paths), make)


def _task_workload(
    model: str | Generator,
    tasks: Sequence[str | Task],
    given: list[Problem] | None,
    horizons: Sequence[int],
    seeds: int,
    count: int,
    load: Load,
    value: str | Values | None,
    judge_timeout: float | None,
    checked: bool,
) -> Workload:
    code: dict[str, str] = {}
    notes: list[str] = []
    objects = [] if isinstance(model, str) else ["generator"]
    if given is None:
        named = _named(tasks, code)
        objects += ["task"] if any(not isinstance(t, str) for t in tasks) else []
        grids = {name: _grid(name, task, horizons, notes) for name, task in named.items()}
    else:
        named = {"problems": Given(given)}
        grids = {"problems": sorted({p.horizon for p in given})}
        objects.append("problems")
    values = None if value is None else values_of(value)
    if values is not None and not isinstance(value, str):
        objects.append("value")
    if isinstance(model, str):
        generator = load_text_generator(model, load, code)
    else:
        generator = generator_of(model)
        note_code(code, type(generator).__name__, type(generator))

    def cell(name: str, horizon: int, seed: int) -> Cell:
        task = named[name]
        made = task.problems(horizon, count, seed)
        if isinstance(task, DataTask) and checked:
            fit = partial(bind, generator=generator)
            made, left_out = task.usable(made, fit, judge_timeout)
            notes.extend(left_out)
        made = made if values is None else valued(made, values)
        problems = (replace(p, id=_id(name, horizon, seed, p.id)) for p in made)
        fitted = (
            bind(p, generator) if checked else _lenient(p, generator, notes) for p in problems
        )
        return Cell(name, horizon, seed, tuple(fitted))

    cells = tuple(
        cell(name, horizon, seed)
        for name, grid in grids.items()
        for horizon in grid
        for seed in range(seeds)
    )
    data = {name: task for name, task in named.items() if isinstance(task, DataTask)}
    return Workload(
        model if isinstance(model, str) else type(model).__name__,
        generator,
        tuple(named),
        tuple(dict.fromkeys(h for grid in grids.values() for h in grid)),
        cells,
        count,
        code,
        tuple(objects),
        tuple(dict.fromkeys([note for task in data.values() for note in task.notes] + notes)),
        {name: task.digest for name, task in data.items()},
        value if isinstance(value, str) else "",
    )


def _lenient(problem: Problem, generator: Generator, notes: list[str]) -> Episode:
    """A problem without its demonstration where that is no output of it, as one that is too long; it is said."""
    try:
        return bind(problem, generator)
    except OracleError as error:
        notes.append(f"{error}; it is left out")
        return bind(replace(problem, demonstration=None, unique=False), generator)


def _grid(name: str, task: Task, horizons: Sequence[int], notes: list[str]) -> Sequence[int]:
    """The horizons of a task: 0 where it has no knob, and then what was asked for is said to be unused."""
    if getattr(task, "has_horizon", True):
        if not horizons:
            raise InvalidInput(
                f"task {name!r} needs horizons (sizes), as in --horizons 2,4,6,8 (diagnose: --horizon 8)"
            )
        return horizons
    if horizons:
        notes.append(f"{name}: it has no horizon knob, {list(horizons)} are not used")
    return (0,)


def _named(tasks: Sequence[str | Task], code: dict[str, str]) -> dict[str, Task]:
    """Name → task; what is not reroot's own is checked as it makes problems, and its code noted."""
    from ..tasks.answers.rules import Own
    from ..tasks.files import OwnTask
    from ..tasks.registry import get_task

    named: dict[str, Task] = {}
    for task in tasks:
        whole = isinstance(task, DataTask)
        made = (
            get_task(task)
            if isinstance(task, str)
            else task
            if whole
            else OwnTask.of(name_of(task), task, {})
        )
        if made.name in named and not isinstance(task, str):
            raise InvalidInput(f"two tasks have the name {made.name!r}")
        name = task if isinstance(task, str) else made.name
        named[name] = made
        if isinstance(made, OwnTask):
            note_code(code, name, made.function)
        if isinstance(made, DataTask) and isinstance(made.by, Own):
            note_code(code, made.by.kind, made.by.function)
    return named


def _id(task: str, horizon: int, seed: int, problem: str) -> str:
    return f"{task}/H{horizon}/s{seed}/{problem}"
