"""The page of a reproduction: each claim, its figure, its numbers, the command that makes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..pages.kit import page as kit
from ..pages.kit.cells import mark, prose
from ..pages.kit.markup import Html
from ..pages.kit.table import Column, Table, columns
from .runner import Reproduction, command
from .suite import get_experiment


def write_page(found: Reproduction) -> Path:
    """Write the page of a reproduction into its folder, or beside its record.

    Raises:
        RunFolderError: the folder cannot be written.
        MissingDependency: matplotlib is not installed.
    """
    checks = [c for checks in found.checks.values() for c in checks]
    context = {
        "summary": found.summary,
        "held": sum(c.holds for c in checks),
        "checks": len(checks),
    }
    page = kit.render(
        "reroot reproduce",
        "experiments/page.html",
        **context,
        overview=overview_table(found),
        experiments=list(_sections(found)),
    )
    return kit.write_page(found.page, page)


def overview_table(found: Reproduction) -> Table:
    """Every claim, and whether its checks hold."""
    rows = [
        [
            Html(f'<a href="#{entry["id"]}">{entry["id"]}</a>', entry["id"]),
            prose(entry["claim"]),
            mark(entry["holds"]),
            entry["seconds"] or None,
        ]
        for entry in found.summary["experiments"]
    ]
    return Table([*columns("experiment | claim | checks", 3), Column("seconds", format="q")], rows)


def _sections(found: Reproduction) -> Iterator[dict[str, Any]]:
    for id, rows in found.rows.items():
        experiment, checks = get_experiment(id), found.checks[id]
        shown = [[mark(c.holds), *map(prose, (c.name, c.detail))] for c in checks]
        yield {
            "experiment": experiment,
            "parts": [
                part if isinstance(part, Table) else Html(part) for part in experiment.show(rows)
            ],
            "checks": Table(columns("holds | check | measured", 3), shown, f"Checks of {id}"),
            "command": command([id], bool(found.summary["quick"])),
        }
