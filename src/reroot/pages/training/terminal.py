"""Training runs in a terminal: one line per run, what its columns mean beneath."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from ..kit.cells import table_of
from ..kit.formatting import listing
from .data import TAIL, TrainingRun, labels, model_of
from .figures import series_of
from .tables import numbers_of

_CELLS = {
    "run": "{run}",
    "step": "{step}",
    "tokens": "{tokens:q}",
    "pass@1 root": "{last.root:p}",
    "pass@k": "{root_k}",
    "pass@1 prefixes": "{last.prefix:p}",
    "gap": "{last.gap:points}",
    "reward root": "{tail[root]:r}",
    "reward prefixes": "{tail[prefix]:r}",
    "KL": "{tail[kl]:r}",
    "zero-variance %": "{equal:p}",
}


def training_table(runs: Sequence[TrainingRun], width: int = 100) -> RenderableType:
    """One line per run: how far it is, what it spent, and what its last evaluation found.

    Args:
        runs: at least one.
        width: characters of a line; columns are left out until a line fits.
    """
    rows = [{**numbers_of(one), "step": _step(one.run)} for one in series_of(runs)]
    table = table_of(" | ".join(_CELLS), " | ".join(_CELLS.values()), rows)
    rewards = "reward prefixes", "reward root"
    table = table.sparing(*rewards, "zero-variance %", "KL", "pass@k", "step", "tokens")
    return Group(table.terminal(width), Text(_legend(runs), style="dim"))


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
