"""Tables as files: CSV, LaTeX and JSON, one for each table or one for all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ...runs.folder import made_folder, write_atomically
from ..kit.table import Table

FORMS = {"csv": ("csv", Table.csv), "latex": ("tex", Table.latex)}
"""Form → how its files end, and how one is made."""


def write_tables(tables: Mapping[str, Table], folder: Path, form: str) -> list[Path]:
    """Write every table into the folder, which is made if it is not there; the paths.

    Args:
        tables: name → table.
        folder: where the files go; files of other names in it stay.
        form: ``csv`` or ``latex``.

    Raises:
        RunFolderError: the folder or a file cannot be written.
    """
    made_folder(folder)
    end, make = FORMS[form]
    paths = {folder / f"{_file(name)}.{end}": table for name, table in tables.items()}
    for path, table in paths.items():
        write_atomically(path, make(table))
    return list(paths)


def markdown(tables: Mapping[str, Table]) -> str:
    """All of them, one after the other."""
    return "\n".join(table.markdown() for table in tables.values())


def _file(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
