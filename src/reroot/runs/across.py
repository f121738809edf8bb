"""Several comparisons side by side: what differs between their settings, and what between their results.

The first is the base line; every other is compared with it, learner by learner. Attempts are paired
where both ran the same problem of the same task under the same seed. A problem is the same if its id,
prompt and answer are (of prompts that are no text: what is known of its demonstration). Where nothing
pairs the runs are taken as independent, and that is said.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contract import Oracle
from ..diagnosis.clusters import difference_of_independent
from ..errors import InvalidInput
from ..types import CURRENCIES
from .numbers import judged, mean_and_interval, paired, pass_numbers
from .results import UNIT, Learner, RunData, load_run

if TYPE_CHECKING:
    import polars as pl

_FIRST = ("model", "version", "digest", "data", "code", "generator")
"""Settings that are told first, in this order."""

_NO_SETTING = ("kind", "command", "notes", "granted", "learners")


@dataclass(frozen=True, slots=True, eq=False)
class Across:
    """Comparisons that are looked at together.

    Attributes:
        runs: in the order in which they were named; the first is the base line.
        names: of each, all different: the end of its path.
    """

    runs: tuple[RunData, ...]
    names: tuple[str, ...]


def load_across(folders: Sequence[str | Path]) -> Across:
    """Several comparisons from their folders, finished or not.

    Raises:
        InvalidInput: fewer than one, or a folder twice.
        RunFolderError: see ``load_run``.
    """
    paths = [Path(folder) for folder in folders]
    places = [path.resolve() for path in paths]
    if not paths or len(set(places)) != len(places):
        raise InvalidInput(f"expected folders that differ, got {', '.join(map(str, paths))}")
    return Across(tuple(load_run(path) for path in paths), names_of(places))


def names_of(paths: Sequence[Path]) -> tuple[str, ...]:
    """The shortest ends of the paths that tell each from all others."""
    names: list[str] = []
    for path in paths:
        parts = [p for p in path.parts if p != path.anchor]
        ends = ("/".join(parts[-n:]) for n in range(1, len(parts) + 1))
        others = [other for other in paths if other != path]
        clear = (e for e in ends if not any(f"/{o.as_posix()}".endswith(f"/{e}") for o in others))
        names.append(next(clear, str(path)))
    return tuple(names)


def settings_that_differ(across: Across) -> dict[str, list[Any]]:
    """Setting → its value in each run (``None``: it has none), where they are not all equal.

    A learner that not all runs have is a setting ``learner …`` with what it requires.
    """
    tables: list[dict[str, Any]] = []
    for run in across.runs:
        own = {k: v for k, v in run.config.items() if k not in _NO_SETTING}
        entries = run.config.get("learners", [])
        own |= {f"learner {e.get('label', e.get('name'))}": e.get("requires") for e in entries}
        tables.append(own)
    names = dict.fromkeys([*_FIRST, *(name for table in tables for name in table)])
    found = {name: [table.get(name) for table in tables] for name in names}
    return {name: values for name, values in found.items() if _differ(values)}


def parts_that_differ(name: str, values: Sequence[Any]) -> dict[str, list[Any]]:
    """Of a setting: itself, or its parts that differ, where every value has some (``generator.first.p``)."""
    if not all(isinstance(value, dict) for value in values):
        return {name: list(values)}
    parts: dict[str, list[Any]] = {}
    for key in dict.fromkeys(key for value in values for key in value):
        inner = [value.get(key) for value in values]
        if _differ(inner):
            parts |= parts_that_differ(f"{name}.{key}", inner)
    return parts


def _differ(values: Sequence[Any]) -> bool:
    return len({json.dumps(value, sort_keys=True) for value in values}) > 1


def warnings_of(across: Across) -> list[str]:
    """Sentences on what makes numbers of the runs less than comparable."""
    differing, told = settings_that_differ(across), list[str]()
    if "version" in differing:
        listed = ", ".join(
            f"{n}: {v}" for n, v in zip(across.names, differing["version"], strict=True)
        )
        told.append(f"The runs are of different versions of reroot ({listed}).")
    if "data" in differing:
        named = dict.fromkeys(k for value in differing["data"] for k in value or {})
        told.append(f"The data sets differ in their digests: {', '.join(named)}.")
    if "digest" in differing:
        told.append(
            "The problems, or the code that judges them, are not all the same (their digests differ): only "
            "problems with equal id, prompt and answer are paired."
        )
    if "code" in differing:
        told.append("The code of own models, tasks or learners differs between the runs.")
    for name, run in zip(across.names, across.runs, strict=True):
        made, planned = run.made
        if made < planned:
            told.append(f"{name} is not finished: {made:,} of {planned:,} attempts made.")
    return told


def across_of(across: Across) -> dict[str, Any]:
    """Every number of several comparisons, JSON-able: ``runs``, ``settings``, ``warnings``, ``cells`` and
    ``differences``."""
    return {
        "kind": "across",
        "runs": [_run(n, r) for n, r in zip(across.names, across.runs, strict=True)],
        "settings": {
            part: of_each
            for name, values in settings_that_differ(across).items()
            for part, of_each in parts_that_differ(name, values).items()
        },
        "warnings": warnings_of(across),
        "cells": [
            row
            for name, run in zip(across.names, across.runs, strict=True)
            for row in _cells(name, run)
        ],
        "differences": list(differences(across)),
    }


def _run(name: str, run: RunData) -> dict[str, Any]:
    config = run.config
    return {
        "run": name,
        "folder": str(run.folder),
        **{key: config.get(key) for key in ("model", "version", "seeds", "problems", "budget")},
        "digest": config.get("digest"),
        "made": list(run.made),
        "tokens": int(_once(run)["cost_tokens"].sum()),
        "seconds": run.usage.get("seconds"),
    }


def _once(run: RunData) -> pl.DataFrame:
    import polars as pl

    return pl.concat(list(run.cells.values()))


def _places(run: RunData) -> Iterator[tuple[Learner, str, int]]:
    for task in run.tasks:
        for horizon in run.horizons(task):
            for learner in run.learners:
                if len(run.attempts(learner, task, horizon)):
                    yield learner, task, horizon


def _of(learner: Learner, task: str, horizon: int) -> dict[str, Any]:
    return {
        "task": task,
        "horizon": horizon,
        "learner": learner.label,
        "sampling": str(learner.sampling),
        "control": str(learner.control),
        "uses": [str(o) for o in Oracle if o in learner.uses],
    }


def _cells(name: str, run: RunData) -> Iterator[dict[str, Any]]:
    for learner, task, horizon in _places(run):
        rows = run.attempts(learner, task, horizon)
        reward, around = mean_and_interval(
            rows["reward"].to_numpy(), rows, f"{name}/{task}/{horizon}/{learner.label}", "reward"
        )
        yield {
            "run": name,
            **_of(learner, task, horizon),
            **pass_numbers(rows),
            "errors": len(rows) - rows["error"].null_count(),
            "reward": reward,
            "reward_interval": around,
            **{f"cost_{c}": float(rows[f"cost_{c}"].to_numpy().mean()) for c in CURRENCIES},
        }


def differences(across: Across) -> Iterator[dict[str, Any]]:
    """Each run minus the first, for every learner, task and horizon that both have."""
    base, base_name = across.runs[0], across.names[0]
    for learner, task, horizon in _places(base):
        rows = base.attempts(learner, task, horizon)
        for name, run in zip(across.names[1:], across.runs[1:], strict=True):
            others = run.attempts(learner, task, horizon)
            if not len(others):
                continue
            yield {
                "run": name,
                "base": base_name,
                **_of(learner, task, horizon),
                **_difference(
                    others,
                    rows,
                    _same_problems(run, base, task, horizon),
                    f"{name}/{base_name}/{task}/{horizon}/{learner.label}",
                ),
            }


def _same_problems(run: RunData, base: RunData, task: str, horizon: int) -> pl.DataFrame:
    """(seed, problem) of the problems that are the same in both."""
    import polars as pl

    def told(data: RunData) -> pl.DataFrame:
        rows = data.problem_rows(task, horizon)
        shown = pl.col("prompt").fill_null("")
        line = pl.when(shown == "").then(pl.col("demo_tokens").list.join("")).otherwise(pl.lit(""))
        return rows.select(
            *UNIT, prompt=shown, answer=pl.col("answer").fill_null(""), line=line.fill_null("")
        ).unique(UNIT, keep="first")

    return told(run).join(told(base), on=[*UNIT, "prompt", "answer", "line"]).select(UNIT)


def _difference(
    rows: pl.DataFrame, base: pl.DataFrame, same: pl.DataFrame, place: str
) -> dict[str, Any]:
    """Of pass rates and rewards, ``rows`` minus ``base``; paired wherever any problem is the same."""
    found = paired(rows.join(same, on=UNIT), base, UNIT)
    if found.difference is not None:
        pair = found.rows
        gap = (pair["reward"] - pair["reward_other"]).to_numpy()
        mean, interval = mean_and_interval(gap, pair, place, "difference")
        return {
            "paired": True,
            "pairs": len(pair),
            "unpaired": [len(judged(rows)) - len(pair), len(judged(base)) - len(pair)],
            "wins": found.won,
            "losses": found.lost,
            "pass_difference": found.difference,
            "pass_interval": list(found.interval),
            "reward_difference": mean,
            "reward_interval": interval,
        }
    mine, other = pass_numbers(rows), pass_numbers(base)
    known = mine["pass_rate"] is not None and other["pass_rate"] is not None
    gap, around = difference_of_independent(
        (mine["pass_rate"] or 0.0, mine["pass_interval"]),
        (other["pass_rate"] or 0.0, other["pass_interval"]),
    )
    return {
        "paired": False,
        "pairs": 0,
        "unpaired": [len(judged(rows)), len(judged(base))],
        "wins": None,
        "losses": None,
        "pass_difference": gap if known else None,
        "pass_interval": list(around) if known else None,
        **_reward_gap(rows, base, place),
    }


def _reward_gap(rows: pl.DataFrame, base: pl.DataFrame, place: str) -> dict[str, Any]:
    both = [
        mean_and_interval(table["reward"].to_numpy(), table, f"{place}/{i}", "reward")
        for i, table in enumerate((rows, base))
    ]
    (mine, around), (other, around_other) = both
    if mine is None or other is None:
        return {"reward_difference": None, "reward_interval": None}
    if around is None or around_other is None:
        return {"reward_difference": mine - other, "reward_interval": None}
    gap, interval = difference_of_independent((mine, around), (other, around_other))
    finite = all(map(math.isfinite, interval))
    return {"reward_difference": gap, "reward_interval": list(interval) if finite else None}
