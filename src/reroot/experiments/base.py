"""What an experiment is: a claim, settings to measure it in, checks, and a section of the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..access.learner import BoundLearner
from ..diagnosis.intervals import clopper_pearson
from ..families.many import ensemble
from ..generators.base import Generator
from ..pages.kit.table import Html
from ..runs.run import RunResult, run
from .formulas import at_most, inside

ERROR = 1e-3
"""Probability that a statistical check fails though all is right."""

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
    show: Callable[[Sequence[Row]], list[str]]
    alone: bool = False

    def numbers(self, quick: bool) -> tuple[int, ...]:
        """The settings of the full or the quick run."""
        return self.quick if quick else tuple(range(len(self.settings)))

    def setting(self, number: int) -> Setting:
        """A setting with the seed of its measurement, which is its number."""
        return {"seed": number, **self.settings[number]}


def setting_of(kind: str, names: str, **usual: object) -> Callable[..., Setting]:
    """Makes settings of one kind: ``setting_of("walk", "K H", first=0)(16, 4)``."""
    keys = (*names.split(), *usual)

    def made(*values: object, **more: object) -> Setting:
        given = dict(zip(keys, values, strict=False)) | more
        return {"kind": kind, **dict.fromkeys(keys), **usual, **given}

    return made


def by_kind(**kinds: Callable[[Setting], list[Row]]) -> Callable[[Setting], list[Row]]:
    """What measures settings of several kinds."""
    return lambda s: kinds[s["kind"]](s)


def run_each(
    learner: BoundLearner, secrets: Sequence[Generator], seed: int, grants: str = "", **more: Any
) -> RunResult:
    """One attempt on each secret, under ``grants`` or just what the learner requires."""
    laws = ensemble(secrets)
    grants = grants or str(learner.requires)
    settings = {"seed": seed, "on_error": "record", **more}  # a check counts the errors
    return run(learner, laws.problems(), laws, grants=grants, **settings)


def account(result: RunResult) -> Row:
    """What the attempts found, and the queries they took."""
    queries = [a.cost.queries for a in result.attempts]
    return {
        "passed": sum(a.passed for a in result.attempts),
        "queries": float(np.mean(queries)),
        "least": min(queries),
        "most": max(queries),
        "errors": sum(a.error is not None for a in result.attempts),
    }


def where(rows: Sequence[Row], **values: object) -> list[Row]:
    """The rows that have these values."""
    return [row for row in rows if all(row.get(name) == v for name, v in values.items())]


def total(rows: Sequence[Row], name: str) -> int:
    """The sum of a column."""
    return sum(row[name] for row in rows)


# ---- checks of counts --------------------------------------------------------------------------------


def rarely(
    name: str, failed: int, of: int, rate: float, what: str, *, sound: bool = True, digits: int = 3
) -> Check:
    """``failed`` of so many is compatible with a rate of at most that (and ``sound``)."""
    low, high = clopper_pearson(failed, of)
    detail = f"{failed} of {of:,} {what}, interval {low:.{digits}f} to {high:.{digits}f}"
    return Check(name, sound and at_most(failed, of, rate, ERROR), f"{detail}; at most {rate:g}")


def banded(
    name: str, rows: Sequence[Row], n: str = "attempts", error: float | None = None
) -> list[Check]:
    """``passed`` of ``n`` lies in the binomial band around ``exact`` in every row; none without rows.

    ``error``: of each band; by default those of all rows together fail with probability ``ERROR``.
    """
    if not rows:
        return []
    error = ERROR / len(rows) if error is None else error
    good = [inside(r["passed"], r[n], r["exact"], error) for r in rows]
    worst = max(abs(r["passed"] / r[n] - r["exact"]) for r in rows)
    detail = f"{sum(good)} of {len(rows)} settings in their bands; largest difference {worst:.4f}"
    return [Check(name, all(good), detail)]


# ---- cells of tables ---------------------------------------------------------------------------------


def counted(k: int, n: int) -> Html:
    """k of n with its 95 % interval."""
    low, high = clopper_pearson(k, n)
    return Html(f"{k} of {n} <small>{low:.3f}–{high:.3f}</small>")


def rate(k: int, n: int) -> Html:
    """The rate of k of n with its 95 % interval."""
    low, high = clopper_pearson(k, n)
    return Html(f"{k / n:.4f} <small>{low:.4f}–{high:.4f}</small>")
