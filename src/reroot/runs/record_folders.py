"""Reading the attempts and completions of run folders, as records: once, or on and on while a run grows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InvalidInput, RunFolderError
from .folder import CONFIG, JOURNAL, read_config
from .growing import is_running, lines_since, new_attempts, new_lines
from .making_records import AttemptMaker, attempts_of_table, completions_of, whole_step
from .records import COMPLETIONS, KINDS, OUTCOMES, Filter, Record
from .results import reading_config
from .tables import PROBLEMS, planned_attempts, problem_schema, read_table
from .texts import TEXTS, Texts, text_line


@dataclass(frozen=True, slots=True)
class Records:
    """What one folder holds.

    Attributes:
        folder: the folder.
        config: its ``config.json``.
        records: in a fixed order.
        texts: the text of its tokens.
        notes: what is to be said of it, such as that it holds no texts.
    """

    folder: Path
    config: dict[str, Any]
    records: tuple[Record, ...]
    texts: Texts
    notes: tuple[str, ...] = ()


def read_records(folder: str | Path) -> Records:
    """All attempts or completions of a folder, finished or not.

    Raises:
        RunFolderError: it is no folder that holds any, or it is damaged.
    """
    found = Follower(folder)
    found.look()
    return Records(
        found.folder, found.config, tuple(found.records), found.texts, tuple(found.notes())
    )


def attempts(
    folder: str | Path,
    *,
    task: str = "",
    learner: str = "",
    contract: str = "",
    outcome: str = "",
    search: str = "",
) -> list[Record]:
    """What the model wrote: the attempts of a run folder, or the completions that training kept.

    Args:
        folder: of a comparison, suite, run, diagnosis or training, finished or not.
        task, learner, contract: of these alone; as in ``best_of_n``, whatever its parameters.
        outcome: ``passed``, ``failed``, ``error`` or ``abstained``.
        search: text that prompt, output, answer, error or id holds, whatever its case.

    Returns:
        A record of each: ``prompt``, ``output``, ``tokens``, ``pieces``, ``reward``, ``passed``, ``answer``,
        ``cost``, ``error``, ``mark`` (where it goes wrong) and more; ``to_json`` gives what ``reroot show
        --json`` prints.

    Raises:
        InvalidInput: no attempt has that task, learner or contract, or there is no such outcome.
        RunFolderError: it is no folder that holds any, or it is damaged.
    """
    if outcome and outcome not in OUTCOMES:
        raise InvalidInput(f"an outcome is one of {', '.join(OUTCOMES)}, got {outcome!r}")
    found = [r for part in with_parts(folder) for r in read_records(part).records]
    return Filter(task, learner, contract, outcome, search).select(found)


def with_parts(folder: str | Path) -> list[Path]:
    """The folder itself, or of a suite those of its parts that have begun."""
    path = Path(folder)
    if not (path / CONFIG).exists() or read_config(path).get("kind") != "suite":
        return [path]
    parts = sorted(part.parent for part in path.glob(f"*/{CONFIG}"))
    if not parts:
        raise RunFolderError(f"{path} is a suite of which no part has begun")
    return parts


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Attributes:
        running: a process works on the folder.
        done, total: attempts, or steps of training; ``total`` is ``None`` where it is not known before.
        unit: ``"attempt"`` or ``"step"``.
        passed: attempts that passed; ``None`` of training.
        tokens: generated so far.
    """

    running: bool
    done: int
    total: int | None
    unit: str
    passed: int | None
    tokens: int


