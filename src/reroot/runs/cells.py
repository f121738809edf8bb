"""What a comparison runs on, once it is there: a generator, and problems per task, horizon and seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..access.episode import Episode, oracles_of
from ..contract import Oracle
from ..generators.base import Generator


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
        count: problems per cell, as asked for.
        code: name of what is not reroot's own → fingerprint of its code.
        objects: what was given as an object, so that no command line says it.
        notes: what was recognized, decided and left out as the tasks were read, for people.
        data: data set → its digest.
        value: the value oracle as the user named it, where it is not the tasks' own.
    """

    model: str
    generator: Generator
    tasks: tuple[str, ...]
    horizons: tuple[int, ...]
    cells: tuple[Cell, ...]
    count: int
    code: Mapping[str, str] = field(default_factory=dict[str, str])
    objects: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    data: Mapping[str, str] = field(default_factory=dict[str, str])
    value: str = ""

    def oracles(self, task: str) -> frozenset[Oracle]:
        """The oracles that every problem of a task has."""
        cells = [cell for cell in self.cells if cell.task == task]
        have = (oracles_of(e.problem) for cell in cells for e in cell.episodes)
        return frozenset(Oracle).difference({Oracle.HIDDEN}).intersection(*have)
