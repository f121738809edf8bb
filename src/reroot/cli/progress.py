"""Progress: a bar on a terminal, a line now and then elsewhere. All of it goes to stderr."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from rich.console import RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from .console import PlainConsole

if TYPE_CHECKING:
    from ..access.runner import Attempt
    from ..runs.estimate import Estimate

EVERY = 30.0
"""Seconds between lines where nobody watches a terminal."""


class _Shown(NamedTuple):
    """What is shown: started with total and done, advanced with a note, and lines beside it."""

    start: Callable[[int, int], None]
    advance: Callable[[str], None]
    say: Callable[[str], None]


@contextmanager
def bar(
    what: str, waiting: str
) -> Iterator[tuple[Callable[[int, int], None], Callable[[str], None]]]:
    """(start with total and done, advance with a note), shown until the context is left.

    Args:
        what: is counted.
        waiting: what is done until the start.
    """
    with _shown(what, waiting) as shown:
        yield shown.start, shown.advance


@contextmanager
def _shown(what: str, waiting: str) -> Iterator[_Shown]:
    shown = PlainConsole(stderr=True)
    if not shown.is_terminal:
        count = _Count(what, waiting)
        with ticking(lambda: shown.say(count.line())):
            yield _Shown(count.start, count.advance, shown.say)
        return
    progress = _Bar(
        TextColumn(what, style="bold", markup=False),
        BarColumn(bar_width=None),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        TimeElapsedColumn(table_column=Column(no_wrap=True)),
        TextColumn("left"),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
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
        yield _Shown(start, advance, shown.say)
    finally:
        spinner.stop()
        if progress.live.is_started:
            progress.stop()


@dataclass(slots=True)
class AttemptsBar:
    """A bar of attempts: how many passed, and their tokens.

    Attributes:
        part: of several comparisons, which one; each counts for itself.
        always: estimates are told however short the comparison is.
    """

    shown: _Shown
    part: str = ""
    always: bool = False
    passed: int = 0
    done: int = 0
    tokens: int = 0

    def on_start(self, total: int, done: int) -> None:
        self.passed = self.done = self.tokens = 0
        self.shown.start(total, done)

    def on_part(self, part: str, total: int, done: int) -> None:
        self.part = part
        self.on_start(total, done)

    def on_attempt(self, attempt: Attempt) -> None:
        self.passed += attempt.passed
        self.done += 1
        self.tokens += attempt.cost.tokens
        part = f"{self.part}: " if self.part else ""
        self.shown.advance(f"{part}{self.passed}/{self.done} passed, {self.tokens:,} tokens")

    def on_estimate(self, estimate: Estimate) -> None:
        """Say what a comparison will take, where it is worth knowing."""
        if self.always or estimate.seconds.high >= EVERY:
            self.shown.say(f"{self.part}: {estimate}" if self.part else str(estimate))


@contextmanager
def attempts_bar(*, always: bool = False) -> Iterator[AttemptsBar]:
    """The bar of a comparison or suite, shown until the context is left."""
    with _shown("attempts", "loading the model and the problems") as shown:
        yield AttemptsBar(shown, always=always)


@contextmanager
def lines(waiting: str) -> Iterator[Callable[[str], None]]:
    """A function that is told where some work is; shown until the context is left.

    On a terminal every line is shown; elsewhere the last one, every ``EVERY`` seconds, with the time
    since the start.

    Args:
        waiting: where it is until then.
    """
    shown = PlainConsole(stderr=True)
    if shown.is_terminal:
        yield shown.say
        return
    since, last = time.monotonic(), [waiting]

    def tell(line: str) -> None:
        last[0] = line

    with ticking(lambda: shown.say(f"{last[0]}, {clock(time.monotonic() - since)}")):
        yield tell


class _Bar(Progress):
    """A bar with its note beneath, so that neither cuts the other's numbers off."""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        yield from (note for task in self.tasks if (note := task.fields["note"]))


class _Count:
    """What a bar knows, as a line."""

    def __init__(self, what: str, waiting: str) -> None:
        self._what, self._note, self._waiting = what, "", waiting
        self._total, self._done, self._before = 0, 0, 0
        self._since = time.monotonic()

    def start(self, total: int, done: int) -> None:
        self._total, self._done, self._before = total, done, done
        self._since, self._waiting = time.monotonic(), ""

    def advance(self, note: str) -> None:
        self._done, self._note = self._done + 1, note

    def line(self) -> str:
        seconds = time.monotonic() - self._since
        if self._waiting:
            return f"{self._waiting}: {clock(seconds)}"
        new = self._done - self._before
        left = clock(seconds / new * (self._total - self._done)) if new else "-:--:--"
        words = [f"{self._what}: {self._done:,} of {self._total:,}", self._note, clock(seconds)]
        return ", ".join(filter(None, [*words, f"left {left}"]))


@contextmanager
def ticking(tell: Callable[[], object]) -> Iterator[None]:
    """Call ``tell`` every ``EVERY`` seconds, from a thread, until the context is left."""
    over = threading.Event()

    def tick() -> None:
        while not over.wait(EVERY):
            tell()

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    return str(timedelta(seconds=round(seconds)))