class Follower:
    """The attempts or completions of a folder that perhaps grows.

    Args:
        folder: a run folder of a comparison, run, diagnosis or training.

    Attributes:
        folder, config: the folder and its ``config.json``.
        records: what ``look`` has found: first in a fixed order, later ones at the end. What was made again
            stands where it stood.
        texts: the text of its tokens, as far as it is known.

    Raises:
        RunFolderError: it is no folder that holds any.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise RunFolderError(f"{self.folder} is not a folder")
        self.config = read_config(self.folder)
        self._kind = str(self.config.get("kind"))
        if self._kind not in KINDS:
            raise RunFolderError(_no_attempts(self.folder, self.config.get("kind")))
        self._forget()

    def _forget(self) -> None:
        self.records: list[Record] = []
        self.texts = Texts()
        self._places: dict[str, int] = {}
        self._offset = self._texts_offset = self._steps_offset = 0
        self._step = self._tokens = 0
        self._steps = set[int]()
        self._maker: AttemptMaker | None = None
        self._planned: int | None = None

    def look(self) -> list[int] | None:
        """Read what is new; the places in ``records`` that are new or other than they were.

        ``None``: what was known is no longer there (a journal that was written anew), so everything is
        to be read again: ``records`` has it.

        Raises:
            RunFolderError: the folder is damaged.
        """
        with reading_config(self.folder, self._kind):
            found = self._new_completions() if self._kind == "train" else self._new_attempts()
        if found is None:
            self._forget()
            self.look()
            return None
        places = [self._places.setdefault(r.id, len(self._places)) for r in found]
        for place, record in zip(places, found, strict=True):
            if place < len(self.records):
                self.records[place] = record
            else:
                self.records.append(record)
        return places

    def _new_attempts(self) -> list[Record] | None:
        first = self._maker is None
        new = new_attempts(self.folder, self._offset)
        if new.again:
            return None
        self._offset, attempts = new.offset, {a.key: a for a in new.lines}
        if not attempts and not (self.folder / JOURNAL).exists() and first:
            attempts = attempts_of_table(self.folder)
        if not attempts:
            return []
        self._read_texts()
        if self._maker is None:
            self._maker = AttemptMaker(self.folder, self.config, self.texts)
        return self._maker.records(attempts.values())

    def _new_completions(self) -> list[Record] | None:
        new = lines_since(self.folder / COMPLETIONS, self._offset, "completion", whole_step)
        self._offset = new.offset
        steps = [line["step"] for line in new.lines]
        if new.again or (self._steps and not self._steps.isdisjoint(steps)):
            return None  # a run that was continued does steps again, and may keep others of them
        self._steps.update(steps)
        if not steps:
            return []
        self._read_texts()
        by_step = {line["step"]: line for line in new.lines}
        return [
            record
            for step in sorted(by_step)
            for record in completions_of(self.folder, self.config, self.texts, by_step[step])
        ]

    def _read_texts(self) -> None:
        """After the journal: the texts of what is there are older."""
        new = lines_since(self.folder / TEXTS, self._texts_offset, "text", text_line)
        self._texts_offset = new.offset
        for line in new.lines:
            self.texts.take(line)

    def notes(self) -> list[str]:
        """What is to be said of the folder."""
        said = list[str]()
        if self.records and not self.texts.tokens:
            said.append(
                f"{self.folder} is from before token texts were kept: tokens are shown by number"
            )
        if self._kind == "train" and not self.records and not is_running(self.folder):
            said.append(f"{self.folder} keeps no completions (reroot train --keep-completions N)")
        return said

    def progress(self) -> Progress:
        """How far it is, as of the last look; whether it runs, as of now.

        Raises:
            RunFolderError: the journal of a training run is damaged.
        """
        running = is_running(self.folder)
        if self._kind == "train":
            new = new_lines(self.folder, self._steps_offset)
            self._steps_offset = new.offset
            for line in new.lines:
                if str(line.get("name", "")).startswith("step/"):
                    self._step, self._tokens = line["step"], line.get("tokens") or 0
            total = self.config.get("steps")
            return Progress(running, self._step, total, "step", None, self._tokens)
        passed = sum(r.passed for r in self.records)
        tokens = sum(r.cost["tokens"] for r in self.records if r.cost)
        return Progress(running, len(self.records), self._total(), "attempt", passed, tokens)

    def _total(self) -> int | None:
        """How many attempts there will be, where that is known (a diagnosis decides as it goes on)."""
        with reading_config(self.folder, self._kind):
            if self._kind == "run" and "problems" in self.config:
                return len(self.config["problems"])
            table = self.folder / PROBLEMS
            if self._planned is None and "granted" in self.config and table.exists():
                self._planned = planned_attempts(self.config, read_table(table, problem_schema()))
        return self._planned


def _no_attempts(path: Path, kind: object) -> str:
    parts = [p.name for p in sorted(path.iterdir()) if p.is_dir() and (p / JOURNAL).exists()]
    hint = f"; it has the folders {', '.join(parts)}" if parts else ""
    return f"{path} is of kind {kind!r}: attempts are read from folders of {', '.join(KINDS)}{hint}"
