"""What the quick run of an experiment measures, once per test process, and which checks fail on rows."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable

from reroot.experiments import get_experiment
from reroot.experiments.base import Row
from reroot.pages.kit.table import Part, Table


@functools.cache
def _measured(id: str) -> str:
    experiment = get_experiment(id)
    rows = [
        {**experiment.setting(n), **row}
        for n in experiment.numbers(quick=True)
        for row in experiment.measure(experiment.setting(n))
    ]
    return json.dumps(rows)


def rows_of(id: str) -> list[Row]:
    """Fresh rows, as they come back from a run folder."""
    return json.loads(_measured(id))


def failing(id: str, rows: list[Row]) -> list[str]:
    """Names of the checks that do not hold."""
    return [check.name for check in get_experiment(id).check(rows) if not check.holds]


def markup_of(parts: Iterable[Part]) -> str:
    """Parts of an experiment's page, as they stand in it."""
    return "".join(part.html() if isinstance(part, Table) else part for part in parts)
