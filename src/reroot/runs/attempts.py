"""Run folders of attempts: append-only, resumable after a kill, never overwritten silently.

config.json      what was run; a folder continues only under the same configuration
journal.jsonl    one line per finished attempt, the truth; one that was made again replaces the earlier
results.parquet  the journal as a table, rewritten atomically
usage.jsonl      what each process that worked on it has computed
inflight/        messages of attempts that have not finished
transcripts/     messages of finished attempts, when transcripts are kept
texts.jsonl      the text beside the token ids of all of this (``texts``)
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

from ..access.attempt_json import MOST, attempt_to_json
from ..access.failures import Failure
from ..access.runner import Attempt, Job, check_limits, execute
from ..access.sealing import read_sealed, sealed
from ..checks import check_int
from ..errors import RunFolderError
from ..generators.base import ConcurrentGenerator, Generator
from ..tasks.calls import Workers
from ..types import Physical
from .folder import (
    JOURNAL,
    SYNCED,
    GrowingFile,
    JournalFolder,
    cut_unfinished_line,
)
from .inflight import InFlight
from .isolated import Place
from .kept import Kept
from .made import Picked, where
from .records import short_id
from .texts import TextLog

T = TypeVar("T")

USAGE = "usage.jsonl"
JUDGE_DOWN = 16
"""Attempts in a row whose judge fails, after which a run leaves the rest."""
_FLUSH = (0.02, 1.0)  # seconds of work that a kill may cost, besides the round that it interrupts
_SHARE = 50  # between these, writing takes one part of so many


@dataclass(frozen=True, slots=True)
class Execution:
    """How attempts are made; it changes no result but those of attempts that take too long.

    Attributes:
        concurrency: attempts at the same time.
        attempt_timeout: seconds of its own that an attempt may take; ``None``: no limit.
        judge_timeout: seconds that one call of a reward, verifier or value function may take.
        judge_workers: processes for such calls; 0: they are made in this one.
        place: where learners run.
        transcripts: keep every message of every attempt.
        keep_errors: leave attempts that failed as they are, instead of making them again.
        stop: end at the first attempt that fails, by raising its exception.
        on_attempt: called with each attempt as it finishes.

    Raises:
        InvalidInput: a number is out of range.
    """

    concurrency: int = 64
    attempt_timeout: float | None = None
    judge_timeout: float | None = None
    transcripts: bool = False
    keep_errors: bool = False
    stop: bool = False
    on_attempt: Callable[[Attempt], None] = lambda attempt: None
    judge_workers: int = 0
    seconds: float | None = None
    place: Place = field(default_factory=Place)

    def __post_init__(self) -> None:
        check_int("judge_workers", self.judge_workers, 0, 1024)
        check_limits(self.concurrency, self.attempt_timeout, self.judge_timeout)


class RunFolder(JournalFolder):
    """The folder of a run of attempts.

    Args:
        path: the folder, made if it does not exist.
        config: JSON-able identity of the run.
        how: how its attempts are made.

    Attributes:
        messages: of attempts that have not finished.
        texts: what is asked and said, as text.

    Raises:
        RunFolderError: see ``JournalFolder``.
    """

    def __init__(self, path: str | Path, config: Mapping[str, Any], how: Execution | None = None):
        self._how = how or Execution()
        parts = ("inflight", *["transcripts"][: self._how.transcripts])
        super().__init__(path, config, itemgetter("key"), parts)
        self.attempts = Kept(self.path / JOURNAL)
        kept = self.path / "transcripts" if self._how.transcripts else None
        self.texts = TextLog(self.path, self._safe)
        self.messages = InFlight(
            self.path / "inflight", kept, self._safe, told=self.texts.transcript
        )
        self._unwritten: list[tuple[str, bytes]] = []
        self._writing = 0
        self._next_flush = 0.0
        self._process = uuid.uuid4().hex[:16]
        self._usage: dict[str, Any] | None = None
        # by former calls of ``make_attempts``; and in all
        self._earlier = self._used = (0.0, Physical())
        self._usage_file = GrowingFile(self.path / USAGE, self._safe)
        self._noted = 0.0

    def left(self, jobs: Sequence[Job]) -> Picked[Job]:
        """The jobs to be done: those without an attempt, or whose attempt failed."""
        return where(jobs, lambda job: not self._done(job.key))

    def _done(self, key: str) -> bool:
        there = self.attempts
        return key in there and (self._how.keep_errors or not there.has_failed(key))

    def _load(self) -> None:
        self.attempts.load(self.texts.seen)
        cut_unfinished_line(self.path / JOURNAL)
        self.texts.load()
        self.messages.load(self._done)

    def __exit__(self, *raised: object) -> None:
        try:
            # after an error it is the one to be told: a full disk refuses here again
            with contextlib.suppress(RunFolderError) if any(raised) else contextlib.nullcontext():
                self.flush()
                self._write_usage()
                self.messages.close()
            self._usage_file.sync()
        finally:
            self._usage_file.close()
            self.texts.close()
            super().__exit__(*raised)

    def record(self, attempt: Attempt, key: str | None = None) -> None:
        """Record a finished attempt; it is on disk after ``flush``.

        Args:
            attempt: the attempt.
            key: its key, as its job has it: a text less to keep.
        """
        self._unwritten.append((key or attempt.key, sealed(attempt_to_json(attempt))))
        self.texts.attempt(attempt)
        self.attempts.add(attempt, key)

    def flush(self) -> None:
        """Write down what finished, and what was said by attempts that have not."""
        unwritten, self._unwritten = self._unwritten, []
        self._writing = len(unwritten)
        try:
            self.texts.flush()
            self.messages.flush()
        finally:
            if unwritten:
                at, _ = self._journal.add(b"".join([line for _, line in unwritten]))
                self._journal.sync(SYNCED)
                for key, line in unwritten:
                    self.attempts.written(key, at)
                    at += len(line)
            self._writing = 0
        self.messages.flush_ends()  # last, so that no attempt is nowhere

    def _safe(self) -> str:
        waiting = self._writing + len(self._unwritten)
        return f"What is finished ({len(self.attempts) - waiting}) is safe."

    def on_round(self, running: int) -> None:
        """Before the generator is asked again: write down what would be missed after a kill."""
        if time.monotonic() >= self._next_flush:
            before = time.thread_time()
            self.flush()
            spent = time.thread_time() - before
            wait = min(max(_SHARE * spent, _FLUSH[0]), _FLUSH[1])
            self._next_flush = time.monotonic() + wait

    def begin_usage(self) -> None:
        """What is noted from now on comes on top of what was."""
        self._earlier = self._used

    def note_usage(self, physical: Physical, seconds: float) -> None:
        """What this process has computed since ``begin_usage``; on disk within a second, or when the run
        ends."""
        seconds, physical = self._earlier[0] + seconds, self._earlier[1] + physical
        self._used = (seconds, physical)
        self._usage = {"process": self._process, "seconds": seconds, **physical.to_dict()}
        if seconds >= self._noted + 1.0:
            self._write_usage()

    def _write_usage(self) -> None:
        if self._usage is not None:
            self._noted = self._usage["seconds"]
            self._usage_file.add(sealed(self._usage))
            self._usage = None

    def usage(self) -> dict[str, Any]:
        """See ``usage_of``."""
        self._write_usage()
        return usage_of(self.path)

    def make(
        self,
        jobs: Sequence[Job],
        generator: Generator,
        write: Callable[[], T],
        maker: Maker | None = None,
    ) -> T:
        """Make the attempts that are left, and write the results: ``write`` does, and gives what is returned.

        After an error, Ctrl-C too, they are written with what there is.
        """
        with self.tabling(write):
            (maker or make_attempts)(jobs, generator, self._how, self)
        return write()

    @contextlib.contextmanager
    def tabling(self, write: Callable[[], object]) -> Iterator[None]:
        """The results are written with what there is where an error ends this, Ctrl-C too."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(RunFolderError):
                write()
            raise


