"""What is logged of a run: scalars by step, and tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import RunFolderError
from ...runs.compare import load_comparison
from ...runs.folder import read_config
from ..across.single import tables_of
from ..kit.table import Table
from ..training.data import load_training


@dataclass(frozen=True, slots=True)
class Logged:
    """A run as numbers for other programs.

    Attributes:
        name: of its folder.
        config: its configuration.
        scalars: (step, name → number), steps ascending. Of a comparison one step, 0; pass rates at a
            horizon are ``pass_rate/TASK/hHORIZON/LEARNER``.
        tables: name → table.
    """

    name: str
    config: Mapping[str, Any]
    scalars: list[tuple[int, dict[str, float]]]
    tables: dict[str, Table] = field(default_factory=dict[str, Table])


def logged(folder: Path) -> Logged:
    """The scalars and tables of a run folder (``RunFolderError``: it is none of a comparison or training)."""
    kind = read_config(folder).get("kind")
    if kind == "compare":
        comparison = load_comparison(folder)
        cells = {_place(c): c for c in reversed(comparison.summary["cells"])}
        scalars = dict(sorted(entry for c in cells.values() for entry in _of_cell(c)))
        tables = tables_of(comparison.summary)
        return Logged(folder.resolve().name, comparison.data.config, [(0, scalars)], tables)
    if kind == "train":
        run = load_training(folder)
        steps: dict[int, dict[str, float]] = {}
        for line in (*run.steps, *run.evaluations):
            steps.setdefault(int(line["step"]), {}).update(_of_line(line))
        return Logged(folder.resolve().name, run.config, sorted(steps.items()))
    raise RunFolderError(f"{folder} is of kind {kind!r}; comparisons and training runs are logged")


def _place(cell: Mapping[str, Any]) -> str:
    horizon = f"/h{cell['horizon']}" if cell["horizon"] else ""
    law = "" if cell["sampling"] == "T=1" else f" {cell['sampling']}"
    return f"{cell['task']}{horizon}/{cell['learner']}{law}"


def _of_cell(cell: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    found = {"pass_rate": cell["pass_rate"], "reward": cell["reward"], "j_beta": cell["j_beta"]}
    found["tokens"] = cell["cost"]["tokens"]
    for name, ends in (("pass_rate", cell["pass_interval"]), ("reward", cell["reward_interval"])):
        if ends is not None:
            found |= {f"{name}_low": ends[0], f"{name}_high": ends[1]}
    for name, value in found.items():
        if isinstance(value, (int, float)):
            yield f"{name}/{_place(cell)}", float(value)


def _of_line(line: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The numbers of a step or an evaluation; of the latter pass@k from both starts."""
    if line["name"].startswith("eval/"):
        parts = {"": line, **{f"/h{h}": part for h, part in (line.get("horizons") or {}).items()}}
        for place, part in parts.items():
            for start in ("root", "prefix"):
                for k, rate in (part.get(start) or {}).items():
                    if rate is not None:
                        yield f"eval/{start}/pass@{k}{place}", float(rate)
        return
    for name, value in line.items():
        if name != "step" and isinstance(value, (int, float)) and not isinstance(value, bool):
            yield f"train/{name}", float(value)
    for currency, amount in (line.get("spent") or {}).items():
        yield f"spent/{currency}", float(amount)
