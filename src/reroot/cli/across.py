"""Several comparisons, tables as files, and runs for other programs: parts of ``reroot report``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .app import console, say_page
from .console import print_json

if TYPE_CHECKING:
    from ..pages.kit.table import Table


@dataclass(frozen=True, slots=True)
class Files:
    """Where tables go besides the screen.

    Attributes:
        csv, latex: folders for the tables in this form, if they are wanted.
        markdown: they are printed as Markdown, alone.
    """

    csv: Path | None = None
    latex: Path | None = None
    markdown: bool = False

    def write(self, tables: Mapping[str, Table]) -> None:
        """Write and print what was asked for."""
        from ..pages.across.files import markdown, write_tables

        console.stderr = console.stderr or self.markdown  # stdout is for the tables alone
        for form, folder in (("csv", self.csv), ("latex", self.latex)):
            if folder is not None:
                paths = write_tables(tables, folder, form)
                console.say(f"{form}: {', '.join(map(str, paths))}")
        if self.markdown:
            sys.stdout.write(markdown(tables))


def tell_across(
    folders: Sequence[Path], out: Path | None, files: Files, *, json: bool = False
) -> None:
    """Print the tables of several comparisons and write their page and files."""
    from ..pages.across.page import across_screen, write_across
    from ..pages.across.tables import across_tables
    from ..runs.across import across_of, load_across

    across = load_across(folders)
    found = across_of(across)
    if json:
        print_json(found)
    elif not files.markdown:
        console.print(across_screen(found, console.width))
    files.write(across_tables(found))
    say_page(folders[0], lambda: write_across(across, out))


def tell_suites(
    folders: Sequence[Path], out: Path | None, files: Files, *, json: bool = False
) -> None:
    """Several suites, as comparisons of their parts: at equal tokens, and at equal calls."""
    from ..pages.across.page import PAGE, across_screen, write_across
    from ..pages.across.tables import across_tables
    from ..runs.across import across_of, load_across
    from ..runs.folder import made_folder
    from ..runs.suite_summary import BUDGETS

    parts = {b: load_across([folder / b for folder in folders]) for b in BUDGETS}
    found = {budget: across_of(across) for budget, across in parts.items()}
    if json:
        print_json(found)
    tables: dict[str, Table] = {}
    for budget, told in found.items():
        if not json and not files.markdown:
            console.say(f"At equal {budget}:", "bold")
            console.print(across_screen(told, console.width))
        for name, table in across_tables(told).items():
            tables[f"{budget} {name}"] = table.titled(f"At equal {budget}: {table.caption}")
    files.write(tables)
    if out is not None:
        made_folder(out)
    for budget, across in parts.items():
        place = folders[0] / budget / PAGE if out is None else out / f"{budget}.html"
        say_page(folders[0], lambda across=across, place=place: write_across(across, place))


def log_to(folders: Sequence[Path], targets: Sequence[str]) -> None:
    """Log runs for other programs, and say where they are."""
    from ..pages.tracking import log_run, parse_target

    parsed = [parse_target(text) for text in targets]  # refused before anything is written
    for target in parsed:
        for folder in folders:
            console.say(f"{target.program}: {log_run(folder, target)}")