Maker = Callable[[Sequence[Job], Generator, Execution, RunFolder], Mapping[str, Attempt]]
"""What makes attempts: ``make_attempts``, or ``elsewhere.Elsewhere``."""


def make_attempts(
    jobs: Sequence[Job], generator: Generator, how: Execution, folder: RunFolder | None = None
) -> Mapping[str, Attempt]:
    """Make the attempts that are left; all of the jobs, by key.

    With a folder each is recorded as it finishes. Where ``how`` says to stop, everything that
    finished in the same round is recorded before the exception is raised. Where the judge fails
    ``JUDGE_DOWN`` times in a row, the rest is left: it is down, and tokens are dear. What a
    ``ConcurrentGenerator`` answers is on disk before the learner that asked goes on.
    """
    found = dict[str, Attempt]()
    left = jobs if folder is None else folder.left(jobs)
    if folder is not None:
        folder.texts.know(jobs, generator)
    raised: list[BaseException] = []
    failed_judges, at_once = 0, isinstance(generator, ConcurrentGenerator)
    before, started = generator.physical(), time.perf_counter()
    if folder is not None:
        folder.begin_usage()

    def finish(attempt: Attempt) -> None:
        nonlocal failed_judges
        down = attempt.error is not None and attempt.error.who == "task"
        failed_judges = failed_judges + 1 if down else 0
        if folder is None:
            found[attempt.key] = attempt
        else:
            folder.record(attempt)
            folder.note_usage(generator.physical() - before, time.perf_counter() - started)
        how.on_attempt(attempt)

    def before_round(running: int) -> None:
        if raised:
            raise raised[0]
        if failed_judges >= JUDGE_DOWN:
            raise _Over
        if how.seconds is not None and time.perf_counter() - started >= how.seconds:
            raise _Over
        if folder is not None and at_once:
            folder.flush()
        elif folder is not None:
            folder.on_round(running)

    workers = Workers(how.judge_workers) if how.judge_workers else contextlib.nullcontext()
    with workers, contextlib.suppress(_Over):
        execute(
            left,
            generator,
            concurrency=how.concurrency,
            on_attempt=finish,
            log=None if folder is None else folder.messages,
            on_round=before_round,
            on_error=(lambda attempt, error: raised.append(error)) if how.stop else None,
            attempt_timeout=how.attempt_timeout,
            judge_timeout=how.judge_timeout,
            stage=how.place.stage(how.attempt_timeout),
        )
    if folder is not None:
        folder.flush()
    if raised:
        raise raised[0]
    return found if folder is None else folder.attempts


