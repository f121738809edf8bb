"""What an experiment is: a claim, settings to measure it in, checks, and a section of the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..pages.kit.table import Part

Setting = Mapping[str, Any]
"""What is measured, as JSON values. ``seed`` is added by ``Experiment.setting``."""

Row = dict[str, Any]
"""One measured row, as JSON values."""


@dataclass(frozen=True, slots=True)
class Check:
    """A statement that the measured rows either bear out or do not.

    Attributes:
        name: what is checked, as a short sentence.
        holds: whether it holds.
        detail: the numbers that it rests on, in words.
    """

    name: str
    holds: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Experiment:
    """One claim of the paper as an experiment.

    ``settings`` is append-only: ``barrier/3`` always means the same measurement (in the manner of
    bsuite, Osband et al. 2020). New settings go to the end; none is changed, moved or removed.

    Attributes:
        id: short name, as in ``reroot reproduce barrier``.
        claim: the claim in one sentence.
        statement: paragraphs for the page: what is claimed, and what is measured how. HTML.
        settings: what to measure, in the order of their numbers.
        quick: numbers of the settings that ``--quick`` measures.
        measure: setting → rows; a module-level function that depends on its argument alone.
        check: rows → checks.
        show: rows → parts of the page (figures and tables), as HTML.
        alone: it takes long and is measured only where it is named.
    """

    id: str
    claim: str
    statement: tuple[str, ...]
    settings: tuple[Setting, ...]
    quick: tuple[int, ...]
    measure: Callable[[Setting], list[Row]]
    check: Callable[[Sequence[Row]], list[Check]]
    show: Callable[[Sequence[Row]], list[Part]]
    alone: bool = False

    def numbers(self, quick: bool) -> tuple[int, ...]:
        """The settings of the full or the quick run."""
        return self.quick if quick else tuple(range(len(self.settings)))

    def setting(self, number: int) -> Setting:
        """A setting with the seed of its measurement, which is its number."""
        return {"seed": number, **self.settings[number]}


def where(rows: Sequence[Row], **values: object) -> list[Row]:
    """The rows that have these values."""
    return [row for row in rows if all(row.get(name) == v for name, v in values.items())]


def total(rows: Sequence[Row], name: str) -> int:
    """The sum of a column."""
    return sum(row[name] for row in rows)
