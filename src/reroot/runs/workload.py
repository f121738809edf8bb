"""What a comparison runs on: a generator, and problems per task, horizon and seed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby, product, starmap
from numbers import Integral
from pathlib import Path
from typing import Any

from .. import specs
from ..access.episode import Episode, bind, oracles_of
from ..checks import check_int
from ..contract import Oracle
from ..errors import InvalidInput
from ..generators.base import Generator
from ..randomness import stream_key
from ..tasks.base import Problem, Task
from ..tasks.lines import content_of
from .inputs import check_shares, generator_of, problems_of

_DEFAULT_COUNT = {True: 32, False: 8}  # exact families are cheap, language models are not
_MOST = 1_000_000
_DTYPES = ("float32", "bfloat16", "float16")
_DEVICE = re.compile(r"(cpu|cuda|mps|xpu)(:\d+)?")


@dataclass(frozen=True, slots=True)
class Load:
    """How to load a language model."""

    chat: bool = False
    dtype: str = "float32"
    device: str = "cpu"
    trust_remote_code: bool = False

    def check(self, model: str | Generator) -> None:
        """Refuse ways that do not exist, or not for this model (``InvalidInput``)."""
        for name in ("chat", "trust_remote_code"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidInput(f"{name} must be True or False, got {getattr(self, name)!r}")
        if self.dtype not in _DTYPES:
            raise InvalidInput(f"dtype must be one of {', '.join(_DTYPES)}, got {self.dtype!r}")
        if not isinstance(self.device, str) or not _DEVICE.fullmatch(self.device):
            raise InvalidInput(f"device must be cpu, cuda, mps or xpu, got {self.device!r}")
        if isinstance(model, str) and not _loads_itself(model):
            return
        for name, value in self.changed().items():
            raise InvalidInput(f"{name}={value} is for language models, not for {model}")

    def changed(self) -> dict[str, Any]:
        """What is not as by default."""
        return {k: v for k, v in asdict(self).items() if v != getattr(_DEFAULT_LOAD, k)}


_DEFAULT_LOAD = Load()


@dataclass(frozen=True, slots=True)
class Cell:
    """The problems of one task at one horizon under one seed."""

    task: str
    horizon: int
    seed: int
    episodes: tuple[Episode, ...]


@dataclass(frozen=True, slots=True)
class Workload:
    """A generator and its cells.

    Attributes:
        model: the model as the user named it; of an object, the name of its class.
        generator: what is behind the door.
        tasks, horizons: what the cells range over.
        cells: one per task, horizon and seed.
        count: problems per cell.
        code: name of what is not reroot's own → fingerprint of its code.
        objects: what was given as an object, so that no command line says it.
    """

    model: str
    generator: Generator
    tasks: tuple[str, ...]
    horizons: tuple[int, ...]
    cells: tuple[Cell, ...]
    count: int
    code: Mapping[str, str] = field(default_factory=dict[str, str])
    objects: tuple[str, ...] = ()

    def oracles(self, task: str) -> frozenset[Oracle]:
        """The oracles that every problem of a task has."""
        cells = [cell for cell in self.cells if cell.task == task]
        have = (oracles_of(e.problem) for cell in cells for e in cell.episodes)
        return frozenset(Oracle).difference({Oracle.HIDDEN}).intersection(*have)


def build_workload(
    model: str | Generator,
    tasks: Sequence[str | Task],
    horizons: Sequence[int],
    seeds: int,
    problems: int | Sequence[Problem] | None,
    load: Load = _DEFAULT_LOAD,
    budgets: Mapping[str, int] | None = None,
) -> Workload:
    """Load the generator and make the problems.

    Args:
        model: an exact family such as ``hidden_path:K=4,H=16,p=0.4``, what ``load_text_generator``
            takes, or a generator.
        tasks: task names or tasks; empty for exact families, which bring their task.
        horizons: task sizes; empty for a family takes its own H.
        seeds: number of seeds 0…seeds−1.
        problems: problems per cell (``None``: 32 for families, 8 otherwise), or the problems, in
            place of tasks; cells are then their horizons.
        load: how to load a language model.
        budgets: currency → what a cell may spend, so that too many problems are refused early.

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
    check_int("seeds", seeds, 1)
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
        check_shares(budgets or {}, count)
        return _family_workload(str(model), horizons, seeds, count)
    if not tasks and given is None:
        raise InvalidInput(_needs_a_task(model))
    return _task_workload(model, tasks, given, horizons, seeds, count, load)


def is_family(model: str) -> bool:
    """Whether ``model`` is (or is meant to be) the spec of an exact family."""
    from .. import families

    read = specs.parse(model, "model")
    if read.name in families.catalogue():
        return True
    other = ":" in read.name or specs.is_file(read.name) or read.name in specs.plugins("model")
    return bool(read.settings) and not other


def _loads_itself(model: str) -> bool:
    name = specs.parse(model, "model").name
    own = specs.is_file(name) or name in specs.plugins("model")
    return own or name.startswith("ngram:") or is_family(model)


def _needs_a_task(model: str | Generator) -> str:
    name = model if isinstance(model, str) else type(model).__name__
    needs = "needs a task; see 'reroot list tasks'"
    if not isinstance(model, str) or "/" in name or ":" in name or name == "smollm2":
        return f"model {name!r} {needs}"
    if Path(name).is_dir() or name in specs.plugins("model"):
        return f"model {name!r} {needs}"
    from .. import families

    known = ["smollm2", *families.catalogue(), *specs.plugins("model")]
    wrong = specs.unknown("model", name, known)
    return f"{wrong} It is no folder either; a model of the hub {needs}"


