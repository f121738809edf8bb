"""The page of a reproduction: each claim, its figure, its numbers, the command that makes it."""

from __future__ import annotations

from html import escape
from pathlib import Path

from ..pages.kit.cells import mark, prose, table
from ..pages.kit.formatting import quantity
from ..pages.kit.html import document
from ..pages.kit.html import write_page as write
from .base import Experiment
from .runner import Reproduction, command
from .suite import get_experiment


def write_page(found: Reproduction) -> Path:
    """Write the page of a reproduction into its folder, or beside its record.

    Raises:
        RunFolderError: the folder cannot be written.
        MissingDependency: matplotlib is not installed.
    """
    quick = bool(found.summary["quick"])
    experiments = [get_experiment(id) for id in found.rows]
    parts = [_header(found), _overview(found)]
    for experiment in experiments:
        parts += _section(experiment, found, quick)
    return write(found.page, document("reroot reproduce", parts))


def _header(found: Reproduction) -> str:
    checks = [c for checks in found.checks.values() for c in checks]
    held = sum(c.holds for c in checks)
    kind = "The quick run. " if found.summary["quick"] else ""
    return f"""<header><p class="kicker">reroot reproduce {escape(found.summary["version"])}</p>
<h1>The role of generator access, measured</h1>
<p>Each claim of <i>The Role of Generator Access in Autoregressive Post-Training</i> (arXiv 2604.04855) that is
reconstructed here, with exact values in place of bounds where there are any, and measurements by
learners that reach the generator through a metered session only. {kind}{held} of {len(checks)} checks
hold.</p><pre>{escape(found.summary["command"])}</pre></header>"""


def _overview(found: Reproduction) -> str:
    rows = [
        [
            f'<a href="#{entry["id"]}">{entry["id"]}</a>',
            escape(entry["claim"]),
            mark(entry["holds"]),
            quantity(entry["seconds"]) if entry["seconds"] else "·",
        ]
        for entry in found.summary["experiments"]
    ]
    return table(["experiment", "claim", "checks", "seconds"], rows, text=3)


def _section(experiment: Experiment, found: Reproduction, quick: bool) -> list[str]:
    rows, checks = found.rows[experiment.id], found.checks[experiment.id]
    return [
        f'<h2 id="{experiment.id}">{experiment.id}: {escape(experiment.claim)}</h2>',
        *(f"<p>{paragraph}</p>" for paragraph in experiment.statement),
        *experiment.show(rows),
        table(
            ["", "check", "measured"],
            [[mark(c.holds), *map(prose, (c.name, c.detail))] for c in checks],
            3,
        ),
        f"<pre>{escape(command([experiment.id], quick))}</pre>",
    ]
