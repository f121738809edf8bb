"""What ``reroot report`` shows of a folder, by its kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from .app import console
from .console import print_json

if TYPE_CHECKING:
    from ..pages.kit.table import Table


class Tell(Protocol):
    """Prints tables, or as JSON every number of them and nothing else, and writes the page."""

    def __call__(self, *, json: bool = False) -> None: ...


def shown(
    folder: Path, kind: object, *, macro: bool = False, lm_eval: Path | None = None
) -> tuple[Tell, Mapping[str, Table]]:
    """What tells of a folder, and its tables by name.

    Args:
        folder: a run folder, or a record of rows of experiments.
        kind: its kind; of any other than those here it is read as a comparison.
        macro: of a comparison also the mean over data sets.
        lm_eval: a file for its cells in the shape of the lm-evaluation-harness.

    Raises:
        RunFolderError: the folder is missing, damaged or of another kind.
    """
    if kind in _KINDS:
        return _KINDS[str(kind)](folder)
    from ..pages.across.single import tables_of
    from ..runs.compare import load_comparison
    from .compare import tell_comparison

    comparison = load_comparison(folder)
    tell = partial(tell_comparison, comparison, macro=macro, lm_eval=lm_eval)
    return tell, tables_of(comparison.summary)


def _suite(folder: Path) -> tuple[Tell, Mapping[str, Table]]:
    from ..pages.suite.page import suite_tables
    from ..runs.suite import load_suite
    from .suite import tell_suite

    run = load_suite(folder)
    return partial(tell_suite, run), suite_tables(run.summary)


def _sweep(folder: Path) -> tuple[Tell, Mapping[str, Table]]:
    from ..pages.sweep.page import sweep_table
    from ..training.trl.sweep import load_sweep
    from .sweep import tell_sweep

    swept = load_sweep(folder)
    return partial(tell_sweep, swept), {"arms": sweep_table(swept.summary)}


def _certificates(folder: Path) -> tuple[Tell, Mapping[str, Table]]:
    from ..pages.certificates.page import certificates_tables, read_certificates
    from .certify import tell_certificates

    found = read_certificates(folder)
    return partial(tell_certificates, folder, found), certificates_tables(found)


def _diagnosis(folder: Path) -> tuple[Tell, Mapping[str, Table]]:
    from ..pages.diagnosis.page import diagnosis_tables
    from ..runs.diagnosing.diagnose import read_diagnosis
    from .diagnose import tell_diagnosis

    found = read_diagnosis(folder)
    return partial(tell_diagnosis, folder, found), diagnosis_tables(found)


def _experiments(load: str, folder: Path) -> tuple[Tell, Mapping[str, Table]]:
    from ..experiments import runner
    from ..experiments.page import overview_table
    from .reproduce import tell

    found = getattr(runner, load)(folder)
    return partial(tell, found), {"experiments": overview_table(found).titled("Experiments")}


_KINDS: dict[str, Callable[[Path], tuple[Tell, Mapping[str, Table]]]] = {
    "suite": _suite,
    "sweep": _sweep,
    "certificates": _certificates,
    "diagnose": _diagnosis,
    "log": _diagnosis,
    "reproduce": partial(_experiments, "load_reproduction"),
    "rows": partial(_experiments, "load_rows"),
}


def shown_training(
    folders: Sequence[Path], out: Path | None, record: Path | None
) -> tuple[Tell, Mapping[str, Table]]:
    """The same of one or more training runs.

    Args:
        folders: run folders, and records.
        out: file of the page.
        record: a record of the curves to write, too.
    """
    from ..pages.training.page import load_runs, write_training_page
    from ..pages.training.record import write_record
    from ..pages.training.tables import training_tables
    from ..pages.training.terminal import training_table

    runs = load_runs(folders)
    tables = training_tables(runs)

    def tell(*, json: bool = False) -> None:
        if json:
            print_json({name: table.records() for name, table in tables.items()})
        else:
            console.print(training_table(runs, console.width))
        if record is not None:
            console.say(f"record: {write_record(runs, record)}")
        console.say(f"report: {write_training_page(folders, out)}")

    return tell, tables
