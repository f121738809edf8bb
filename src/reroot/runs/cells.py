"""What a comparison runs on, once it is there: a generator, and problems per task, horizon and seed."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from ..access.episode import Episode, oracles_of
from ..access.wall import Wall
from ..contract import Oracle
from ..generators.base import Generator
from .made import Made
from .run import problems_digest


@dataclass(frozen=True, slots=True)
class Cell:
    """The problems of one task at one horizon under one seed."""

    task: str
    horizon: int
    seed: int
    episodes: Sequence[Episode]


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
    _known: dict[str, Any] = field(default_factory=dict[str, Any], compare=False, repr=False)

    def oracles(self, task: str) -> frozenset[Oracle]:
        """The oracles that every problem of a task has, as far as a server's key is granted them."""
        known: dict[str, frozenset[Oracle]] = self._known.setdefault("oracles", {})
        if task not in known:
            common = frozenset(Oracle).difference({Oracle.HIDDEN})
            for cell in (cell for cell in self.cells if cell.task == task):
                for episode in cell.episodes:
                    common &= oracles_of(episode.problem)
            if isinstance(self.generator, Wall):
                common &= self.generator.grants.oracles
            known[task] = common
        return known[task]

    def digest(self) -> str:
        """``problems_digest`` of all problems."""
        if "digest" not in self._known:
            self._known["digest"] = problems_digest(Made(self.episodes(), lambda e: e.problem))
        return self._known["digest"]

    def episodes(self) -> Sequence[Episode]:
        """All problems, cell after cell, each made when it is asked for if its cell does so."""
        ends = list(accumulate(len(cell.episodes) for cell in self.cells))

        def at(index: int) -> Episode:
            number = bisect_right(ends, index)
            episodes = self.cells[number].episodes
            return episodes[index - ends[number] + len(episodes)]

        return Made(range(ends[-1] if ends else 0), at)
