"""Training runs in a terminal: one line per run, what its columns mean beneath."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from ..kit.formatting import listing, percent, points, quantity, rounded
from ..kit.table import Column, Table
from .data import TAIL, TrainingRun, labels, last_passes, model_of

_LEAVE_OUT = ("reward prefixes", "reward root", "zero-variance %", "KL", "pass@k", "step", "tokens")
"""Columns that a narrow terminal goes without, the first of them first."""


def training_table(runs: Sequence[TrainingRun], width: int = 100) -> RenderableType:
    """One line per run: how far it is, what it spent, and what its last evaluation found.

    Args:
        runs: at least one.
        width: characters of a line; columns are left out until a line fits.
    """
    cells = _cells(runs)
    spare = {name: i + 1 for i, name in enumerate(_LEAVE_OUT)}
    heads = [Column("run", True), *(Column(name, spare=spare.get(name, 0)) for name in cells)]
    table = Table(heads, list(zip(labels(runs), *cells.values(), strict=True)))
    return Group(table.terminal(width), Text(_legend(runs), style="dim"))


def _cells(runs: Sequence[TrainingRun]) -> dict[str, list[str]]:
    """Column → a cell for every run."""
    columns: dict[str, list[str]] = {}
    for run in runs:
        last = last_passes(run)
        k = last.k if last else None
        row = {
            "step": _step(run),
            "tokens": quantity(run.tokens),
            "pass@1 root": percent(last.root if last else None),
            "pass@k": f"{percent(last.root_k)} (k={k})" if last and k else "·",
            "pass@1 prefixes": percent(last.prefix if last else None),
            "gap": points(last.gap if last else None),
            "reward root": rounded(run.tail("root")),
            "reward prefixes": rounded(run.tail("prefix")),
            "KL": rounded(run.tail("kl")),
            "zero-variance %": percent(run.zero_variance()),
        }
        for name, cell in row.items():
            columns.setdefault(name, []).append(cell)
    return columns


def _step(run: TrainingRun) -> str:
    """``230/400``, and why it ended if not by its steps."""
    reason = str(run.end.get("reason")) if run.end else "steps"
    planned = run.config.get("steps")
    count = f"{run.done}/{planned}" if planned else str(run.done)
    return count if reason == "steps" else f"{count}, {reason}"


def _legend(runs: Sequence[TrainingRun]) -> str:
    tasks = listing(sorted({str(run.config.get("task", "?")) for run in runs}))
    models = listing(sorted(set(map(model_of, runs))))
    lines = [
        f"{models} trained on {tasks}. pass@k: % of problems passed by one of k samples, last "
        "evaluation; root: from the empty prefix, prefixes: from the training prefixes.",
        "gap (transfer gap): pass@1 prefixes minus pass@1 root, in points: a large one means that the "
        "policy relies on the hint.",
        f"step: done/planned; reward, KL (nats per output): means of the last {TAIL} steps; "
        "zero-variance: groups in which all rewards were equal.",
    ]
    for run, label in zip(runs, labels(runs), strict=True):
        if run.events:
            event = run.events[-1]
            lines.append(f"{label}, step {event['step']}: {event.get('text', '')}")
    return "\n".join(lines)
