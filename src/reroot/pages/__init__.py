"""What runs show: tables for the terminal, and one self-contained page for each kind of folder."""

from __future__ import annotations

from pathlib import Path

from ..errors import RunFolderError
from ..runs.folder import read_config
from .comparison.terminal import terminal_table

__all__ = ["report", "terminal_table"]


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