class _Over(Exception):
    """The judge has failed ``JUDGE_DOWN`` times in a row, or the time is over."""


def told_failures(attempts: Iterable[Attempt], planned: int | None = None) -> str | None:
    """One line: how many of the attempts failed, and with what; ``None`` if none did.

    Args:
        planned: how many there should be; where there are fewer, the judge was down.
    """
    made, failed = 0, list[Failure]()
    for attempt in attempts:
        made += 1
        if attempt.error is not None:
            failed.append(attempt.error)
    if not failed:
        return None
    kinds = Counter(error.kind for error in failed)
    first = {error.kind: error for error in reversed(failed)}
    parts = [f"{count} × {_one_line(str(first[kind]))}" for kind, count in kinds.most_common()]
    text = f"{len(failed)} of {made} attempts failed: {'; '.join(parts)}"
    if planned is None or made == planned:
        return text
    return f"{text}. The judge failed {JUDGE_DOWN} times in a row, so {planned - made} were left"


def _one_line(text: str, most: int = 200) -> str:
    text = short_id(" ".join(text.split()))
    return text if len(text) <= most else f"{text[: most - 1]}…"


def usage_of(path: Path) -> dict[str, Any]:
    """``physical`` and ``seconds`` of all processes that worked on a run, together; else nothing.

    Raises:
        RunFolderError: the file is damaged.
    """
    file = path / USAGE
    if not file.exists():
        return {}
    last = dict(usage for _, usage in read_sealed(file, "usage", _checked_usage))
    return {
        "physical": sum((physical for _, physical in last.values()), Physical()).to_dict(),
        "seconds": round(sum(seconds for seconds, _ in last.values()), 3),
    }


def _checked_usage(line: dict[str, Any]) -> tuple[str, tuple[float, Physical]]:
    counters = {name: line[name] for name in Physical().to_dict()}
    seconds = line["seconds"]
    if not all(type(n) is int and 0 <= n < MOST for n in counters.values()):
        raise ValueError(f"counters must be integers >= 0, got {counters}")
    if type(seconds) not in (int, float) or not 0 <= seconds < MOST:
        raise ValueError(f"seconds must be a number >= 0, got {seconds!r}")
    return str(line["process"]), (seconds, Physical(**counters))


def attempts_of(path: Path) -> Mapping[str, Attempt]:
    """The finished attempts of a run folder that is perhaps in use, by key (``RunFolderError``)."""
    found = Kept(path / JOURNAL)
    found.load()
    return found
