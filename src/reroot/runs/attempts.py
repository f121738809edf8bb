"""Run folders of attempts: append-only, resumable after a kill, never overwritten silently.

config.json      what was run; a folder continues only under the same configuration
journal.jsonl    one line per finished attempt, the truth
results.parquet  the journal as a table, rewritten atomically
usage.jsonl      what each process that worked on it has computed
inflight/        messages of attempts that have not finished
transcripts/     messages of finished attempts, when transcripts are kept
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from ..access.failures import Failure
from ..access.runner import Attempt, Job, Log
from ..access.transcript import read_transcript
from ..errors import RunFolderError
from ..types import CURRENCIES, Cost, Physical, Prefix
from .folder import RESULTS, JournalFolder, append, write_atomically

USAGE = "usage.jsonl"


class RunFolder(JournalFolder):
    """The folder of a run of attempts.

    Args:
        path: the folder, made if it does not exist.
        config: JSON-able identity of the run.
        transcripts: keep the transcript of every finished attempt.

    Attributes:
        attempts: finished attempts, by key.

    Raises:
        RunFolderError: see ``JournalFolder``.
    """

    def __init__(self, path: str | Path, config: Mapping[str, Any], *, transcripts: bool = False):
        parts = ("inflight", "transcripts") if transcripts else ("inflight",)
        super().__init__(path, config, lambda line: line["key"], parts)
        self.transcripts = transcripts
        self.attempts: dict[str, Attempt] = {}
        self._process = uuid.uuid4().hex[:16]
        self._usage: dict[str, Any] | None = None
        self._noted = 0.0

    def _checked(self, line: dict[str, Any]) -> dict[str, Any]:
        attempt = attempt_from_json(line)
        self.attempts[attempt.key] = attempt
        return line

    def _load(self) -> None:
        super()._load()
        if any((self.path / "inflight").iterdir()):  # finished, and then killed before it was moved
            for key in self.attempts:
                _FileLog(self, key).finish()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        with contextlib.suppress(RunFolderError):
            self._write_usage()
        super().__exit__(kind, error, tb)

    def record(self, attempt: Attempt) -> None:
        """Record a finished attempt; it is on disk when this returns."""
        self.add(attempt_to_json(attempt))
        self.attempts[attempt.key] = attempt

    def note_usage(self, physical: Physical, seconds: float) -> None:
        """What this process has computed so far; on disk within a second, or when the run ends."""
        self._usage = {"process": self._process, "seconds": seconds, **physical.to_dict()}
        if seconds >= self._noted + 1.0:
            self._write_usage()

    def _write_usage(self) -> None:
        if self._usage is not None:
            self._noted = self._usage["seconds"]
            text = json.dumps(self._usage) + "\n"
            append(self.path / USAGE, text, f"{len(self.attempts)} attempts are safe.")
            self._usage = None

    def usage(self) -> dict[str, Any]:
        """``physical`` and ``seconds`` of all processes that worked on this run, together."""
        self._write_usage()
        last: dict[str, dict[str, Any]] = {}
        if (self.path / USAGE).exists():
            for line in (self.path / USAGE).read_bytes().split(b"\n")[:-1]:
                with contextlib.suppress(ValueError, KeyError, TypeError):  # cut off by a kill
                    values = json.loads(line)
                    last[values["process"]] = values
        counters = Physical().to_dict()
        parts = (Physical(**{c: v.get(c, 0) for c in counters}) for v in last.values())
        return {
            "physical": sum(parts, Physical()).to_dict(),
            "seconds": round(sum(v.get("seconds", 0.0) for v in last.values()), 3),
        }

    def log_of(self, job: Job) -> Log:
        """The message log of one attempt."""
        return _FileLog(self, job.key)

    def write_results(self, rows: list[dict[str, Any]]) -> None:
        """Write ``results.parquet``: the same rows give the same bytes."""
        import polars as pl

        frame = pl.DataFrame(rows, schema_overrides=_column_types(), infer_schema_length=None)
        write_atomically(self.path / RESULTS, lambda beside: frame.write_parquet(beside))

    @contextlib.contextmanager
    def results(self, rows: Callable[[], list[dict[str, Any]]]) -> Iterator[None]:
        """Write ``results.parquet`` at the end; after an error too, and then raise that error."""
        try:
            yield
        except BaseException:  # Ctrl-C too: what is there can be read
            with contextlib.suppress(RunFolderError):
                self.write_results(rows())
            raise
        self.write_results(rows())


class _FileLog:
    """Message log of one attempt, a file under ``inflight/`` until the attempt ends."""

    def __init__(self, folder: RunFolder, key: str) -> None:
        digest = hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
        name = f"{re.sub(r'[^A-Za-z0-9_.=-]+', '_', key)[:80]}-{digest}.jsonl"  # legible and unique
        self._live = folder.path / "inflight" / name
        self._kept = folder.path / "transcripts" / name if folder.transcripts else None
        self._key = key

    def recorded(self) -> list[dict[str, Any]]:
        """The lines left by an interrupted run, up to the first damaged one, which ends the file."""
        if not self._live.exists():
            return []
        lines: list[dict[str, Any]] = []
        whole = 0
        with contextlib.suppress(RunFolderError):
            for size, line in read_transcript(self._live):
                if not lines and line.get("key") != self._key:
                    break
                lines.append(line)
                whole += size
        os.truncate(self._live, whole)
        return lines

    def append(self, line: dict[str, Any]) -> None:
        text = json.dumps(line, ensure_ascii=False) + "\n"
        append(self._live, text, "All finished attempts are safe.")

    def finish(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if self._kept is not None:
                os.replace(self._live, self._kept)
            else:
                self._live.unlink()


def attempt_to_json(attempt: Attempt) -> dict[str, Any]:
    """An attempt as JSON values."""
    data = asdict(attempt)
    data["cost"] = attempt.cost.to_dict()
    data["output"] = None if attempt.output is None else list(attempt.output.tokens)
    return data


def attempt_from_json(data: dict[str, Any]) -> Attempt:
    """The inverse of ``attempt_to_json``."""
    output = None if data["output"] is None else Prefix(tuple(data["output"]))
    error = None if data["error"] is None else Failure(**data["error"])
    return Attempt(**{**data, "output": output, "error": error, "cost": Cost(**data["cost"])})


def attempt_to_row(attempt: Attempt) -> dict[str, Any]:
    """An attempt as one row of a results table."""
    return {
        "learner": attempt.learner,
        "contract": attempt.contract,
        "seed": attempt.seed,
        "problem": attempt.problem,
        "reward": attempt.reward,
        "passed": attempt.passed,
        "complete": attempt.complete,
        "accepted": attempt.accepted,
        "text": attempt.text,
        "tokens_out": None if attempt.output is None else list(attempt.output.tokens),
        "surprisal": attempt.surprisal,
        "error": None if attempt.error is None else str(attempt.error),
        "error_kind": None if attempt.error is None else attempt.error.kind,
        "stopped": attempt.stopped,
        "metadata": json.dumps(attempt.metadata) if attempt.metadata else None,
        **{f"cost_{currency}": amount for currency, amount in attempt.cost.to_dict().items()},
    }


def _column_types() -> dict[str, Any]:
    """Types of the columns of ``attempt_to_row``, also where a column is all null."""
    import polars as pl

    return {
        **dict.fromkeys(
            ("learner", "contract", "problem", "text", "stopped", "metadata"), pl.String
        ),
        **dict.fromkeys(("error", "error_kind"), pl.String),
        **dict.fromkeys(("reward", "surprisal"), pl.Float64),
        **dict.fromkeys(("passed", "complete", "accepted"), pl.Boolean),
        **dict.fromkeys(("seed", *(f"cost_{c}" for c in CURRENCIES)), pl.Int64),
        "tokens_out": pl.List(pl.Int64),
    }
