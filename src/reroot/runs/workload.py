"""What a comparison runs on: a generator, and problems per task, horizon and seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..access.episode import Episode, bind
from ..checks import check_int
from ..contract import Oracle
from ..errors import InvalidInput
from ..generators.base import Generator
from ..randomness import stream_key
from ..tasks.base import Problem

_DEFAULT_COUNT = {True: 32, False: 8}  # exact families are cheap, language models are not


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
        model: the model as the user named it.
        generator: what is behind the door.
        tasks, horizons: what the cells range over.
        cells: one per task, horizon and seed.
        count: problems per cell.
    """

    model: str
    generator: Generator
    tasks: tuple[str, ...]
    horizons: tuple[int, ...]
    cells: tuple[Cell, ...]
    count: int

    def oracles(self, task: str) -> frozenset[Oracle]:
        """The oracles that every problem of a task has."""
        problems = [e.problem for cell in self.cells if cell.task == task for e in cell.episodes]
        have = {Oracle.REWARD}
        if all(p.verifier is not None for p in problems):
            have.add(Oracle.VERIFIER)
        if all(p.demonstration is not None for p in problems):
            have.add(Oracle.DEMONSTRATION)
        if all(p.value is not None for p in problems):
            have.add(Oracle.VALUE)
        return frozenset(have)


def build_workload(
    model: str,
    tasks: Sequence[str],
    horizons: Sequence[int],
    seeds: int,
    count: int | None,
    *,
    chat: bool = False,
    dtype: str = "float32",
    device: str = "cpu",
    trust_remote_code: bool = False,
) -> Workload:
    """Load the generator and make the problems.

    Args:
        model: an exact family such as ``hidden_path:K=4,H=16,p=0.4``, ``ngram:FILE:order=4``,
            ``smollm2``, a model folder, or a hub id.
        tasks: task names; empty for exact families, which bring their task.
        horizons: task sizes; empty for a family takes its own H.
        seeds: number of seeds 0…seeds−1.
        count: problems per cell (``None``: 32 for families, 8 otherwise).

    Raises:
        InvalidInput: unknown model, task or value out of range.
    """
    check_int("seeds", seeds, 1)
    if count is not None:
        check_int("problems", count, 1)
    for horizon in horizons:
        check_int("a horizon", horizon, 1)
    if len(set(horizons)) != len(horizons):
        raise InvalidInput(f"horizons repeat: {list(horizons)}")
    if is_family(model):
        if tasks:
            raise InvalidInput(
                f"{model!r} is an exact family and brings its own task; leave out {', '.join(tasks)}"
            )
        return _family_workload(model, horizons, seeds, count or _DEFAULT_COUNT[True])
    if not tasks:
        raise InvalidInput(f"model {model!r} needs a task; see 'reroot list tasks'")
    load = {"chat": chat, "dtype": dtype, "device": device, "trust_remote_code": trust_remote_code}
    return _text_workload(model, tasks, horizons, seeds, count or _DEFAULT_COUNT[False], load)


def is_family(model: str) -> bool:
    """Whether ``model`` is (or is meant to be) the spec of an exact family."""
    from .. import families

    name, _, rest = model.partition(":")
    return name in families.catalogue() or ("=" in rest and name != "ngram")


def _family_workload(model: str, horizons: Sequence[int], seeds: int, count: int) -> Workload:
    from .. import families
    from ..families.many import ensemble

    spec = families.parse(model)
    grid = tuple(horizons) or (() if spec.horizon is None else (spec.horizon,))
    if not grid:
        raise InvalidInput(f"{model!r} names no horizon: add H=… to it, or --horizons")
    places = [(h, s, i) for h in grid for s in range(seeds) for i in range(count)]
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
        Cell(
            spec.family,
            h,
            s,
            tuple(
                bind(problem, generator)
                for problem, place in zip(problems, places, strict=True)
                if place[:2] == (h, s)
            ),
        )
        for h in grid
        for s in range(seeds)
    )
    return Workload(model, generator, (spec.family,), grid, cells, count)


def _text_workload(
    model: str,
    tasks: Sequence[str],
    horizons: Sequence[int],
    seeds: int,
    count: int,
    load: dict[str, Any],
) -> Workload:
    from ..tasks.registry import get_task

    if not horizons:
        raise InvalidInput("a task needs horizons (sizes), as in --horizons 2,4,6,8")
    named = [(spec, get_task(spec)) for spec in dict.fromkeys(tasks)]
    generator = load_text_generator(model, **load)
    cells: list[Cell] = []
    for spec, task in named:
        for horizon in horizons:
            for seed in range(seeds):
                problems: Sequence[Problem] = task.problems(horizon, count, seed)
                episodes = tuple(
                    bind(replace(p, id=_id(spec, horizon, seed, p.id)), generator) for p in problems
                )
                cells.append(Cell(spec, horizon, seed, episodes))
    return Workload(
        model, generator, tuple(spec for spec, _ in named), tuple(horizons), tuple(cells), count
    )


def _id(task: str, horizon: int, seed: int, problem: str) -> str:
    return f"{task}/H{horizon}/s{seed}/{problem}"


def load_text_generator(
    model: str,
    *,
    chat: bool = False,
    dtype: str = "float32",
    device: str = "cpu",
    trust_remote_code: bool = False,
) -> Generator:
    """A generator over text: ``ngram:FILE[:order=N]``, ``smollm2``, a model folder, or a hub id.

    Raises:
        InvalidInput: no such model, or not a model.
        MissingDependency: the optional group it needs is not installed.
    """
    if model.startswith("ngram:"):
        from ..generators.ngram import CharNgram

        path, _, option = model.removeprefix("ngram:").rpartition(":order=")
        order = option if path else "4"
        if not order.isdecimal():
            raise InvalidInput(f"{model!r}: order must be an integer >= 1, got {order!r}")
        # blank lines separate documents, so that a line break is a character like others
        file = path or model.removeprefix("ngram:")
        return CharNgram.from_file(file, order=int(order), separator="\n\n")
    from ..generators.models import resolve
    from ..generators.transformers import Transformers

    trust = {"trust_remote_code": trust_remote_code}
    return Transformers(resolve(model, **trust), chat=chat, dtype=dtype, device=device, **trust)
