"""What runs show: tables for the terminal, and one self-contained page for each kind of folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import RunFolderError
from ..runs.folder import read_config
from .comparison.terminal import terminal_table
from .notebook import Progress

if TYPE_CHECKING:
    from ..runs.compare import Comparison
    from .kit.table import Table

__all__ = ["Progress", "report", "tables", "terminal_table"]


def tables(comparison: Comparison) -> dict[str, Table]:
    """Every table of a comparison by name, to be had as HTML, Markdown, CSV, LaTeX, JSON and in a terminal."""
    from .across.single import tables_of

    return tables_of(comparison.summary)


def report(folder: str | Path) -> Path:
    """Write ``report.html`` of a run folder again: of a comparison, suite, training run (or a record of
    some) or certificates.

    Returns:
        The path of the page.

    Raises:
        RunFolderError: no such folder (a reproduction writes its page itself), or it cannot be
            written.
        MissingDependency: matplotlib is not installed.
    """
    path = Path(folder)
    if path.suffix == ".parquet" and path.is_file():  # a record of training runs
        kind = "train"
    else:
        kind = read_config(path).get("kind")
    if kind == "suite":
        from ..runs.suite import load_suite
        from .suite.page import write_suite_page

        return write_suite_page(load_suite(path))
    if kind == "train":
        from .training.page import write_training_page

        return write_training_page([path])
    if kind == "certificates":
        from .certificates.page import read_certificates, write_certificates

        return write_certificates(path, read_certificates(path))
    if kind == "reproduce":
        raise RunFolderError(f"{path} is a reproduction: reroot.reproduce writes its page")
    from ..runs.compare import load_comparison
    from .comparison.page import write_report

    return write_report(load_comparison(path))
