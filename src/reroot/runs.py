"""Run folders: append-only, resumable after a kill, never overwritten silently.

config.json      what was run; a folder continues only under the same configuration
journal.jsonl    one line per finished attempt, the truth
results.parquet  the journal as a table, rewritten atomically
usage.jsonl      what each process that worked on it has computed
inflight/        messages of attempts that have not finished
transcripts/     messages of finished attempts, when transcripts are kept
"""

from __future__ import annotations

import contextlib
import fcntl
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

from .access.runner import Attempt, Job, Log
from .access.transcript import read_transcript
from .errors import RunFolderError
from .types import CURRENCIES, Cost, Physical, Prefix

CONFIG, JOURNAL, RESULTS, SUMMARY, USAGE = (
    "config.json",
    "journal.jsonl",
    "results.parquet",
    "summary.json",
    "usage.jsonl",
)


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a neighbour of ``path``, then move it into place in one step.

    Raises:
        RunFolderError: the file system refuses (full disk, no permission).
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(beside)
        os.replace(beside, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        if not isinstance(error, Exception):  # Ctrl-C
            raise
        # polars has errors of its own for a full disk
        reason = error.strerror if isinstance(error, OSError) else None
        raise RunFolderError(f"can't write {path}: {reason or error}") from error


def write_json(path: Path, value: object) -> None:
    """Write JSON, atomically."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    write_atomically(path, lambda beside: beside.write_bytes(_encode(text)))


def _encode(json_text: str) -> bytes:
    """UTF-8; what UTF-8 cannot hold (lone surrogates) becomes the JSON escape of itself."""
    return json_text.encode("utf-8", "backslashreplace")


def _append(path: Path, text: str, kept: str) -> None:
    """Append ``text`` whole: after a failure the file is as long as before."""
    try:
        with path.open("ab", buffering=0) as file:
            before = file.seek(0, os.SEEK_END)
            data = _encode(text)
            try:
                if file.write(data) != len(data):
                    raise OSError(28, "no space left on device")
            except OSError:
                file.truncate(before)
                raise
    except OSError as error:
        raise RunFolderError(
            f"can't write {path}: {error.strerror or error}. {kept} Make room and run the same "
            "command again: it continues from there."
        ) from error


class RunFolder:
    """One run on disk; a context manager that holds the folder's lock.

    Args:
        path: the folder, made if it does not exist.
        config: JSON-able identity of the run, compared key by key when the folder exists.
        transcripts: keep the transcript of every finished attempt.

    Raises:
        RunFolderError: the folder holds another run, is in use by another process, or can't be
            written.
    """

    def __init__(self, path: str | Path, config: Mapping[str, Any], *, transcripts: bool = False):
        self.path = Path(path)
        self.config = json.loads(json.dumps(dict(config)))
        self.transcripts = transcripts
        self.attempts: dict[str, Attempt] = {}
        self._process = uuid.uuid4().hex[:16]
        self._usage: dict[str, Any] | None = None
        self._noted = 0.0

    def __enter__(self) -> RunFolder:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / "inflight").mkdir(exist_ok=True)
            if self.transcripts:
                (self.path / "transcripts").mkdir(exist_ok=True)
            self._lock = (self.path / ".lock").open("w")
        except OSError as error:
            raise RunFolderError(f"can't use {self.path} as a run folder: {error}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise RunFolderError(f"{self.path} is in use by another process") from None
        try:
            self._match_config()
            self._load_journal()
        except BaseException:
            self._lock.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        with contextlib.suppress(RunFolderError):
            self._write_usage()
        self._lock.close()

    def _match_config(self) -> None:
        file = self.path / CONFIG
        if not file.exists():
            own = ("inflight", "transcripts", ".lock")  # and .config.json.PID, left by a kill
            if any(
                p.name not in own and not p.name.startswith(f".{CONFIG}.")
                for p in self.path.iterdir()
            ):
                raise RunFolderError(
                    f"{self.path} is not empty and holds no {CONFIG}; choose another folder"
                )
            write_json(file, self.config)
            return
        found = read_config(self.path)
        for key in [*self.config, *found]:
            if found.get(key) != self.config.get(key):
                raise RunFolderError(
                    f"{self.path} holds a run with another configuration: {key} is "
                    f"{_short(found.get(key))} there and {_short(self.config.get(key))} now. "
                    "Choose another folder, or run with the same configuration to continue it."
                )

    def _load_journal(self) -> None:
        file = self.path / JOURNAL
        if not file.exists():
            return
        data = file.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):  # a kill cut the last line off: its attempt is run again
            os.truncate(file, len(whole))
        for number, line in enumerate(whole.split(b"\n")[:-1], 1):
            try:
                attempt = attempt_from_json(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise RunFolderError(
                    f"{file}, line {number}: not a journal line: {error}"
                ) from None
            self.attempts[attempt.key] = attempt
        if any((self.path / "inflight").iterdir()):  # finished, and then killed before it was moved
            for key in self.attempts:
                _FileLog(self, key).finish()

    def add(self, attempt: Attempt) -> None:
        """Record a finished attempt; it is on disk when this returns."""
        line = json.dumps(attempt_to_json(attempt), ensure_ascii=False) + "\n"
        _append(self.path / JOURNAL, line, f"{len(self.attempts)} attempts are safe.")
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
            _append(self.path / USAGE, text, f"{len(self.attempts)} attempts are safe.")
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
        return {
            "physical": {c: sum(v.get(c, 0) for v in last.values()) for c in counters},
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
        _append(self._live, text, "All finished attempts are safe.")

    def finish(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if self._kept is not None:
                os.replace(self._live, self._kept)
            else:
                self._live.unlink()


def read_config(path: Path) -> dict[str, Any]:
    """The configuration of a run folder.

    Raises:
        RunFolderError: not a run folder.
    """
    file = path / CONFIG
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunFolderError(f"{path} is not a run folder: {error.strerror} ({CONFIG})") from None
    except ValueError as error:
        raise RunFolderError(f"{file} is not JSON: {error}") from None


def attempt_to_json(attempt: Attempt) -> dict[str, Any]:
    """An attempt as JSON values."""
    data = asdict(attempt)
    data["cost"] = attempt.cost.to_dict()
    data["output"] = None if attempt.output is None else list(attempt.output.tokens)
    return data


def attempt_from_json(data: dict[str, Any]) -> Attempt:
    """The inverse of ``attempt_to_json``."""
    output = None if data["output"] is None else Prefix(tuple(data["output"]))
    return Attempt(**{**data, "output": output, "cost": Cost(**data["cost"])})


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
        "text": attempt.text,
        "tokens_out": None if attempt.output is None else list(attempt.output.tokens),
        "surprisal": attempt.surprisal,
        "error": attempt.error,
        "stopped": attempt.stopped,
        **{f"cost_{currency}": amount for currency, amount in attempt.cost.to_dict().items()},
    }


def _column_types() -> dict[str, Any]:
    """Types of the columns of ``attempt_to_row``, also where a column is all null."""
    import polars as pl

    return {
        **dict.fromkeys(("learner", "contract", "problem", "text", "error", "stopped"), pl.String),
        **dict.fromkeys(("reward", "surprisal"), pl.Float64),
        **dict.fromkeys(("passed", "complete"), pl.Boolean),
        **dict.fromkeys(("seed", *(f"cost_{c}" for c in CURRENCIES)), pl.Int64),
        "tokens_out": pl.List(pl.Int64),
    }


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}…"
