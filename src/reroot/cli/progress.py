"""Progress bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


@contextmanager
def bar(
    what: str, waiting: str
) -> Iterator[tuple[Callable[[int, int], None], Callable[[str], None]]]:
    """A spinner until the work starts, then a bar: (start with total and done, advance with a note)."""
    shown = Console(stderr=True)
    progress = Progress(
        TextColumn(f"[bold]{what}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=shown,
    )
    spinner = shown.status(waiting)
    task = progress.add_task(what, total=None, note="")

    def start(total: int, done: int) -> None:
        spinner.stop()
        progress.update(task, total=total, completed=done)
        progress.start()

    def advance(note: str) -> None:
        progress.update(task, advance=1, note=note)

    spinner.start()
    try:
        yield start, advance
    finally:
        spinner.stop()
        if progress.live.is_started:
            progress.stop()