def _family_workload(model: str, horizons: Sequence[int], seeds: int, count: int) -> Workload:
    from .. import families
    from ..families.many import ensemble

    spec = families.parse(model)
    grid = tuple(horizons) or (() if spec.horizon is None else (spec.horizon,))
    if not grid:
        raise InvalidInput(f"{model!r} names no horizon: add H=… to it, or --horizons")
    places = list(product(grid, range(seeds), range(count)))
    members = [
        spec(seed=stream_key(s, f"{spec.family}/{h}/{i}", "instance")[0], horizon=h)
        for h, s, i in places
    ]
    generator = ensemble(members)
    problems = [
        replace(member.problem(), id=_id(spec.family, h, s, f"{i:03d}"), prompt=(index,))
        for index, (member, (h, s, i)) in enumerate(zip(members, places, strict=True))
    ]
    cells = tuple(
        Cell(spec.family, h, s, tuple(bind(problem, generator) for _, problem in here))
        for (h, s), here in groupby(zip(places, problems, strict=True), lambda pair: pair[0][:2])
    )
    return Workload(model, generator, (spec.family,), grid, cells, count)


def _task_workload(
    model: str | Generator,
    tasks: Sequence[str | Task],
    given: list[Problem] | None,
    horizons: Sequence[int],
    seeds: int,
    count: int,
    load: Load,
) -> Workload:
    code: dict[str, str] = {}
    objects = [] if isinstance(model, str) else ["generator"]
    if given is None:
        if not horizons:
            raise InvalidInput("a task needs horizons (sizes), as in --horizons 2,4,6,8")
        named = _named(tasks, code)
        objects += ["task"] if any(not isinstance(t, str) for t in tasks) else []
    else:
        horizons = sorted({p.horizon for p in given})
        named = {"problems": _Given(given)}
        objects.append("problems")
    if isinstance(model, str):
        generator = load_text_generator(model, load, code)
    else:
        generator = generator_of(model)
        _note(code, type(generator).__name__, type(generator))

    def cell(name: str, horizon: int, seed: int) -> Cell:
        made = named[name].problems(horizon, count, seed)
        problems = (replace(p, id=_id(name, horizon, seed, p.id)) for p in made)
        return Cell(name, horizon, seed, tuple(bind(p, generator) for p in problems))

    cells = tuple(starmap(cell, product(named, horizons, range(seeds))))
    name = model if isinstance(model, str) else type(model).__name__
    return Workload(
        name, generator, tuple(named), tuple(horizons), cells, count, code, tuple(objects)
    )


@dataclass(frozen=True, slots=True)
class _Given:
    """Problems that are there already, as a task."""

    all: list[Problem]
    name: str = "problems"

    def problems(self, horizon: int, count: int, seed: int) -> list[Problem]:
        return [replace(p, cluster=content_of(p)) for p in self.all if p.horizon == horizon]


def _named(tasks: Sequence[str | Task], code: dict[str, str]) -> dict[str, Task]:
    """Name → task; what is not reroot's own is checked as it makes problems, and its code noted."""
    from ..tasks.files import OwnTask
    from ..tasks.registry import get_task

    named: dict[str, Task] = {}
    for task in tasks:
        made = get_task(task) if isinstance(task, str) else OwnTask.of(_name_of(task), task, {})
        if made.name in named and not isinstance(task, str):
            raise InvalidInput(f"two tasks have the name {made.name!r}")
        name = task if isinstance(task, str) else made.name
        named[name] = made
        if isinstance(made, OwnTask):
            _note(code, name, made.function)
    return named


def _name_of(task: Any) -> str:
    name = getattr(task, "name", None) or getattr(task, "__name__", None)
    return name if isinstance(name, str) else type(task).__name__


def _note(code: dict[str, str], name: str, thing: Any) -> None:
    if mark := specs.fingerprint(thing):
        code[name] = mark


def _id(task: str, horizon: int, seed: int, problem: str) -> str:
    return f"{task}/H{horizon}/s{seed}/{problem}"


def load_text_generator(model: str, load: Load, code: dict[str, str]) -> Generator:
    """A generator over text: ``ngram:FILE[:order=N]``, ``FILE.py:FACTORY[:key=value,…]``, what a
    package brings by name, ``smollm2``, a model folder, or a hub id.

    Args:
        code: told the fingerprint of code that is not reroot's own.

    Raises:
        InvalidInput: no such model, or not a model.
        MissingDependency: the optional group it needs is not installed.
    """
    read = specs.parse(model, "model")
    if read.name.startswith("ngram:"):
        from ..generators.ngram import CharNgram

        # blank lines separate documents, so that a line break is a character like others
        settings = {"order": 4, **read.settings}
        file = read.name.removeprefix("ngram:")
        order = check_int(f"{model!r}: order", settings.pop("order"), 1)
        if settings:
            raise InvalidInput(f"{model!r} takes order alone, got {', '.join(settings)}")
        return CharNgram.from_file(file, order=order, separator="\n\n")
    if specs.is_file(read.name) or read.name in specs.plugins("model"):
        factory = specs.find("model", read.name, {})
        _note(code, read.name, factory)
        made = (
            specs.call(f"model {model!r}", factory, read.settings) if callable(factory) else factory
        )
        return generator_of(made, f"model {model!r}")
    from ..generators.models import resolve
    from ..generators.transformers import Transformers

    folder = resolve(model, trust_remote_code=load.trust_remote_code)
    return Transformers(folder, **asdict(load))
